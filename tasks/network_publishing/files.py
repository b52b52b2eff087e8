"""Put together what a published network consists of: weights, ONNX file, bundle, card."""

from collections.abc import Sequence

import torch

from matting.learned.maps import MapsNetwork
from storage.releases.reader import ReleaseReader
from storage.results.checkpoints import CONFIG, WEIGHTS, Checkpoint, checkpoint_prefix
from storage.results.csv_rows import to_csv
from storage.results.networks import CARD
from storage.results.onnx_files import seal_onnx
from storage.results.prediction_scores import MeanScore
from tasks.learning.load import load_network
from tasks.learning.onnx_network import export_onnx
from tasks.network_publishing.card import METRICS_TABLE, CardFacts, network_card, summary
from tasks.network_publishing.monai_bundle import bundle_files

ONNX = "model.onnx"


def network_files(
    name: str,
    checkpoint: Checkpoint,
    reader: ReleaseReader,
    scores: Sequence[MeanScore],
    *,
    license_: str,
    with_onnx: bool,
) -> dict[str, bytes]:
    """Return the files of a published network, by path below its folder.

    Args:
        name: Of the network.
        checkpoint: The trained network, in the store of the release.
        reader: The release on the partition that it was trained on.
        scores: Measured on the test split.
        license_: Of the weights; empty where nobody stated one.
        with_onnx: Whether to write an ONNX file, which needs its packages and about a minute.

    Raises:
        InputError: The ONNX file computes another result than torch.
    """
    config = checkpoint.config
    network = _as_maps(checkpoint)
    text = summary(config, checkpoint.label)
    store, prefix = reader.release.store, checkpoint_prefix(checkpoint.digest)
    card = CardFacts(name, checkpoint, reader, scores, license_, with_onnx, network.map_names)
    files = {
        **{name: store.get(f"{prefix}/{name}") for name in (CONFIG, WEIGHTS)},
        **bundle_files(config, network, name=name, license_=license_, description=text),
        METRICS_TABLE: to_csv(MeanScore, scores),
        CARD: network_card(card),
    }
    if with_onnx:
        files[ONNX] = seal_onnx(export_onnx(network), config)
    return files


def _as_maps(checkpoint: Checkpoint) -> MapsNetwork:
    """Return a checkpoint's network on the CPU, as other programs want it."""
    network = MapsNetwork(checkpoint.config.variant, checkpoint.config.auxiliary)
    network.network = load_network(checkpoint, torch.device("cpu"))
    return network.eval()

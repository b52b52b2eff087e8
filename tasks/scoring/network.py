"""Scores of trained networks, which need the CT alone: every nodule counts for them."""

from collections.abc import Sequence

from matting.learned.devices import pick_device
from matting.learned.network import MattingNetwork
from matting.learned.prediction import Prediction, predict
from storage.releases.reader import ReleaseReader
from storage.releases.release import Release
from storage.results.checkpoints import Checkpoint, checkpoint_prefix, read_checkpoint
from storage.results.scores import Score, write_nodule_scores
from storage.store import Store
from tasks.learning.load import load_network
from tasks.learning.train import intensity_range
from tasks.scoring.mattes import score_mattes
from tasks.scoring.predictions import ScoredNodule, score_matte


def score_network(
    store: Store,
    reader: ReleaseReader,
    nodule_id: str,
    checkpoint: Checkpoint,
    network: MattingNetwork,
) -> list[Score]:
    """Score a network on a nodule, and store the scores.

    Args:
        store: The store of the scores.
        reader: The release.
        nodule_id: The nodule.
        checkpoint: The network's checkpoint.
        network: The network itself, as `load_network` returned it.

    Returns:
        The scores.
    """
    alpha = _predict(reader, nodule_id, checkpoint, network).alpha
    scores = list(score_mattes(reader, nodule_id, {checkpoint.label: alpha}))
    write_nodule_scores(store, reader.version, checkpoint.digest, nodule_id, scores)
    return scores


def predict_nodules(
    release: Release, digest: str, nodule_ids: Sequence[str], device: str
) -> dict[str, Prediction]:
    """Return a network's predictions of nodules of a release.

    Args:
        release: The release.
        digest: The network's checkpoint.
        nodule_ids: The nodules.
        device: auto, cpu, cuda.

    Returns:
        Predictions by nodule.
    """
    reader = ReleaseReader(release)
    checkpoint = read_checkpoint(f"{release.store.url}/{checkpoint_prefix(digest)}")
    network = load_network(checkpoint, pick_device(device))
    found = {}
    for nodule_id in nodule_ids:
        found[nodule_id] = _predict(reader, nodule_id, checkpoint, network)
    return found


def score_as_prediction(
    reader: ReleaseReader,
    nodule_id: str,
    checkpoint: Checkpoint,
    network: MattingNetwork,
    prior: float,
) -> ScoredNodule:
    """Score a network on a nodule as `halosign score` scores a prediction; writes nothing.

    Args:
        reader: The release.
        nodule_id: The nodule.
        checkpoint: The network's checkpoint.
        network: The network itself, as `load_network` returned it.
        prior: The nodule's value of `tasks.scoring.mattes.trimap_priors`.
    """
    alpha = _predict(reader, nodule_id, checkpoint, network).alpha
    return score_matte(reader, nodule_id, alpha, prior)


def _predict(
    reader: ReleaseReader, nodule_id: str, checkpoint: Checkpoint, network: MattingNetwork
) -> Prediction:
    image = reader.read(nodule_id, "image")
    valid = reader.read(nodule_id, "validity") > 0
    pooling = checkpoint.config.training.pooling
    return predict(network, image, valid, intensity_range(reader), pooling=pooling)

"""Publishing a network: checkpoint -> scores of the held-out split -> folder to copy or upload."""

from collections.abc import Callable
from dataclasses import dataclass

from flows.engine.progress_bar import ProgressBar
from flows.score import read_priors
from matting.errors import InputError
from matting.learned.devices import pick_device
from storage.layout import network_prefix
from storage.releases.about import read_about
from storage.releases.reader import ReleaseReader
from storage.releases.release import Release
from storage.results.checkpoints import Checkpoint, checkpoint_prefix, read_checkpoint
from storage.results.networks import check_free, check_network_name, is_published, write_network
from storage.results.prediction_scores import MeanScore
from tasks.learning.load import load_network
from tasks.learning.onnx_network import INSTALL, missing_packages
from tasks.learning.train import TrainingJob, content_key_of
from tasks.network_publishing.files import ONNX, network_files
from tasks.scoring.network import score_as_prediction
from tasks.scoring.prediction_tables import tabulate_predictions

HELD_OUT = "test"
"""Split of the card's metrics: patients that training does not see."""


@dataclass(frozen=True, slots=True)
class Publication:
    """Under which name and license a network is published."""

    name: str
    license: str
    """Of the weights; empty where nobody states one."""


def read_publication(name: str | None, license_: str) -> Publication | None:
    """Check what a publisher typed; None where nothing is to be published.

    Raises:
        InputError: The name cannot be used, the license is no line of text, or it is without a
            name.
    """
    if name is None:
        if license_:
            raise InputError(
                "there is a license and nothing to publish",
                got=f"--license {license_}",
                expected="--license with --publish",
                remedy="Add --publish NAME, or leave --license out.",
            )
        return None
    check_network_name(name)
    return Publication(name, read_about(license_=license_).license)


def check_publication(job: TrainingJob, publication: Publication) -> None:
    """Raise InputError before a training where the network of another one has the name."""
    check_free(job.release.store, publication.name, content_key_of(job))


def publish_network(
    release: Release,
    digest: str,
    publication: Publication,
    *,
    device: str = "auto",
    say: Callable[[str], None] = lambda _: None,
) -> str:
    """Measure a trained network and publish it under a name; what is published stays as it is.

    Args:
        release: The release that it was trained on; the network goes to its store.
        digest: Of its checkpoint.
        publication: Name and license.
        device: Where it is measured, e.g. auto or cuda:1.
        say: Called with a line for the user where something is left out or done already.

    Returns:
        The folder.

    Raises:
        InputError: Another network has the name, or the ONNX file computes another result.
    """
    store = release.store
    name, license_ = publication.name, publication.license
    if is_published(store, name, digest, license_):
        say(f"{name} is published already, with the same network")
        return f"{store.url}/{network_prefix(name)}"
    missing = missing_packages()
    if missing:
        say(f"{ONNX} is left out, {', '.join(missing)} not installed: {INSTALL}")
    checkpoint = read_checkpoint(f"{store.url}/{checkpoint_prefix(digest)}")
    reader = ReleaseReader(release, checkpoint.config.partition)
    files = network_files(
        name,
        checkpoint,
        reader,
        measure_held_out(reader, checkpoint, device),
        license_=license_,
        with_onnx=not missing,
    )
    return write_network(store, name, files)


def measure_held_out(reader: ReleaseReader, checkpoint: Checkpoint, device: str) -> list[MeanScore]:
    """Return a network's means on the held-out split, as `halosign score` tabulates predictions.

    Args:
        reader: The release on the partition that it was trained on.
        checkpoint: The network.
        device: Where it is applied.
    """
    network = load_network(checkpoint, pick_device(device))
    priors = read_priors(reader)
    nodules = reader.nodules(HELD_OUT)
    scored = []
    with ProgressBar(f"measuring {checkpoint.label}", len(nodules)) as progress:
        for nodule in nodules:
            scored.append(score_as_prediction(reader, nodule, checkpoint, network, priors[nodule]))
            progress.advance()
    return tabulate_predictions(reader.release, scored)

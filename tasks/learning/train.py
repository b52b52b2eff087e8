"""Train a network on the crops of a release; its state and its checkpoint go to the store."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from matting.errors import InputError
from matting.learned.devices import pick_device, set_num_threads
from matting.learned.training import Trainer
from matting.parameters import MACHINE_SETTINGS, Auxiliary, TrainingSettings
from storage.records import (
    CheckpointConfig,
    JsonObject,
    stored_auxiliary,
)
from storage.releases.reader import ReleaseReader
from storage.releases.release import Release
from storage.results.checkpoints import (
    Checkpoint,
    checkpoint_prefix,
    find_checkpoint,
    read_checkpoint,
    training_id,
    write_checkpoint,
    write_training_end,
)
from storage.store import Store
from tasks.environment import code_facts
from tasks.learning.callbacks import StepInfo, TrainingCallbacks, TrainingSnapshot
from tasks.learning.crops import BatchLoader, TrainingCrops
from tasks.learning.negatives import Surroundings, negatives_sha256

LEARNING_VERSION = 3
"""Increased whenever the same job leads to other weights than before."""


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """A training: network, release and settings."""

    release: Release
    """A published release."""
    variant: str
    auxiliary: Auxiliary = "told"
    training: TrainingSettings = field(default_factory=TrainingSettings)
    device: str = "auto"
    """auto, cpu, cuda, cuda:1. It is not part of the training's id."""
    partition: int = 0
    """0 for the release's own splits; the paper repeats every training on others."""
    negatives: tuple[Surroundings, ...] = ()
    """CT around points without a nodule, on the network's voxels, to train on too."""


def training_id_of(job: TrainingJob) -> str:
    """Return the id of a job's training; raise InputError if the job cannot be run."""
    return training_id(content_key_of(job))


def content_key_of(job: TrainingJob) -> JsonObject:
    """Return all that determines a job's weights; raise InputError if the job cannot be run."""
    return _content_key(job, _open_release(job))


def learn(
    job: TrainingJob,
    *,
    resume: bool = True,
    on_step: Callable[[StepInfo], None] = lambda _: None,
    on_epoch: Callable[[TrainingSnapshot], None] = lambda _: None,
) -> Checkpoint:
    """Train a network on a release's training split, or resume an earlier training of the same job.

    Args:
        job: Network, release and settings.
        resume: False starts from scratch.
        on_step: Called after every step.
        on_epoch: Called with previews after every `look_every` epochs.

    Returns:
        The trained network, which is also in the store.

    Raises:
        InputError: The release has no training or test split, the variant or device does not exist,
            or the loss diverged.
    """
    reader = _open_release(job)
    store = job.release.store
    content_key = _content_key(job, reader)
    name = training_id(content_key)
    finished = find_checkpoint(store, name) if resume else None
    if finished:
        return read_checkpoint(f"{store.url}/{checkpoint_prefix(finished)}")
    device = pick_device(job.device)
    set_num_threads()
    range_hu = intensity_range(reader)
    with _crop_cache(store) as cache:
        nodules = reader.nodules("train")
        crops = TrainingCrops(job.release, nodules, job.training, job.negatives, cache)
        trainer = Trainer(job.variant, job.auxiliary, job.training, len(crops), device)
        callbacks = TrainingCallbacks(store, name, trainer, reader, range_hu, on_step, on_epoch)
        if resume:
            callbacks.restore()
        callbacks.record_threads()
        trainer.run(
            BatchLoader(crops, range_hu, device),
            crop_size=crops.crop_size,
            on_step=callbacks.on_step,
            on_epoch=callbacks.on_epoch,
        )
        config = _config(job, content_key, callbacks, crops)  # reads crops
    weights = {
        key: tensor.detach().cpu().numpy() for key, tensor in trainer.network.state_dict().items()
    }
    checkpoint = write_checkpoint(store, weights, config, {})
    write_training_end(store, name, checkpoint.digest)
    return checkpoint


def network_spacing_mm(release: Release, training: TrainingSettings) -> float:
    """Return the spacing of the voxels of a network that is trained on a release."""
    return float(release.manifest.recipe["resample"]["spacing_mm"] * training.pooling)


def intensity_range(reader: ReleaseReader) -> tuple[float, float]:
    """Return the HU that a release's recipe maps to 0..1."""
    low, high = reader.release.manifest.recipe["solver"]["intensity_range_hu"]
    return float(low), float(high)


@contextmanager
def _crop_cache(store: Store) -> Iterator[Path | None]:
    """Make a temporary folder for the volumes of a bucket, which every epoch reads again."""
    if "://" not in store.url:
        yield None
        return
    with TemporaryDirectory(prefix="halosign-crops-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _open_release(job: TrainingJob) -> ReleaseReader:
    """Open the job's release; raise InputError if it has no training or test split."""
    reader = ReleaseReader(job.release, job.partition)
    present = set(reader.splits.values())
    missing = [split for split in ("train", "test") if split not in present]
    if missing:
        raise InputError(
            f"release {job.release.version} cannot be learned from"
            + (f" on partition {job.partition}" if job.partition else ""),
            got=f"no nodule in {' and '.join(missing)}",
            expected="nodules to learn from (train) and others to measure on (test)",
            remedy="Publish more patients, or change the shares or split_seed of `release` in the "
            "recipe.",
        )
    return reader


def _content_key(job: TrainingJob, reader: ReleaseReader) -> JsonObject:
    """Return all that determines the weights; its digest is the training's id."""
    # Lists instead of tuples, as JSON has them: equal to the key read from the store
    training = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in asdict(job.training).items()
        if name not in MACHINE_SETTINGS
    }
    if job.training.pooling == 1:
        del training["pooling"]  # stored ids have none
    content_key: JsonObject = {
        "variant": job.variant,
        "auxiliary": stored_auxiliary(job.auxiliary),
        "training": training,
        "release": reader.version,
        "manifest_sha256": reader.release.manifest_sha256,
        "learning": LEARNING_VERSION,
    }
    # Stored ids have neither partition nor negatives where the training has none.
    if job.partition:
        content_key["partition"] = job.partition
    if job.negatives:
        content_key["negatives"] = negatives_sha256(job.negatives)
    return content_key


def _config(
    job: TrainingJob,
    content_key: JsonObject,
    callbacks: TrainingCallbacks,
    crops: TrainingCrops,
) -> CheckpointConfig:
    manifest = job.release.manifest
    trainer = callbacks.trainer
    device = trainer.device
    spacing_mm = network_spacing_mm(job.release, job.training)
    return CheckpointConfig(
        content_key=content_key,
        variant=job.variant,
        auxiliary=job.auxiliary,
        intensity_range_hu=callbacks.range_hu,
        spacing_mm=spacing_mm,
        release=job.release.version,
        synthetic=manifest.synthetic,
        matte_form=manifest.form_name,
        target=manifest.target,
        partition=job.partition,
        nodules=len(crops.nodules),
        negatives=len(crops.negatives),
        window_mm=crops.window_mm(spacing_mm),
        epochs=tuple(callbacks.rows),
        code=code_facts(),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        precision=trainer.precision,
        threads=tuple(callbacks.threads),
    )

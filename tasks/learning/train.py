"""Train a network on the crops of a release; its state and its checkpoint go to the store."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from matting.errors import InputError
from matting.learned.lesion import CORE_ALPHA
from matting.learned.prediction import predict
from matting.learned.training import Epoch, Trainer, TrainerState, pick_device, set_num_threads
from matting.measures.metrics import mse, sad
from matting.parameters import MACHINE_SETTINGS, Auxiliary, TrainingSettings
from storage.records import (
    CheckpointConfig,
    JsonObject,
    TrainerProgress,
    TrainingState,
    stored_auxiliary,
)
from storage.releases.reader import ReleaseReader
from storage.releases.release import Release
from storage.results.checkpoints import (
    Checkpoint,
    checkpoint_prefix,
    find_checkpoint,
    find_state,
    read_checkpoint,
    training_id,
    write_checkpoint,
    write_state,
    write_training_end,
)
from storage.store import Store
from tasks.environment import code_facts
from tasks.learning.crops import BatchLoader, TrainingCrops
from tasks.learning.negatives import Surroundings, negatives_sha256

logger = logging.getLogger("halosign")

LEARNING_VERSION = 3
"""Increased whenever the same job leads to other weights than before."""
SAVE_INTERVAL_S = 60.0
"""Seconds from one stored state to the next; the state is also stored after every epoch."""
PREVIEW_NODULES = 6
"""Nodules that are predicted as a whole after an epoch."""


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


@dataclass(frozen=True, slots=True)
class PreviewSample:
    """A nodule as the network predicts it after an epoch; every array is (z, y, x)."""

    nodule_id: str
    image_hu: NDArray[Any]
    truth: NDArray[np.float32]
    """The released matte."""
    predicted: NDArray[np.float32]
    union: NDArray[np.bool_]
    """Voxels that any reader marked."""


@dataclass(frozen=True, slots=True)
class TrainingSnapshot:
    """The metrics and previews of a training after an epoch."""

    training: str
    """Id of the training."""
    rows: list[JsonObject]
    """One for each epoch: losses, rate, and SAD and MSE of the preview nodules or None."""
    samples: list[PreviewSample]
    split: str
    """The samples' split: validation, or train if that is empty."""
    synthetic: bool


@dataclass(frozen=True, slots=True)
class StepInfo:
    """The progress of a training."""

    epoch: int
    epochs: int
    step: int
    steps: int
    """Over the whole training."""


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
    with _crop_cache(store) as cache:
        nodules = reader.nodules("train")
        crops = TrainingCrops(job.release, nodules, job.training, job.negatives, cache)
        trainer = Trainer(job.variant, job.auxiliary, job.training, len(crops), device)
        callbacks = _TrainingCallbacks(store, name, trainer, reader, on_step, on_epoch)
        if resume:
            callbacks.restore()
        callbacks.record_threads()
        trainer.run(
            BatchLoader(crops, intensity_range(reader), device),
            crop_size=crops.crop_size,
            on_step=callbacks.on_step,
            on_epoch=callbacks.on_epoch,
        )
    weights = {
        key: tensor.detach().cpu().numpy() for key, tensor in trainer.network.state_dict().items()
    }
    config = _config(job, content_key, callbacks, crops)
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


class _TrainingCallbacks:
    """Callbacks of a trainer: store its state, report progress, predict preview nodules."""

    def __init__(
        self,
        store: Store,
        name: str,
        trainer: Trainer,
        reader: ReleaseReader,
        on_step: Callable[[StepInfo], None],
        on_epoch: Callable[[TrainingSnapshot], None],
    ) -> None:
        self.store = store
        self.name = name
        self.trainer = trainer
        self.reader = reader
        self.report_step = on_step
        self.report_epoch = on_epoch
        self.rows: list[JsonObject] = []
        self.saved_at = self.epoch_started_at = time.monotonic()
        self.threads: list[int] = []
        """Threads of the CPU, one number for each time that it changed."""
        self.split, self.preview_nodules = _preview_nodules(reader)

    def restore(self) -> None:
        """Restore the stored state of the training, if there is one."""
        stored = find_state(self.store, self.name)
        if stored is not None:
            tensors, state = stored
            self.rows = state.rows
            self.threads = state.threads
            # The arrays are views of one read-only buffer; torch needs arrays of its own.
            own = {key: torch.from_numpy(values.copy()) for key, values in tensors.items()}
            progress = state.trainer
            self.trainer.restore(
                TrainerState(
                    own,
                    steps=progress.steps,
                    updates=progress.steps if progress.updates is None else progress.updates,
                    crops=progress.crops,
                    loss_sums=progress.loss_sums,
                    history=[Epoch(**epoch) for epoch in progress.history],
                    scaler=progress.scaler,
                )
            )

    def record_threads(self) -> None:
        """Record the number of CPU threads; warn if the training ran with another number before."""
        threads = torch.get_num_threads()
        if self.trainer.device.type != "cpu" or self.threads[-1:] == [threads]:
            return
        if self.threads:
            logger.warning(
                "training %s continues with %d CPU threads after %d: its weights will differ in "
                "their last bits from those of an uninterrupted training. Set OMP_NUM_THREADS=%d "
                "to get the same ones.",
                *(self.name, threads, self.threads[-1], self.threads[-1]),
            )
        self.threads.append(threads)

    def on_step(self, trainer: Trainer) -> None:
        """Report the step, and store the state if the last one is old."""
        epochs = trainer.training.epochs
        steps = trainer.steps_per_epoch * epochs
        self.report_step(StepInfo(len(trainer.history) + 1, epochs, trainer.steps, steps))
        if time.monotonic() - self.saved_at >= SAVE_INTERVAL_S:
            self._save()

    def on_epoch(self, trainer: Trainer) -> None:
        """Predict the preview nodules if they are due, store the state, report the epoch."""
        seconds = round(time.monotonic() - self.epoch_started_at, 2)
        every = trainer.training.look_every
        due = every > 0 and (trainer.finished or len(trainer.history) % every == 0)
        samples = list(self._samples(trainer)) if due else []
        self.rows.append(
            {**asdict(trainer.history[-1]), **_mean_errors(samples), "seconds": seconds}
        )
        self._save()
        if due:
            self._warn_of_nothing_found(samples)
            synthetic = self.reader.release.manifest.synthetic
            self.report_epoch(
                TrainingSnapshot(self.name, self.rows, samples, self.split, synthetic)
            )
        self.epoch_started_at = time.monotonic()

    def _warn_of_nothing_found(self, samples: list[PreviewSample]) -> None:
        """Warn of a network whose mattes are empty: most voxels are, and it may learn no more."""
        if all(sample.predicted.max() < CORE_ALPHA for sample in samples):
            logger.warning(
                "training %s: after epoch %d the network finds no lesion in any of %d %s nodules. "
                "If this is so at the end, train longer, or with another training.seed.",
                *(self.name, len(self.rows), len(samples), self.split),
            )

    def _samples(self, trainer: Trainer) -> Iterator[PreviewSample]:
        range_hu = intensity_range(self.reader)
        for nodule_id in self.preview_nodules:
            image = self.reader.read(nodule_id, "image")
            valid = self.reader.read(nodule_id, "validity") > 0
            predicted = predict(
                trainer.network,
                image,
                valid,
                range_hu,
                precision=trainer.training.precision,
                pooling=trainer.training.pooling,
            )
            union = np.asarray(self.reader.read(nodule_id, "readers").any(axis=0))
            yield PreviewSample(
                nodule_id, image, self.reader.read(nodule_id, "alpha"), predicted.alpha, union
            )
        trainer.network.train()

    def _save(self) -> None:
        state = self.trainer.state()
        tensors = {key: tensor.detach().cpu().numpy() for key, tensor in state.tensors.items()}
        progress = TrainerProgress(
            steps=state.steps,
            updates=state.updates,
            loss_sums=state.loss_sums,
            crops=state.crops,
            history=[asdict(epoch) for epoch in state.history],
            scaler=state.scaler,
        )
        write_state(
            self.store, self.name, tensors, TrainingState(progress, self.rows, self.threads)
        )
        self.saved_at = time.monotonic()


def _mean_errors(samples: list[PreviewSample]) -> dict[str, float | None]:
    """Return SAD and MSE over whole patches, averaged over nodules; None without samples."""
    if not samples:
        return {"sad": None, "mse": None}
    pairs = [
        (sample.predicted, sample.truth, np.ones(sample.truth.shape, bool)) for sample in samples
    ]
    return {
        "sad": float(np.mean([sad(*pair) for pair in pairs])),
        "mse": float(np.mean([mse(*pair) for pair in pairs])),
    }


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


def _preview_nodules(reader: ReleaseReader) -> tuple[str, list[str]]:
    """Choose a few nodules of the validation split, or of the training split if that is empty."""
    split = "validation" if "validation" in reader.splits.values() else "train"
    nodules = reader.nodules(split)
    count = min(PREVIEW_NODULES, len(nodules))
    indices = np.linspace(0, len(nodules) - 1, count).round().astype(int)
    return split, [nodules[index] for index in indices]


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
    callbacks: _TrainingCallbacks,
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
        intensity_range_hu=intensity_range(callbacks.reader),
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

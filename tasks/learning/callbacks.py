"""What happens while a network is trained: its state is stored, a few nodules are predicted."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from matting.learned.lesion import CORE_ALPHA
from matting.learned.prediction import predict
from matting.learned.training import Epoch, Trainer, TrainerState
from matting.measures.metrics import mse, sad
from storage.records import JsonObject, TrainerProgress, TrainingState
from storage.releases.reader import ReleaseReader
from storage.results.checkpoints import find_state, write_state
from storage.store import Store

logger = logging.getLogger("halosign")

SAVE_INTERVAL_S = 60.0
"""Seconds from one stored state to the next; the state is also stored after every epoch."""
PREVIEW_NODULES = 6
"""Nodules that are predicted as a whole after an epoch."""


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


class TrainingCallbacks:
    """Callbacks of a trainer: store its state, report progress, predict preview nodules."""

    def __init__(
        self,
        store: Store,
        name: str,
        trainer: Trainer,
        reader: ReleaseReader,
        range_hu: tuple[float, float],
        on_step: Callable[[StepInfo], None],
        on_epoch: Callable[[TrainingSnapshot], None],
    ) -> None:
        self.store = store
        self.name = name
        self.trainer = trainer
        self.reader = reader
        self.range_hu = range_hu
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
        for nodule_id in self.preview_nodules:
            image = self.reader.read(nodule_id, "image")
            valid = self.reader.read(nodule_id, "validity") > 0
            predicted = predict(
                trainer.network,
                image,
                valid,
                self.range_hu,
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


def _preview_nodules(reader: ReleaseReader) -> tuple[str, list[str]]:
    """Choose a few nodules of the validation split, or of the training split if that is empty."""
    split = "validation" if "validation" in reader.splits.values() else "train"
    nodules = reader.nodules(split)
    count = min(PREVIEW_NODULES, len(nodules))
    indices = np.linspace(0, len(nodules) - 1, count).round().astype(int)
    return split, [nodules[index] for index in indices]

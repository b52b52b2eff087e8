"""Learning from a release: its crops go to a trainer, the trainer's state and the network it ends in to the store."""

import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from matting.errors import InputError
from matting.learned.batches import TENSORS, Batch, make_batch, random_flip_rotate
from matting.learned.network import STRIDE
from matting.learned.prediction import predict
from matting.learned.training import Trainer, TrainerState, pick_device, set_num_threads
from matting.measures.metrics import mse, sad
from matting.parameters import TrainingSettings
from storage.releases.reader import ReleaseReader
from storage.releases.torch_dataset import ReleaseDataset
from storage.results.checkpoints import (
    Checkpoint,
    checkpoint_prefix,
    close_training,
    find_checkpoint,
    load_state,
    read_checkpoint,
    save_state,
    training_id,
    write_checkpoint,
)
from storage.store import Store, canonical_json, open_store
from tasks.environment import code_facts

logger = logging.getLogger("halosign")

LEARNING_VERSION = 2
"""Raised whenever the same order gives other weights than before."""
SAVE_INTERVAL_S = 60.0
"""A kill costs at most this much of an epoch; at every epoch's end the state is stored anyway."""
PREVIEW_NODULES = 6
"""Nodules that are predicted whole after each epoch."""
MAX_LOADER_PROCESSES = 8
"""Processes that read crops for a GPU; a CPU that trains has none to spare."""


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """What to train, on what."""

    store_url: str
    version: str
    """A published release."""
    variant: str
    auxiliary: bool = True
    training: TrainingSettings = field(default_factory=TrainingSettings)
    device: str = "auto"
    """Where to compute: auto, cpu, cuda, cuda:1. It names neither the training nor its network."""
    partition: int = 0
    """0 for the release's own splits; the paper repeats every training on others."""


@dataclass(frozen=True, slots=True)
class PreviewSample:
    """One nodule as the network sees it now; every array is (z, y, x)."""

    nodule_id: str
    image_hu: NDArray[Any]
    truth: NDArray[np.float32]
    """The released matte."""
    predicted: NDArray[np.float32]
    union: NDArray[np.bool_]
    """What any reader marked."""


@dataclass(frozen=True, slots=True)
class TrainingSnapshot:
    """What there is to look at after an epoch."""

    training: str
    """Id of the training."""
    rows: list[dict[str, Any]]
    """One for each epoch: losses, rate, SAD and MSE of the nodules predicted whole, None where none was."""
    samples: list[PreviewSample]
    split: str
    """Where the samples come from: validation, or train where there is none."""
    stand_in: bool


@dataclass(frozen=True, slots=True)
class StepInfo:
    """How far a training is."""

    epoch: int
    epochs: int
    step: int
    steps: int
    """Over the whole training."""


def training_id_of(order: TrainingJob) -> str:
    """Give the id of the training that an order asks for; raises InputError where it cannot be carried out."""
    return training_id(_decides(order, _reader(order)))


def learn(
    order: TrainingJob,
    *,
    resume: bool = True,
    after_step: Callable[[StepInfo], None] = lambda _: None,
    after_epoch: Callable[[TrainingSnapshot], None] = lambda _: None,
) -> Checkpoint:
    """Train a network on a release's training split, or go on where a training of the same order stands.

    Args:
        order: What to train, on what.
        resume: False begins anew.
        after_step: Told of every step.
        after_epoch: Shown what the network can do after every epoch.

    Raises:
        InputError: The release has no training or test split, the variant or device is not there, or the loss diverged.
    """
    reader, store = _reader(order), open_store(order.store_url)
    decides = _decides(order, reader)
    name = training_id(decides)
    ended = find_checkpoint(store, name) if resume else None
    if ended:
        return read_checkpoint(f"{store.url}/{checkpoint_prefix(ended)}")
    crops = ReleaseDataset(
        order.store_url,
        order.version,
        reader.nodules("train"),
        crop_zyx=order.training.crop_zyx,
        seed=order.training.seed,
        focus=order.training.focus,
        fitted=STRIDE if order.training.fitted else 0,
    )
    device = pick_device(order.device)
    set_num_threads()
    trainer = Trainer(order.variant, order.auxiliary, order.training, len(crops), device)
    course = _TrainingCallbacks(store, name, trainer, reader, after_step, after_epoch)
    if resume:
        course.resume()
    course.note_threads()
    range_hu = intensity_range(reader)
    trainer.run(
        _Loader(crops, order.training, range_hu, device),
        after_step=course.step,
        after_epoch=course.epoch,
    )
    weights = {
        key: tensor.detach().cpu().numpy() for key, tensor in trainer.network.state_dict().items()
    }
    checkpoint = write_checkpoint(store, weights, _config(decides, reader, course), {})
    close_training(store, name, checkpoint.digest)
    return checkpoint


def intensity_range(reader: ReleaseReader) -> tuple[float, float]:
    """Give the HU that a release's recipe maps to 0..1."""
    low, high = reader.manifest["recipe"]["solver"]["intensity_range_hu"]
    return float(low), float(high)


class _TrainingCallbacks:
    """Follows a trainer: stores where it stands, and lets people look."""

    def __init__(
        self,
        store: Store,
        name: str,
        trainer: Trainer,
        reader: ReleaseReader,
        after_step: Callable[[StepInfo], None],
        after_epoch: Callable[[TrainingSnapshot], None],
    ) -> None:
        self.store, self.name, self.trainer, self.reader = store, name, trainer, reader
        self.tell, self.show = after_step, after_epoch
        self.rows: list[dict[str, Any]] = []
        self.saved_at = self.began_at = time.monotonic()
        self.crops = 0
        """Computed by this process since the last epoch."""
        self.threads: list[int] = []
        """How many a CPU computed with, one number for each time that it changed."""
        self.split, self.looked_at = _to_look_at(reader)

    def resume(self) -> None:
        """Go back to where the stored state was taken, if there is one."""
        stored = load_state(self.store, self.name)
        if stored is not None:
            tensors, facts = stored
            self.rows, self.threads = facts["rows"], facts["threads"]
            # The arrays are views of one read-only buffer; torch wants its own.
            own = {key: torch.from_numpy(values.copy()) for key, values in tensors.items()}
            self.trainer.restore(TrainerState(own, facts["trainer"]))

    def note_threads(self) -> None:
        """Note how many threads compute; say so where a CPU did with another number before."""
        threads = torch.get_num_threads()
        if self.trainer.device.type != "cpu" or self.threads[-1:] == [threads]:
            return
        if self.threads:
            logger.warning(
                "training %s goes on with %d CPU threads after %d: its weights will differ in their last bits from an "
                "undisturbed training's. Set OMP_NUM_THREADS=%d to end in the same ones.",
                *(self.name, threads, self.threads[-1], self.threads[-1]),
            )
        self.threads.append(threads)

    def step(self, trainer: Trainer) -> None:
        """Store the state now and then."""
        self.crops = trainer.seen
        steps, epochs = trainer.steps_per_epoch * trainer.training.epochs, trainer.training.epochs
        self.tell(StepInfo(len(trainer.history) + 1, epochs, trainer.steps, steps))
        if time.monotonic() - self.saved_at >= SAVE_INTERVAL_S:
            self._save()

    def epoch(self, trainer: Trainer) -> None:
        """Predict a few nodules whole, show them, store the state."""
        seconds = round(time.monotonic() - self.began_at, 2)
        every = trainer.training.look_every
        due = every > 0 and (trainer.finished or len(trainer.history) % every == 0)
        samples = list(self._samples(trainer)) if due else []
        self.rows.append(
            {**asdict(trainer.history[-1]), **_mean_errors(samples), "seconds": seconds}
        )
        self._save()
        if due:
            stand_in = bool(self.reader.manifest["stand_in"])
            self.show(TrainingSnapshot(self.name, self.rows, samples, self.split, stand_in))
        self.began_at = time.monotonic()

    def _samples(self, trainer: Trainer) -> Iterator[PreviewSample]:
        range_hu = intensity_range(self.reader)
        for nodule_id in self.looked_at:
            image, valid = (
                self.reader.read(nodule_id, "image"),
                self.reader.read(nodule_id, "validity") > 0,
            )
            predicted = predict(
                trainer.network, image, valid, range_hu, precision=trainer.training.precision
            )
            union = np.asarray(self.reader.read(nodule_id, "readers").any(axis=0))
            yield PreviewSample(
                nodule_id, image, self.reader.read(nodule_id, "alpha"), predicted.alpha, union
            )
        trainer.network.train()

    def _save(self) -> None:
        state = self.trainer.state()
        tensors = {key: tensor.detach().cpu().numpy() for key, tensor in state.tensors.items()}
        save_state(
            self.store,
            self.name,
            tensors,
            {"trainer": state.facts, "rows": self.rows, "threads": self.threads},
        )
        self.saved_at = time.monotonic()


def _mean_errors(samples: list[PreviewSample]) -> dict[str, float | None]:
    """Give SAD and MSE over whole patches, averaged over nodules; None where none was looked at."""
    if not samples:
        return {"sad": None, "mse": None}
    pairs = [
        (sample.predicted, sample.truth, np.ones(sample.truth.shape, bool)) for sample in samples
    ]
    return {
        "sad": float(np.mean([sad(*pair) for pair in pairs])),
        "mse": float(np.mean([mse(*pair) for pair in pairs])),
    }


class _Crops(Dataset[dict[str, Tensor]]):
    """Crops by epoch and nodule, turned if the training asks for it."""

    def __init__(self, crops: ReleaseDataset, training: TrainingSettings) -> None:
        self.crops, self.training = crops, training

    def __getitem__(self, place: tuple[int, int]) -> dict[str, Tensor]:
        epoch, index = place
        self.crops.set_epoch(epoch)
        crop = self.crops[index]
        if self.training.symmetries:
            return random_flip_rotate(crop, self.training.seed, epoch, index)
        return {name: crop[name] for name in TENSORS}


class _Loader:
    """Reads crops for the trainer, for a GPU in processes of their own that live as long as the training."""

    def __init__(
        self,
        crops: ReleaseDataset,
        training: TrainingSettings,
        range_hu: tuple[float, float],
        device: torch.device,
    ) -> None:
        on_gpu = device.type == "cuda"
        processes = min(MAX_LOADER_PROCESSES, torch.get_num_threads()) if on_gpu else 0
        self.range_hu = range_hu
        self.parts: list[list[tuple[int, int]]] = []
        self.loader = DataLoader(
            _Crops(crops, training),
            # A list of its own that is filled anew for every epoch, so that the processes can stay
            batch_sampler=self.parts,
            num_workers=processes,
            pin_memory=on_gpu,
            persistent_workers=processes > 0,
            multiprocessing_context="spawn" if processes else None,
        )

    def __call__(self, epoch: int, parts: list[list[int]]) -> Iterable[Batch]:
        self.parts[:] = [[(epoch, nodule) for nodule in part] for part in parts]
        for crops in self.loader:
            yield make_batch(crops, self.range_hu)


def _reader(order: TrainingJob) -> ReleaseReader:
    """Open the release and see that it can be learned from."""
    reader = ReleaseReader(order.store_url, order.version, partition=order.partition)
    present = set(reader.splits.values())
    missing = [split for split in ("train", "test") if split not in present]
    if missing:
        raise InputError(
            f"release {order.version} cannot be learned from"
            + (f" on partition {order.partition}" if order.partition else ""),
            got=f"no nodule in {' and '.join(missing)}",
            expected="nodules to learn from (train) and others to measure on (test)",
            remedy="Publish more patients, or choose other shares or another split_seed in the recipe's `release`.",
        )
    return reader


def _to_look_at(reader: ReleaseReader) -> tuple[str, list[str]]:
    """Choose a few nodules of the validation split, or of the training split where there is none."""
    split = "validation" if "validation" in reader.splits.values() else "train"
    nodules = reader.nodules(split)
    places = (
        np.linspace(0, len(nodules) - 1, min(PREVIEW_NODULES, len(nodules))).round().astype(int)
    )
    return split, [nodules[place] for place in places]


def _decides(order: TrainingJob, reader: ReleaseReader) -> dict[str, Any]:
    decides: dict[str, Any] = {
        "variant": order.variant,
        "auxiliary": order.auxiliary,
        # As JSON, so that it is the same whether it was read back or not
        "training": {
            key: list(v) if isinstance(v, tuple) else v for key, v in asdict(order.training).items()
        },
        "release": reader.version,
        "manifest_sha256": hashlib.sha256(canonical_json(reader.manifest)).hexdigest(),
        "learning": LEARNING_VERSION,
    }
    # Trainings on a release's own splits keep the names that they had before there were others.
    return decides | ({"partition": order.partition} if order.partition else {})


def _config(
    decides: dict[str, Any], reader: ReleaseReader, course: _TrainingCallbacks
) -> dict[str, Any]:
    recipe = reader.manifest["recipe"]
    device = course.trainer.device
    return {
        "decides": decides,
        "variant": decides["variant"],
        "auxiliary": decides["auxiliary"],
        "intensity_range_hu": list(intensity_range(reader)),
        "spacing_mm": recipe["resample"]["spacing_mm"],
        "release": reader.version,
        "stand_in": bool(reader.manifest["stand_in"]),
        "partition": decides.get("partition", 0),
        "nodules": course.trainer.nodules,
        "epochs": course.rows,
        "code": code_facts(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "precision": course.trainer.precision,
        "threads": course.threads,
    }

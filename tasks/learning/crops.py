"""The crops of a training: of a release's nodules, and of CT without a nodule."""

import logging
import shutil
from collections.abc import Iterable, Sequence
from functools import partial
from math import prod
from pathlib import Path
from statistics import median
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from matting.geometry.grid import Shape
from matting.learned.batches import (
    NEGATIVE_STREAM,
    Batch,
    make_batch,
    pool_crop,
    random_flip_rotate,
)
from matting.learned.network import STRIDE
from matting.parameters import TrainingSettings
from storage.releases.release import Release
from storage.releases.torch_dataset import ReleaseDataset
from tasks.learning.negatives import Surroundings, cut_negative

logger = logging.getLogger("halosign")

MAX_LOADER_PROCESSES = 8
"""Upper limit of the processes that read crops for a GPU; a CPU that trains reads them itself."""
SHARED_MEMORY = Path("/dev/shm")
"""Where these processes leave their batches; containers often have 64 MB there."""
BATCHES_AHEAD = 2
"""Batches that each of them may have left there."""
BYTES_A_VOXEL = 9
"""Of a batch: HU as int16, mattes in single precision, three masks."""
BYTES_A_POOLED_VOXEL = 11
"""The same with HU in single precision, since means are no whole numbers."""


class TrainingCrops(Dataset[dict[str, Tensor]]):
    """Crops by (epoch, index), on the network's voxels, flipped and rotated if asked for.

    Each epoch has one crop of each nodule, and after these one around each point without a nodule.
    """

    def __init__(
        self,
        release: Release,
        nodules: Sequence[str],
        training: TrainingSettings,
        negatives: Sequence[Surroundings] = (),
        cache: Path | None = None,
    ) -> None:
        """Take the crops of nodules and of the surroundings of other points.

        `cache` is as in `storage.releases.torch_dataset.ReleaseDataset`.
        """
        self.nodules = ReleaseDataset(
            release,
            nodules,
            cache=cache,
            crop_zyx=[size * training.pooling for size in training.crop_zyx],
            seed=training.seed,
            focus=training.focus,
            fitted=STRIDE * training.pooling if training.fitted else 0,
        )
        self.negatives = negatives
        self.training = training

    def __len__(self) -> int:
        """Return the number of crops in an epoch."""
        return len(self.nodules) + len(self.negatives)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        """Read crop number `index` of an epoch."""
        epoch, index = key
        if index < len(self.nodules):
            self.nodules.set_epoch(epoch)
            crop = pool_crop(self.nodules[index], self.training.pooling)
        else:
            crop = self._negative(epoch, index)
        if self.training.pooling == 1:  # whole HU: half of what would be copied to a GPU
            crop["image"] = crop["image"].short()
        if self.training.symmetries:
            return random_flip_rotate(crop, self.training.seed, epoch, index)
        return crop

    def _negative(self, epoch: int, index: int) -> dict[str, Tensor]:
        """Cut a crop without a nodule to the size of a nodule's, another one in each epoch."""
        around = self.negatives[index - len(self.nodules)]
        like, generator = self._draw(epoch, index)
        measured, crop = (self._on_network(shape) for shape in self.nodules.shapes(like))
        return cut_negative(around, measured, crop, generator)

    def crop_size(self, epoch: int, index: int) -> Shape:
        """Return the size of crop number `index` of an epoch, in the network's voxels."""
        if not self.training.fitted:  # all have one size, and no nodule is read
            return self.training.crop_zyx
        like = index if index < len(self.nodules) else self._draw(epoch, index)[0]
        return self._on_network(self.nodules.shapes(like)[1])

    def _draw(self, epoch: int, index: int) -> tuple[int, np.random.Generator]:
        """Draw the nodule whose size a crop without one has, and return the generator."""
        generator = np.random.default_rng([self.training.seed, epoch, index, NEGATIVE_STREAM])
        return int(generator.integers(len(self.nodules))), generator

    def window_mm(self, spacing_mm: float) -> tuple[float, float, float]:
        """Return the median sides (z, y, x) of the nodules' crops.

        Args:
            spacing_mm: Of the network's voxels.
        """
        crops = [self.crop_size(0, nodule) for nodule in range(len(self.nodules))]
        z, y, x = (float(median(sides)) * spacing_mm for sides in zip(*crops, strict=True))
        return z, y, x

    def _on_network(self, shape: Shape) -> Shape:
        z, y, x = (-(-size // self.training.pooling) for size in shape)
        return z, y, x


class BatchLoader:
    """Batches for the trainer, read in this process for a CPU and in worker processes for a GPU."""

    def __init__(
        self, crops: TrainingCrops, range_hu: tuple[float, float], device: torch.device
    ) -> None:
        """Load batches of crops for a device."""
        on_gpu = device.type == "cuda"
        processes = _count_processes(crops.training) if on_gpu else 0
        self.parts: list[list[tuple[int, int]]] = []
        self.loader: DataLoader[dict[str, Tensor]] = DataLoader(
            crops,
            # In the processes that read, so that the one that trains only copies to the GPU
            collate_fn=partial(_collate, range_hu=range_hu),
            # One list, refilled for every epoch, so that the worker processes persist
            batch_sampler=self.parts,
            num_workers=processes,
            prefetch_factor=BATCHES_AHEAD if processes else None,
            pin_memory=on_gpu,
            persistent_workers=processes > 0,
            multiprocessing_context="spawn" if processes else None,
        )

    def __call__(self, epoch: int, parts: list[list[int]]) -> Iterable[Batch]:
        """Yield one batch for each list of crops of an epoch."""
        self.parts[:] = [[(epoch, index) for index in part] for part in parts]
        yield from cast(Iterable[Batch], self.loader)


def _count_processes(training: TrainingSettings) -> int:
    """Return how many processes can read crops: one a core, as far as shared memory allows."""
    wanted = min(MAX_LOADER_PROCESSES, torch.get_num_threads())
    if not SHARED_MEMORY.exists():
        return wanted
    bytes_a_voxel = BYTES_A_VOXEL if training.pooling == 1 else BYTES_A_POOLED_VOXEL
    batch_bytes = training.at_once * prod(training.crop_zyx) * bytes_a_voxel
    free = shutil.disk_usage(SHARED_MEMORY).free
    possible = min(wanted, free // (BATCHES_AHEAD * batch_bytes))
    if possible < wanted:
        needed_mb = wanted * BATCHES_AHEAD * batch_bytes / 1e6
        logger.warning(
            "%s has %.0f MB, which hold the batches of %d processes: crops are read by that many "
            "instead of %d (0: by the training itself). Give a container %.0f MB (--shm-size).",
            *(SHARED_MEMORY, free / 1e6, possible, wanted, needed_mb),
        )
    return possible


def _collate(crops: list[dict[str, Tensor]], range_hu: tuple[float, float]) -> Batch:
    return make_batch(default_collate(crops), range_hu)

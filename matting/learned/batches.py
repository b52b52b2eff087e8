"""Batches from the crops of a release: intensities, random symmetries, random order.

Random numbers depend on seed, epoch and index alone. No generator has a state to store: a training
that is resumed draws the same numbers as one that was never interrupted.
"""

from collections.abc import Mapping
from itertools import permutations
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool3d

from matting.learned.losses import LossTargets

TENSORS = ("image", "alpha", "overlap", "union", "valid")
"""Tensors of a crop, each (1, z, y, x): HU, released matte, intersection and union of the readers'
masks, measured voxels."""
_ORDER_STREAM = 0
_SYMMETRY_STREAM = 1
NEGATIVE_STREAM = 2
"""Streams of random numbers, part of the seed; the last one draws crops without a nodule."""


class Batch(NamedTuple):
    """Inputs and targets of the network."""

    image_hu: Tensor
    """(n, 1, z, y, x): CT in HU, int16 where the numbers are whole, or single precision."""
    targets: LossTargets
    range_hu: tuple[float, float]
    """HU mapped linearly to intensities 0..1 and clipped."""

    @property
    def image(self) -> Tensor:
        """(n, 1, z, y, x): CT intensities, 0..1, computed where the batch is."""
        return to_intensity(self.image_hu.float(), self.range_hu)

    def split(self, size: int) -> "list[Batch]":
        """Return parts of at most `size` nodules."""
        tensors = (torch.split(tensor, size) for tensor in (self.image_hu, *self.targets))
        return [
            Batch(image_hu, LossTargets(*targets), self.range_hu)
            for image_hu, *targets in zip(*tensors, strict=True)
        ]

    def to(self, device: torch.device) -> "Batch":
        """Copy everything to a device."""
        tensors = (self.image_hu, *self.targets)
        image_hu, *targets = (tensor.to(device, non_blocking=True) for tensor in tensors)
        return Batch(image_hu, LossTargets(*targets), self.range_hu)


def make_batch(crops: Mapping[str, Tensor], range_hu: tuple[float, float]) -> Batch:
    """Return a batch made of collated crops.

    Args:
        crops: TENSORS by name, each (n, 1, z, y, x).
        range_hu: HU mapped linearly to intensities 0..1 and clipped.

    Returns:
        Inputs and targets.
    """
    targets = LossTargets(crops["alpha"], crops["overlap"], crops["union"], crops["valid"])
    return Batch(crops["image"], targets, range_hu)


def pool_crop(crop: Mapping[str, Tensor], pooling: int) -> dict[str, Tensor]:
    """Average blocks of voxels into one.

    Args:
        crop: TENSORS by name, each (1, z, y, x), of sizes that are multiples of `pooling`; other
            entries are dropped.
        pooling: Side of a block.

    Returns:
        TENSORS by name. A mask holds the blocks of which it held half or more.
    """
    means = {name: avg_pool3d(crop[name].float(), pooling) for name in TENSORS}
    return {name: m >= 0.5 if crop[name].dtype == torch.bool else m for name, m in means.items()}


def to_intensity(image_hu: Tensor, range_hu: tuple[float, float]) -> Tensor:
    """Scale HU linearly from `range_hu` to intensities 0..1, clipped."""
    low, high = range_hu
    return ((image_hu - low) / (high - low)).clamp(0.0, 1.0)


def draw_order(nodules: int, seed: int, epoch: int) -> list[int]:
    """Return the order of the nodules in an epoch, a permutation."""
    return [
        int(n) for n in np.random.default_rng([seed, epoch, _ORDER_STREAM]).permutation(nodules)
    ]


def random_flip_rotate(
    crop: Mapping[str, Tensor], seed: int, epoch: int, index: int
) -> dict[str, Tensor]:
    """Flip and rotate a crop by right angles, all of its tensors alike.

    Any axis may be flipped, and axes of the same size may be exchanged: for a cube these are all 48
    symmetries, half of them rotations and half of them reflections.

    Args:
        crop: TENSORS by name, each (1, z, y, x); other entries are dropped.
        seed: The training's seed.
        epoch: Counted from 0.
        index: The nodule's index in the data set.

    Returns:
        TENSORS by name.
    """
    axes, flips = draw_symmetry(tuple(crop["image"].shape[1:]), seed, epoch, index)
    return {name: crop[name].permute(axes).flip(flips).contiguous() for name in TENSORS}


def draw_symmetry(
    shape: tuple[int, ...], seed: int, epoch: int, index: int
) -> tuple[tuple[int, ...], list[int]]:
    """Draw a symmetry of a volume.

    Args:
        shape: The volume's, (z, y, x).
        seed: The training's seed.
        epoch: Counted from 0.
        index: The nodule's index in the data set.

    Returns:
        The order of axes, for `permute` on (1, z, y, x), and the axes to flip after it.
    """
    generator = np.random.default_rng([seed, epoch, index, _SYMMETRY_STREAM])
    orders = [
        order
        for order in permutations(range(3))
        if all(shape[a] == shape[b] for a, b in enumerate(order))
    ]
    order = orders[int(generator.integers(len(orders)))]
    flips = [axis + 1 for axis in range(3) if generator.random() < 0.5]
    return (0, *(axis + 1 for axis in order)), flips

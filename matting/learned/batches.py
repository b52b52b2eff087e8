"""From the crops of a release to batches: intensities, symmetries, order.

Chance comes from seed, epoch and index alone. So nothing need be remembered of it: whoever continues a training draws
what the first would have drawn.
"""

from collections.abc import Mapping
from itertools import permutations
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from matting.learned.losses import LossTargets

TENSORS = ("image", "alpha", "overlap", "union", "valid")
"""What a crop holds, each (1, z, y, x): HU, released matte, what all and what any readers marked, what is measured."""
_ORDER, _SYMMETRY = 0, 1
"""Tell streams of chance apart."""


class Batch(NamedTuple):
    """What the network sees and what it should say."""

    image: Tensor
    """(n, 1, z, y, x): CT intensities, 0..1."""
    targets: LossTargets

    def to(self, device: torch.device, layout: torch.memory_format) -> "Batch":
        """Bring everything to a device, the image in the order that the network wants."""
        moved = [tensor.to(device, non_blocking=True) for tensor in self.targets]
        image = self.image.to(device, non_blocking=True, memory_format=layout)
        return Batch(image, LossTargets(*moved))


def make_batch(crops: Mapping[str, Tensor], range_hu: tuple[float, float]) -> Batch:
    """Make a batch of collated crops.

    Args:
        crops: TENSORS by name, each (n, 1, z, y, x).
        range_hu: HU mapped linearly to intensities 0..1 and clipped.
    """
    targets = LossTargets(crops["alpha"], crops["overlap"], crops["union"], crops["valid"])
    return Batch(to_intensity(crops["image"], range_hu), targets)


def to_intensity(image_hu: Tensor, range_hu: tuple[float, float]) -> Tensor:
    """Scale HU linearly from `range_hu` to intensities 0..1, clipped."""
    low, high = range_hu
    return ((image_hu - low) / (high - low)).clamp(0.0, 1.0)


def draw_order(nodules: int, seed: int, epoch: int) -> list[int]:
    """Give the order in which an epoch takes the nodules."""
    return [int(n) for n in np.random.default_rng([seed, epoch, _ORDER]).permutation(nodules)]


def random_flip_rotate(
    crop: Mapping[str, Tensor], seed: int, epoch: int, index: int
) -> dict[str, Tensor]:
    """Flip and turn a crop by right angles, all of its tensors alike.

    Any axis may be flipped, and axes of the same size may change places: of a cube these are all 48 symmetries, half of
    them turns and half of them mirrored.

    Args:
        crop: TENSORS by name, each (1, z, y, x); whatever else it holds is left out.
        seed: The training's.
        epoch: Counted from 0.
        index: The nodule's place in the data set.
    """
    axes, flips = draw_symmetry(tuple(crop["image"].shape[1:]), seed, epoch, index)
    return {name: crop[name].permute(axes).flip(flips).contiguous() for name in TENSORS}


def draw_symmetry(
    shape: tuple[int, ...], seed: int, epoch: int, index: int
) -> tuple[tuple[int, ...], list[int]]:
    """Give the order of the axes and the axes to flip, for a tensor (1, z, y, x) whose volume has this shape."""
    chance = np.random.default_rng([seed, epoch, index, _SYMMETRY])
    orders = [
        order
        for order in permutations(range(3))
        if all(shape[a] == shape[b] for a, b in enumerate(order))
    ]
    order = orders[int(chance.integers(len(orders)))]
    flips = [axis + 1 for axis in range(3) if chance.random() < 0.5]
    return (0, *(axis + 1 for axis in order)), flips

"""Using a trained network on a volume: whole where it fits, else in tiles that overlap.

The network normalises by what it sees, so a tile's answer depends a little on its borders. Tiles are a makeshift for
memory; where they overlap they are blended linearly.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from matting.errors import InputError
from matting.geometry.box import Box, box_around
from matting.geometry.grid import Shape
from matting.geometry.patch import AIR_HU
from matting.learned.batches import to_intensity
from matting.learned.network import STRIDE, MattingNetwork
from matting.learned.training import autocast, resolve_precision

MAX_WHOLE_VOXELS = 192**3
"""Voxels that are tried in one piece; a GPU that runs out of memory over them is given tiles too."""
TILE = 128
"""Side of a tile in voxels."""
OVERLAP = 32
"""Voxels that neighbouring tiles share."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the network says of a volume; every array is (z, y, x), 0..1."""

    alpha: NDArray[np.float32]
    overlap: NDArray[np.float32] | None
    """How surely all readers would mark a voxel; None without auxiliary masks."""
    union: NDArray[np.float32] | None
    """How surely any reader would."""


def predict(
    network: MattingNetwork,
    image_hu: NDArray[np.floating],
    valid: NDArray[np.bool_],
    range_hu: tuple[float, float],
    *,
    precision: str = "auto",
    max_whole_voxels: int = MAX_WHOLE_VOXELS,
    tile: int = TILE,
    overlap: int = OVERLAP,
) -> Prediction:
    """Estimate the matte of a volume; no trimap is needed.

    Only the box of measured voxels is looked at; beyond it everything is 0.

    Args:
        network: On the device where it is to compute.
        image_hu: (z, y, x), isotropic voxels of the spacing that the network was trained with.
        valid: (z, y, x): False where nothing was measured.
        range_hu: HU that the training mapped to intensities 0..1.
        precision: What convolutions compute in; see `matting.parameters.Training`.
        whole_at_most: Voxels up to which the box is computed in one piece.
        tile: Side of the tiles otherwise, a multiple of 16.
        overlap: Voxels that neighbouring tiles share, below `tile`.

    Raises:
        InputError: Nothing was measured, or the tiles cannot be used.
    """
    if not valid.any():
        raise InputError(
            "there is nothing to look at",
            got="no valid voxel",
            expected="CT",
            remedy="Choose another box.",
        )
    if tile % STRIDE or not 0 <= overlap < tile:
        raise InputError(
            "these tiles cannot be used",
            got=f"sides of {tile} that share {overlap}",
            expected=f"a multiple of {STRIDE} and an overlap below it",
            remedy="Leave them at their defaults.",
        )
    box = box_around(valid, (0, 0, 0))
    image = to_intensity(
        torch.from_numpy(np.where(valid, image_hu, AIR_HU)[box].astype(np.float32)), range_hu
    )
    device = next(network.parameters()).device
    how = resolve_precision(precision, device)
    network.eval()
    with torch.inference_mode():
        if image.numel() > max_whole_voxels:
            maps = _in_tiles(network, image, how, tile, overlap)
        else:
            try:
                maps = _whole(network, image, how)
            except torch.cuda.OutOfMemoryError:
                torch.cuda.empty_cache()
                maps = _in_tiles(network, image, how, tile, overlap)
    placed = np.zeros((len(maps), *image_hu.shape), np.float32)
    placed[(slice(None), *box)] = maps.numpy()
    return Prediction(
        placed[0], placed[1] if len(maps) > 1 else None, placed[2] if len(maps) > 1 else None
    )


def _whole(network: MattingNetwork, image: Tensor, precision: str) -> Tensor:
    """Give (1 or 3, z, y, x): alpha and, where the network has them, the masks' probabilities; on the CPU."""
    padded = torch.zeros(1, 1, *(ceil(size / STRIDE) * STRIDE for size in image.shape))
    z, y, x = image.shape
    padded[0, 0, :z, :y, :x] = image
    device = next(network.parameters()).device
    with autocast(device, precision):
        output = network(padded.to(device, memory_format=network.layout(device)))
    maps = (
        [output.alpha] if output.masks is None else [output.alpha, output.masks.float().sigmoid()]
    )
    return torch.cat([tensor.float() for tensor in maps], dim=1)[0, :, :z, :y, :x].cpu()


def _in_tiles(
    network: MattingNetwork, image: Tensor, precision: str, tile: int, overlap: int
) -> Tensor:
    sums = torch.zeros(1 if not network.auxiliary else 3, *image.shape)
    weights = torch.zeros(image.shape)
    z, y, x = image.shape
    for box in tiles((z, y, x), tile, overlap):
        weight = _ramps(box, (z, y, x), overlap)
        sums[(slice(None), *box)] += _whole(network, image[box], precision) * weight
        weights[box] += weight
    return sums / weights


def tiles(shape: Shape, tile: int, overlap: int) -> Iterator[Box]:
    """Cover a volume with boxes of at most `tile` voxels a side whose neighbours share `overlap` or more."""
    starts = []
    for size in shape:
        number = max(1, ceil((size - overlap) / (tile - overlap)))
        starts.append(
            sorted({round(n * max(size - tile, 0) / max(number - 1, 1)) for n in range(number)})
        )
    for corner in product(*starts):
        z, y, x = (
            slice(first, min(first + tile, size)) for first, size in zip(corner, shape, strict=True)
        )
        yield z, y, x


def _ramps(box: Box, shape: Shape, overlap: int) -> Tensor:
    """Give weights that fall towards those sides of a tile where another one takes over."""
    weight = torch.ones(())
    for side, size in zip(box, shape, strict=True):
        place = torch.arange(side.start, side.stop, dtype=torch.float32)
        ramp = torch.ones_like(place)
        if side.start > 0:
            ramp = torch.minimum(ramp, (place - side.start + 1) / (overlap + 1))
        if side.stop < size:
            ramp = torch.minimum(ramp, (side.stop - place) / (overlap + 1))
        weight = weight.unsqueeze(-1) * ramp
    return weight

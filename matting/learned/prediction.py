"""Prediction of a volume by a trained network: in one piece if memory allows, else in tiles.

The network's instance norms depend on all voxels of its input, so the values of a tile depend a
little on its borders. Tiles are used only where memory requires them.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations
from math import ceil
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool3d, interpolate

from matting.errors import InputError
from matting.geometry.box import box_around
from matting.geometry.patch import AIR_HU
from matting.learned.batches import to_intensity
from matting.learned.devices import autocast, resolve_precision
from matting.learned.network import STRIDE, MattingNetwork
from matting.short_repr import short_repr

MAX_WHOLE_VOXELS = 192**3
"""Voxels up to which a volume is computed in one piece, unless a GPU's memory is exceeded."""
TILE = 128
"""Side of a tile in voxels."""
OVERLAP = 32
"""Voxels that neighbouring tiles share."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """The maps predicted for a volume; every array is (z, y, x), 0..1."""

    alpha: NDArray[np.float32]
    overlap: NDArray[np.float32] | None
    """Probability that all readers would mark a voxel; None without auxiliary masks."""
    union: NDArray[np.float32] | None
    """Probability that any reader would."""

    __repr__ = short_repr


def predict(
    network: MattingNetwork,
    image_hu: NDArray[np.floating],
    valid: NDArray[np.bool_],
    range_hu: tuple[float, float],
    *,
    precision: str = "auto",
    flips: bool = False,
    pooling: int = 1,
    max_whole_voxels: int = MAX_WHOLE_VOXELS,
    tile: int = TILE,
    overlap: int = OVERLAP,
) -> Prediction:
    """Estimate the matte of a volume; no trimap is needed.

    Only the box of measured voxels is computed; all maps are 0 outside it.

    Args:
        network: The network, on the device that shall compute.
        image_hu: (z, y, x), HU on isotropic voxels of the spacing of the training, or finer by
            `pooling`.
        valid: (z, y, x): False where nothing was measured.
        range_hu: HU that the training mapped to intensities 0..1.
        precision: Precision of convolutions; see `matting.parameters.TrainingSettings`.
        flips: Average the maps of all eight flips of the volume, in eight times the time.
        pooling: Voxels along each axis that are averaged into one of the network's; its maps are
            interpolated linearly.
        max_whole_voxels: Voxels up to which the box is computed in one piece.
        tile: Largest side of the tiles otherwise, a multiple of 16.
        overlap: Voxels that neighbouring tiles share at least, from 0 to below `tile`.

    Returns:
        The maps, of the image's shape.

    Raises:
        InputError: Nothing was measured, or the tiles cannot be used.
    """
    if not valid.any():
        raise InputError(
            "there is nothing to predict",
            got="no valid voxel",
            expected="a measured part of a CT",
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
    measured_hu = np.where(valid, image_hu, AIR_HU)[box].astype(np.float32)
    shape = measured_hu.shape
    fine = torch.from_numpy(np.pad(measured_hu, [(0, -n % pooling) for n in shape], mode="edge"))
    image = to_intensity(avg_pool3d(fine[None], pooling)[0], range_hu)
    precision = resolve_precision(precision, next(network.parameters()).device)
    network.eval()
    with torch.inference_mode():
        maps = None
        if image.numel() <= max_whole_voxels:
            # The tiles are not computed in a handler of the error: its traceback holds memory.
            with suppress(torch.cuda.OutOfMemoryError):
                maps = _predict_whole(network, image, precision, flips)
        if maps is None:
            torch.cuda.empty_cache()
            maps = _predict_tiles(network, image, precision, flips, tile, overlap)
    if pooling > 1:
        z, y, x = shape
        maps = interpolate(maps[None], scale_factor=pooling, mode="trilinear")[0, :, :z, :y, :x]
    whole = np.zeros((len(maps), *image_hu.shape), np.float32)
    whole[(slice(None), *box)] = maps.numpy()
    if len(whole) == 1:
        return Prediction(whole[0], None, None)
    return Prediction(whole[0], whole[1], whole[2])


def _predict_whole(network: MattingNetwork, image: Tensor, precision: str, flips: bool) -> Tensor:
    """Return the maps of a volume (z, y, x) computed in one piece, on the CPU."""
    z, y, x = image.shape
    sizes = [_round_up(size) for size in (z, y, x)]
    if sizes == [STRIDE] * 3:
        sizes[2] *= 2  # at the bottom a single voxel has no variance to be normalised by
    padded = torch.zeros(1, 1, *sizes)
    padded[0, 0, :z, :y, :x] = image
    return _averaged_maps(network, padded, precision, flips)[0, :, :z, :y, :x].cpu()


def _predict_tiles(
    network: MattingNetwork,
    image: Tensor,
    precision: str,
    flips: bool,
    tile: int,
    overlap: int,
) -> Tensor:
    """Return the maps of a volume (z, y, x) computed in tiles, on the CPU.

    Where tiles overlap they are blended linearly. MONAI's own weights, constant or Gaussian, leave
    steps at the seams that are about twice as high.
    """
    from monai.inferers.utils import sliding_window_inference  # seconds to import, seldom needed

    sides = [min(tile, _round_up(size)) for size in image.shape]
    maps = sliding_window_inference(
        image[None, None],
        sides,
        1,
        lambda window: _averaged_maps(network, window, precision, flips),
        overlap=overlap / tile,
        roi_weight_map=blending_weights(sides, [overlap] * 3),
        sw_device=next(network.parameters()).device,
        device="cpu",
    )
    return cast(Tensor, maps)[0]


def _averaged_maps(network: MattingNetwork, image: Tensor, precision: str, flips: bool) -> Tensor:
    """Return the mean of the maps over all flips of an image, or those of the image alone."""
    axes = [axes for count in range(4 if flips else 1) for axes in combinations((2, 3, 4), count)]
    total = sum(_maps(network, image.flip(flipped), precision).flip(flipped) for flipped in axes)
    return cast(Tensor, total) / len(axes)


def _maps(network: MattingNetwork, image: Tensor, precision: str) -> Tensor:
    """Return alpha and, if the network has them, the masks' probabilities: (n, 1 or 3, z, y, x)."""
    device = next(network.parameters()).device
    with autocast(device, precision):
        output = network(image.to(device))
    maps = [output.alpha]
    if output.masks is not None:
        maps.append(output.masks.float().sigmoid())
    return torch.cat([values.float() for values in maps], dim=1)


def blending_weights(sides: Sequence[int], shared: Sequence[int]) -> Tensor:
    """Return weights of a tile's voxels that fall linearly over what neighbouring tiles share.

    Args:
        sides: Of a tile, in voxels along (z, y, x).
        shared: Voxels that it shares with the next one along each axis.

    Returns:
        Weights (z, y, x), above 0 and at most 1.
    """
    z, y, x = (_ramp(side, overlap) for side, overlap in zip(sides, shared, strict=True))
    return z[:, None, None] * y[:, None] * x


def _ramp(side: int, overlap: int) -> Tensor:
    """Return weights (side,) that fall linearly over the overlap towards both ends of a tile."""
    voxel = torch.arange(side, dtype=torch.float32)
    distance = torch.minimum(voxel + 1, side - voxel)
    return (distance / (overlap + 1)).clamp(max=1.0)


def _round_up(size: int) -> int:
    """Return the smallest size that the network can take and that holds `size` voxels."""
    return ceil(size / STRIDE) * STRIDE

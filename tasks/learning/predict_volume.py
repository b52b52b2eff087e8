"""Predict a part of a CT: resample, predict, resample back."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from matting.geometry.box import Box
from matting.geometry.resample import resample_back, resample_image
from matting.learned.lesion import CORE_ALPHA, find_lesion
from matting.learned.network import MattingNetwork
from matting.learned.prediction import Prediction, blending_weights, predict
from matting.parameters import ResampleSettings
from storage.results.checkpoints import Checkpoint
from storage.sources.ct import CtVolume
from tasks.learning.place import Place

SHARED = 0.25
"""Share of a window's side that neighbouring windows of a whole CT have in common."""
GROWTH = 1.5
"""By which a window grows along the axes along which the lesion comes near its faces."""
FACE_MM = 3.0
"""Distance from a face within which a lesion may be cut: nodules lie within the crops of a
training, so a network draws hardly any lesion at the faces, cut or not."""


@dataclass(frozen=True, slots=True)
class PredictedLesion:
    """What a network finds at a point."""

    box: Box
    """The voxels of the CT that were predicted."""
    volumes: dict[str, NDArray[np.float32]]
    """As `predict_box` returns them, 0 outside the lesion; empty where there is none."""
    alpha_at_point: float


def predict_lesion(
    network: MattingNetwork, checkpoint: Checkpoint, ct: CtVolume, place: Place, *, flips: bool
) -> PredictedLesion:
    """Predict the lesion at a point.

    The network normalises over its input, so what it finds depends on the window. A lesion counts
    where the mean of two windows shows it, one of the size of most training crops and one of that
    of the largest: vessels look like nodules in one of them only, more often than nodules do. The
    matte is that of the first; where the lesion comes near its faces the window grows, up to the
    largest.

    Args:
        network: The network.
        checkpoint: Its checkpoint.
        ct: The CT.
        place: A point in it.
        flips: Average over the eight flips of each window.
    """

    @cache  # the window may be the largest, or grow to it
    def predict_window(sides_mm: tuple[float, float, float]) -> _Window:
        box = place.within(ct.grid, sides_mm)
        volumes = predict_box(network, checkpoint, ct, box, flips=flips)
        starts = [side.start for side in box]
        z, y, x = (at - start for at, start in zip(place.first or (), starts, strict=True))
        lesion = find_lesion(volumes["alpha"], (z, y, x), ct.grid.spacing_mm)
        return _Window(box, volumes, (z, y, x), lesion)

    sides_mm, largest_mm = window_mm(checkpoint), _largest_window_mm(checkpoint)
    window, largest = predict_window(sides_mm), predict_window(largest_mm)
    mean = _mean_alpha(window, largest)
    if find_lesion(mean, largest.point, ct.grid.spacing_mm) is None:
        return PredictedLesion(largest.box, {}, float(mean[largest.point]))
    while sides_mm != largest_mm:
        grows = [True] * 3
        if window.lesion is not None:
            grows = _cut_axes(window.lesion & (window.volumes["alpha"] >= CORE_ALPHA), window, ct)
        if not any(grows):
            break
        pairs = zip(sides_mm, largest_mm, grows, strict=True)
        z, y, x = (min(GROWTH * side, most) if grow else side for side, most, grow in pairs)
        if (z, y, x) == sides_mm:
            break
        sides_mm = (z, y, x)
        window = predict_window(sides_mm)
    lesion = window.lesion
    if lesion is None:
        return PredictedLesion(window.box, {}, float(mean[largest.point]))
    kept = {name: np.where(lesion, values, 0) for name, values in window.volumes.items()}
    return PredictedLesion(window.box, kept, float(mean[largest.point]))


@dataclass(frozen=True, slots=True)
class _Window:
    """What a network returns for a window around a point."""

    box: Box
    volumes: dict[str, NDArray[np.float32]]
    point: tuple[int, int, int]
    """The point's voxel of the window."""
    lesion: NDArray[np.bool_] | None
    """The voxels of the lesion at the point, if there is one."""


def _mean_alpha(window: _Window, largest: _Window) -> NDArray[np.float32]:
    """Return the mean alpha of two windows where both are, and that of the largest elsewhere."""
    mean = largest.volumes["alpha"].copy()
    sides = zip(window.box, largest.box, strict=True)
    z, y, x = (slice(a.start - b.start, a.stop - b.start) for a, b in sides)
    mean[z, y, x] = (mean[z, y, x] + window.volumes["alpha"]) / 2
    return mean


def _cut_axes(core: NDArray[np.bool_], window: _Window, ct: CtVolume) -> list[bool]:
    """Return for each axis whether a core comes near a face of a window within the CT."""
    cut = []
    ends = zip(window.box, ct.grid.shape, ct.grid.spacing_mm, strict=True)
    for axis, (side, size, spacing_mm) in enumerate(ends):
        near = 1 + int(FACE_MM / spacing_mm)
        reached = np.nonzero(core.any(axis=tuple({0, 1, 2} - {axis})))[0]
        first = bool((reached < near).any()) and side.start > 0
        last = bool((reached >= core.shape[axis] - near).any()) and side.stop < size
        cut.append(first or last)
    return cut


def predict_box(
    network: MattingNetwork, checkpoint: Checkpoint, ct: CtVolume, box: Box, *, flips: bool = False
) -> dict[str, NDArray[np.float32]]:
    """Predict a box of a CT on isotropic voxels, and resample the result to the CT's.

    Args:
        network: The network.
        checkpoint: Its checkpoint, which has spacing and intensity range.
        ct: The CT.
        box: The voxels to predict.
        flips: Average over the eight flips of the box.

    Returns:
        Each map, of the box's shape, by name: alpha 0..1; overlap and union, where the network has
        auxiliary masks, as probabilities.
    """
    grid = ct.grid.window((box[0].start, box[1].start, box[2].start), ct.image_hu[box].shape)
    spacing_mm = checkpoint.config.spacing_mm
    low, high = checkpoint.config.intensity_range_hu
    image, valid, _ = resample_image(
        ct.image_hu[box], ct.valid[box], grid, ResampleSettings(spacing_mm=spacing_mm)
    )
    found: Prediction = predict(network, image, valid, (low, high), flips=flips)
    maps = {"alpha": found.alpha, "overlap": found.overlap, "union": found.union}
    return {
        name: np.where(
            ct.valid[box],
            np.clip(resample_back(values, (spacing_mm,) * 3, grid), 0, 1),
            np.float32(0),
        )
        for name, values in maps.items()
        if values is not None
    }


def predict_whole(
    network: MattingNetwork,
    checkpoint: Checkpoint,
    ct: CtVolume,
    *,
    flips: bool = False,
    progress: Callable[[int, int], None] = lambda _, __: None,
) -> dict[str, NDArray[np.float32]]:
    """Predict a whole CT in windows as large as the largest crops, blended where they overlap.

    The network normalises over its input, so each window is resampled and predicted by itself; no
    volume but the CT's own is ever held.

    Args:
        network: The network.
        checkpoint: Its checkpoint.
        ct: The CT.
        flips: Average over the eight flips of each window.
        progress: Called with the number of windows done, and of all.

    Returns:
        As `predict_box`.
    """
    from monai.inferers.utils import sliding_window_inference  # seconds to import, seldom needed

    names = ("alpha", "overlap", "union") if network.branches else ("alpha",)
    sides = [
        min(size, max(1, round(side / spacing)))
        for side, spacing, size in zip(
            _largest_window_mm(checkpoint), ct.grid.spacing_mm, ct.grid.shape, strict=True
        )
    ]
    steps = [max(1, int(side * (1 - SHARED))) for side in sides]
    total = math.prod(
        1 + math.ceil((size - side) / step)
        for size, side, step in zip(ct.grid.shape, sides, steps, strict=True)
    )
    done = 0

    def predict_window(window: Tensor) -> Tensor:
        nonlocal done
        image_hu, measured = window[0].numpy()
        part = CtVolume(
            replace(ct.grid, shape=image_hu.shape), image_hu, np.asarray(measured > 0.5)
        )
        maps = np.zeros((len(names), *image_hu.shape), np.float32)
        if part.valid.any():
            everything = (slice(0, sides[0]), slice(0, sides[1]), slice(0, sides[2]))
            found = predict_box(network, checkpoint, part, everything, flips=flips)
            maps = np.stack([found[name] for name in names])
        done += 1
        progress(done, total)
        return torch.from_numpy(maps[None])

    inputs = torch.from_numpy(np.stack([ct.image_hu, ct.valid.astype(np.float32)]))
    weights = blending_weights(sides, [math.ceil(side * SHARED) for side in sides])
    maps = sliding_window_inference(
        inputs[None], sides, 1, predict_window, overlap=SHARED, roi_weight_map=weights
    )
    return dict(zip(names, maps[0].numpy(), strict=True))


def window_mm(checkpoint: Checkpoint) -> tuple[float, float, float]:
    """Return the sides (z, y, x) of most of the training's crops."""
    return checkpoint.config.window_mm or _largest_window_mm(checkpoint)


def _largest_window_mm(checkpoint: Checkpoint) -> tuple[float, float, float]:
    """Return the sides (z, y, x) of the training's largest crops."""
    z, y, x = (size * checkpoint.config.spacing_mm for size in checkpoint.config.training.crop_zyx)
    return z, y, x

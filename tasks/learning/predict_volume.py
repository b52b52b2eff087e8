"""Predict a part of a CT: resample, predict, resample back."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

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
"""By which a window grows along the axes along which the lesion reaches its faces."""


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

    The network normalises over its input, so a window has the size of most of the crops that it
    learned. Where the lesion reaches a face of the window, the window grows, up to the training's
    largest crop.

    Args:
        network: The network.
        checkpoint: Its checkpoint.
        ct: The CT.
        place: A point in it.
        flips: Average over the eight flips of the window.
    """
    sides_mm, largest_mm = window_mm(checkpoint), _largest_window_mm(checkpoint)
    while True:
        box = place.within(ct.grid, sides_mm)
        volumes = predict_box(network, checkpoint, ct, box, flips=flips)
        alpha = volumes["alpha"]
        starts = [side.start for side in box]
        z, y, x = (at - start for at, start in zip(place.first or (), starts, strict=True))
        lesion = find_lesion(alpha, (z, y, x), ct.grid.spacing_mm)
        if lesion is None:
            return PredictedLesion(box, {}, float(alpha[z, y, x]))
        cut = _cut_axes(lesion & (alpha >= CORE_ALPHA), box, ct)
        sides = zip(sides_mm, largest_mm, cut, strict=True)
        z_mm, y_mm, x_mm = (min(GROWTH * a, most) if grows else a for a, most, grows in sides)
        if (z_mm, y_mm, x_mm) == sides_mm:
            kept = {name: np.where(lesion, values, 0) for name, values in volumes.items()}
            return PredictedLesion(box, kept, float(alpha[z, y, x]))
        sides_mm = (z_mm, y_mm, x_mm)


def _cut_axes(core: NDArray[np.bool_], box: Box, ct: CtVolume) -> list[bool]:
    """Return for each axis whether a core reaches a face of a box that is not the CT's own."""
    cut = []
    for axis, (side, size) in enumerate(zip(box, ct.grid.shape, strict=True)):
        first, last = core.take(0, axis).any(), core.take(-1, axis).any()
        cut.append(bool((first and side.start > 0) or (last and side.stop < size)))
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
    """Predict a whole CT in windows as large as most training crops, blended where they overlap.

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
            window_mm(checkpoint), ct.grid.spacing_mm, ct.grid.shape, strict=True
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

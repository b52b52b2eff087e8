"""Predict the matte of a CT: read, resample, predict, resample back, write."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from matting.errors import InputError
from matting.geometry.box import Box
from matting.geometry.hounsfield import check_hounsfield
from matting.geometry.resample import resample_back, resample_image
from matting.learned.lesion import CORE_ALPHA, find_lesion
from matting.learned.network import MattingNetwork
from matting.learned.prediction import Prediction, blending_weights, predict
from matting.learned.training import pick_device
from matting.parameters import ResampleSettings
from storage.output import remove_incomplete, write_output
from storage.recipe import EVERYTHING_ALLOWED
from storage.results.checkpoints import Checkpoint, read_checkpoint
from storage.sources.base import REFUSE_ODD
from storage.sources.ct import CtVolume, read_ct, write_volume
from tasks.learning.load import load_network

MASK_THRESHOLD = 0.5
"""Probability from which a voxel belongs to a mask."""
SHARED = 0.25
"""Share of a window's side that neighbouring windows of a whole CT have in common."""
GROWTH = 1.5
"""By which a window grows along the axes along which the lesion reaches its faces."""
HU_REMEDY = (
    "Convert it to HU, or give the original CT; where the values are right, use --no-hu-check."
)


@dataclass(frozen=True, slots=True)
class Place:
    """The part of a CT to predict: around a point, a box, or all of it."""

    first: tuple[int, int, int] | None = None
    """Voxel (z, y, x): a point, or the first of a box; None for the whole CT."""
    last: tuple[int, int, int] | None = None
    """The last voxel of a box; None for a point."""

    @staticmethod
    def parse(point: str | None, box: str | None, whole: bool) -> "Place":
        """Parse a point ``z,y,x`` or a box ``z,y,x,z,y,x``, or take the whole CT.

        Raises:
            InputError: Not exactly one is given, or it cannot be parsed.
        """
        given = [n for n, v in (("--point", point), ("--box", box), ("--whole", whole)) if v]
        if len(given) != 1:
            raise InputError(
                "the place to predict is not clear",
                got=" and ".join(given) or "none",
                expected="one of --point, --box and --whole",
                remedy="Give the voxel of a nodule, e.g. --point 61,240,310: the network learned "
                "nodules, and what it says elsewhere has no meaning.",
            )
        if point:
            z, y, x = _numbers(point, 3, "--point")
            return Place((z, y, x))
        if box:
            z, y, x, c, b, a = _numbers(box, 6, "--box")
            return Place((z, y, x), (c, b, a))
        return Place()

    @property
    def kind(self) -> Literal["point", "box", "whole"]:
        """What it is."""
        if self.first is None:
            return "whole"
        return "point" if self.last is None else "box"

    def within(self, ct: CtVolume, window_mm: tuple[float, float, float]) -> Box:
        """Return the box of voxels; raise InputError if it is not in the CT.

        Args:
            ct: The CT.
            window_mm: Sides (z, y, x) of the box around a point.
        """
        if self.first is None:
            z, y, x = (slice(0, size) for size in ct.grid.shape)
            return z, y, x
        last = self.last or self.first
        reach = [0, 0, 0]
        if self.last is None:
            sides = zip(window_mm, ct.grid.spacing_mm, strict=True)
            reach = [round(side / 2 / spacing) for side, spacing in sides]
        inside = all(
            0 <= a <= b < n for a, b, n in zip(self.first, last, ct.grid.shape, strict=True)
        )
        if not inside:
            sizes = ", ".join(map(str, ct.grid.shape))
            given = self.first if self.last is None else self.first + self.last
            raise InputError(
                "the place is not in the CT",
                got=", ".join(map(str, given)),
                expected=f"voxels z, y, x from 0 to below {sizes}, the first before the last",
                remedy="Count voxels from 0 in the order z, y, x: viewers often show x, y, z.",
            )
        box = zip(self.first, last, reach, ct.grid.shape, strict=True)
        z, y, x = (slice(max(0, a - r), min(n, b + r + 1)) for a, b, r, n in box)
        return z, y, x


@dataclass(frozen=True, slots=True)
class PredictedFiles:
    """What became of a prediction."""

    files: tuple[Path, ...]
    """Those written; none where no nodule was found at the point."""
    highest_alpha: float
    """In what was predicted; at the point alone where no nodule was found there."""


@dataclass(frozen=True, slots=True)
class PredictionSettings:
    """How a CT is read and predicted."""

    hu_check: bool = True
    """Refuse a CT whose values cannot be HU."""
    slices: ResampleSettings = REFUSE_ODD
    """What becomes of slices at changing distances and of slices that lean."""
    all_lesions: bool = False
    """At a point, keep all that the network finds in the window, not the lesion there alone."""
    flips: bool = False
    """Average over the eight flips of each window."""


def predict_file(
    checkpoint: str,
    image: Path,
    place: Place,
    out: Path,
    device: str = "auto",
    settings: PredictionSettings = PredictionSettings(),
    progress: Callable[[int, int], None] = lambda _, __: None,
) -> PredictedFiles:
    """Estimate the matte of a CT in a file or DICOM folder, and write it.

    `alpha.nii.gz` holds 0..1, `overlap.nii.gz` and `union.nii.gz` 0 and 1, all on the CT's voxels
    and 0 outside the part that was predicted. `about.json` describes the network.

    Args:
        checkpoint: Path or URL of the network's checkpoint.
        image: The CT.
        place: The part of it to predict. Around a point it is as large as most of the network's
            training crops, and larger, up to the largest crop, where the lesion at the point
            reaches its border; that lesion is kept alone.
        out: Folder for the files.
        device: auto, cpu, cuda, cuda:1.
        settings: How.
        progress: Called with the windows done and their number where the whole CT is predicted.

    Returns:
        The files written. There are none where the network finds no nodule at the point.

    Raises:
        InputError: The checkpoint or CT cannot be read or is not in HU, the place is not in the
            CT, the device does not exist, or the files cannot be written.
    """
    trained = read_checkpoint(checkpoint)
    ct = read_ct(image, settings.slices, EVERYTHING_ALLOWED)
    if settings.hu_check:
        check_hounsfield(ct.image_hu, ct.valid, remedy=HU_REMEDY)
    box = place.within(ct, _window_mm(trained))
    network = load_network(trained, pick_device(device))
    if place.kind == "whole":
        volumes = predict_whole(network, trained, ct, flips=settings.flips, progress=progress)
    elif place.kind == "box" or settings.all_lesions:
        volumes = predict_box(network, trained, ct, box, flips=settings.flips)
    else:
        found = predict_lesion(network, trained, ct, place, flips=settings.flips)
        if not found.volumes:
            return PredictedFiles((), found.alpha_at_point)
        box, volumes = found.box, found.volumes
    highest = float(volumes["alpha"].max())
    files = []
    for name, values in volumes.items():
        volume = np.zeros(ct.grid.shape, np.float32 if name == "alpha" else np.uint8)
        volume[box] = values if name == "alpha" else values >= MASK_THRESHOLD
        files.append(out / f"{name}.nii.gz")
        write_volume(files[-1], volume, ct.grid)
    files.append(out / "about.json")
    about = json.dumps(_about(trained, image, place, box), indent=1) + "\n"
    write_output(files[-1], about.encode())
    remove_incomplete(out)
    return PredictedFiles(tuple(files), highest)


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
    window_mm, largest_mm = _window_mm(checkpoint), _largest_window_mm(checkpoint)
    while True:
        box = place.within(ct, window_mm)
        volumes = predict_box(network, checkpoint, ct, box, flips=flips)
        alpha = volumes["alpha"]
        starts = [side.start for side in box]
        z, y, x = (at - start for at, start in zip(place.first or (), starts, strict=True))
        lesion = find_lesion(alpha, (z, y, x), ct.grid.spacing_mm)
        if lesion is None:
            return PredictedLesion(box, {}, float(alpha[z, y, x]))
        cut = _cut_axes(lesion & (alpha >= CORE_ALPHA), box, ct)
        sides = zip(window_mm, largest_mm, cut, strict=True)
        z_mm, y_mm, x_mm = (min(GROWTH * a, most) if grows else a for a, most, grows in sides)
        if (z_mm, y_mm, x_mm) == window_mm:
            kept = {name: np.where(lesion, values, 0) for name, values in volumes.items()}
            return PredictedLesion(box, kept, float(alpha[z, y, x]))
        window_mm = (z_mm, y_mm, x_mm)


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
            _window_mm(checkpoint), ct.grid.spacing_mm, ct.grid.shape, strict=True
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


def _window_mm(checkpoint: Checkpoint) -> tuple[float, float, float]:
    """Return the sides (z, y, x) of most of the training's crops."""
    return checkpoint.config.window_mm or _largest_window_mm(checkpoint)


def _largest_window_mm(checkpoint: Checkpoint) -> tuple[float, float, float]:
    """Return the sides (z, y, x) of the training's largest crops."""
    z, y, x = (size * checkpoint.config.spacing_mm for size in checkpoint.config.training.crop_zyx)
    return z, y, x


def _about(checkpoint: Checkpoint, image: Path, place: Place, box: Box) -> dict[str, object]:
    outside = place.kind != "point"
    return {
        "image": image.name,
        "place": place.kind,
        "first_voxel_zyx": [side.start for side in box],
        "last_voxel_zyx": [side.stop - 1 for side in box],
        "network": checkpoint.label,
        "checkpoint": checkpoint.digest,
        "trained_on_release": checkpoint.config.release,
        "trained_on_mattes": checkpoint.config.learned,
        "trained_on_stand_in": checkpoint.config.synthetic,
        "note": "Research software. Not for diagnosis or treatment."
        + (" The network learned nodules only: elsewhere its output has no meaning." * outside),
    }


def _numbers(text: str, count: int, option: str) -> list[int]:
    parts = text.split(",")
    if len(parts) != count or not all(part.strip().lstrip("-").isdecimal() for part in parts):
        raise InputError(
            f"{option} cannot be parsed",
            got=repr(text),
            expected=f"{count} whole numbers with commas between, in the order z,y,x",
            remedy=f"E.g. {option} {'61,240,310' if count == 3 else '50,200,270,70,280,350'}",
        )
    return [int(part) for part in parts]

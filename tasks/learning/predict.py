"""Predict the mattes of CTs in files, and write them."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from matting.errors import InputError
from matting.geometry.box import Box
from matting.geometry.hounsfield import check_hounsfield
from matting.learned.devices import pick_device
from matting.learned.network import MattingNetwork
from matting.parameters import ResampleSettings
from storage.output import remove_incomplete, write_output
from storage.recipe import EVERYTHING_ALLOWED
from storage.results.checkpoints import Checkpoint, read_checkpoint
from storage.results.csv_rows import to_csv
from storage.sources.base import REFUSE_ODD
from storage.sources.ct import CtVolume, read_ct, write_volume
from storage.sources.points import Point, read_points
from tasks.learning.load import load_network
from tasks.learning.place import Place
from tasks.learning.predict_volume import predict_box, predict_lesion, predict_whole, window_mm

MASK_THRESHOLD = 0.5
"""Probability from which a voxel belongs to a mask."""
HU_REMEDY = (
    "Convert it to HU, or give the original CT; where the values are right, use --no-hu-check."
)


@dataclass(frozen=True, slots=True)
class PredictedFiles:
    """What became of a prediction."""

    files: tuple[Path, ...]
    """Those written; none where no nodule was found at the point."""
    highest_alpha: float
    """In what was predicted; at the point alone where no nodule was found there."""
    volume_mm3: float | None
    """The sum of alpha over the voxels; None where no nodule was found."""


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
    ct = _read_hounsfield(image, settings)
    place.within(ct.grid, window_mm(trained))  # refused before the network is loaded
    network = load_network(trained, pick_device(device))
    return _predict(network, trained, ct, image, place, out, settings, progress)


@dataclass(frozen=True, slots=True)
class PredictedPoint:
    """What became of a point of a table: a line of predictions.csv."""

    name: str
    image: str
    """Name of the CT's file or folder."""
    z: int
    y: int
    x: int
    state: Literal["found", "no nodule", "refused"]
    alpha: float | None = None
    """The highest one of what was found, or that at the point; None where it was refused."""
    volume_mm3: float | None = None
    """Of the lesion: the sum of alpha over its voxels; None where there is none."""
    reason: str = ""
    """Why it was refused."""

    @staticmethod
    def refused(point: Point, error: InputError) -> "PredictedPoint":
        """Return a point that could not be predicted."""
        return PredictedPoint(
            point.name, point.image.name, *point.voxel, "refused", reason=str(error)
        )


def predict_table(
    checkpoint: str,
    table: Path,
    out: Path,
    device: str = "auto",
    settings: PredictionSettings = PredictionSettings(),
    progress: Callable[[int, int], None] = lambda _, __: None,
) -> list[PredictedPoint]:
    """Estimate the mattes of lesions at the points of a table.

    Each lesion has a folder with its name, as `predict_file` writes it; `predictions.csv` has a
    line for every point. A CT is read once, and one that cannot be read costs its own points.

    Args:
        checkpoint: Path or URL of the network's checkpoint.
        table: Columns image, z, y, x and name; see `storage.sources.points`.
        out: Folder for all of it.
        device: auto, cpu, cuda, cuda:1.
        settings: How.
        progress: Called with the number of points done and of all.

    Returns:
        What became of each point, by CT.

    Raises:
        InputError: The checkpoint or the table cannot be read, the device does not exist, or the
            files cannot be written.
    """
    trained = read_checkpoint(checkpoint)
    network = load_network(trained, pick_device(device))
    by_image: dict[Path, list[Point]] = {}
    for point in read_points(table):
        by_image.setdefault(point.image, []).append(point)
    total = sum(map(len, by_image.values()))
    found: list[PredictedPoint] = []
    for image, points in by_image.items():
        try:
            ct = _read_hounsfield(image, settings)
        except InputError as error:
            found += [PredictedPoint.refused(point, error) for point in points]
            progress(len(found), total)
            continue
        for point in points:
            place, folder = Place(point.voxel), out / point.name
            try:
                place.within(ct.grid, window_mm(trained))
            except InputError as error:
                found.append(PredictedPoint.refused(point, error))
            else:
                files = _predict(network, trained, ct, image, place, folder, settings)
                state: Literal["found", "no nodule"] = "found" if files.files else "no nodule"
                known = (state, round(files.highest_alpha, 4), files.volume_mm3)
                found.append(PredictedPoint(point.name, image.name, *point.voxel, *known))
            progress(len(found), total)
    write_output(out / "predictions.csv", to_csv(PredictedPoint, found))
    return found


def _read_hounsfield(image: Path, settings: PredictionSettings) -> CtVolume:
    ct = read_ct(image, settings.slices, EVERYTHING_ALLOWED)
    if settings.hu_check:
        check_hounsfield(ct.image_hu, ct.valid, remedy=HU_REMEDY)
    return ct


def _predict(
    network: MattingNetwork,
    trained: Checkpoint,
    ct: CtVolume,
    image: Path,
    place: Place,
    out: Path,
    settings: PredictionSettings,
    progress: Callable[[int, int], None] = lambda _, __: None,
) -> PredictedFiles:
    """Predict a place of a CT and write its files."""
    box = place.within(ct.grid, window_mm(trained))
    if place.kind == "whole":
        volumes = predict_whole(network, trained, ct, flips=settings.flips, progress=progress)
    elif place.kind == "box" or settings.all_lesions:
        volumes = predict_box(network, trained, ct, box, flips=settings.flips)
    else:
        lesion = predict_lesion(network, trained, ct, place, flips=settings.flips)
        if not lesion.volumes:
            return PredictedFiles((), lesion.alpha_at_point, None)
        box, volumes = lesion.box, lesion.volumes
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
    alpha = volumes["alpha"]
    volume_mm3 = round(float(alpha.sum(dtype=np.float64)) * math.prod(ct.grid.spacing_mm), 1)
    return PredictedFiles(tuple(files), float(alpha.max()), volume_mm3)


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

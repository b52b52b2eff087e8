"""Predict the matte of a CT: read, resample, predict, resample back, write."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from matting.errors import InputError
from matting.geometry.box import Box
from matting.geometry.hounsfield import check_hounsfield
from matting.geometry.resample import resample_back, resample_image
from matting.learned.network import MattingNetwork
from matting.learned.prediction import Prediction, predict
from matting.learned.training import pick_device
from matting.parameters import ResampleSettings
from storage.output import remove_incomplete, write_output
from storage.recipe import EVERYTHING_ALLOWED
from storage.results.checkpoints import Checkpoint, read_checkpoint
from storage.sources.base import REFUSE_ODD
from storage.sources.ct import CtVolume, read_ct, write_volume
from tasks.learning.load import load_network

DEFAULT_SIDE_MM = 64.0
"""Side of the box around a point; about that of the crops that the network was trained on."""
MASK_THRESHOLD = 0.5
"""Probability from which a voxel belongs to a mask."""
HU_REMEDY = (
    "Convert it to HU, or give the original CT; where the values are right, use --no-hu-check."
)


@dataclass(frozen=True, slots=True)
class PixelBox:
    """The part of a CT to predict."""

    first: tuple[int, int, int] | None = None
    """Voxel (z, y, x): a point, or the first of a box; None for the whole CT."""
    last: tuple[int, int, int] | None = None
    """The last voxel of a box; None for a point."""

    @staticmethod
    def parse(point: str | None, box: str | None) -> "PixelBox":
        """Parse a point ``z,y,x`` or a box ``z,y,x,z,y,x``.

        Raises:
            InputError: Both are given, or one cannot be parsed.
        """
        if point and box:
            raise InputError(
                "point and box exclude each other",
                got="both",
                expected="one of them",
                remedy="Omit --point or --box.",
            )
        if point:
            z, y, x = _numbers(point, 3, "--point")
            return PixelBox((z, y, x))
        if box:
            z, y, x, c, b, a = _numbers(box, 6, "--box")
            return PixelBox((z, y, x), (c, b, a))
        return PixelBox()

    def within(self, ct: CtVolume) -> Box:
        """Return the box of voxels; raise InputError if it is not in the CT."""
        if self.first is None:
            z, y, x = (slice(0, size) for size in ct.grid.shape)
            return z, y, x
        last = self.last or self.first
        reach = [0, 0, 0]
        if self.last is None:
            reach = [round(DEFAULT_SIDE_MM / 2 / spacing) for spacing in ct.grid.spacing_mm]
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
        sides = zip(self.first, last, reach, ct.grid.shape, strict=True)
        z, y, x = (slice(max(0, a - r), min(n, b + r + 1)) for a, b, r, n in sides)
        return z, y, x


def predict_file(
    checkpoint: str,
    image: Path,
    place: PixelBox,
    out: Path,
    device: str = "auto",
    *,
    hu_check: bool = True,
    slices: ResampleSettings = REFUSE_ODD,
) -> list[Path]:
    """Estimate the matte of a CT in a file or DICOM folder, and write it.

    `alpha.nii.gz` holds 0..1, `overlap.nii.gz` and `union.nii.gz` 0 and 1, all on the CT's voxels
    and 0 outside the part that was predicted. `about.json` describes the network.

    Args:
        checkpoint: Path or URL of the network's checkpoint.
        image: The CT.
        place: The part of it to predict.
        out: Folder for the files.
        device: auto, cpu, cuda, cuda:1.
        hu_check: Refuse a CT whose values cannot be HU.
        slices: What becomes of slices at changing distances and of slices that lean.

    Returns:
        The files written.

    Raises:
        InputError: The checkpoint or CT cannot be read or is not in HU, the place is not in the
            CT, the device does not exist, or the files cannot be written.
    """
    trained = read_checkpoint(checkpoint)
    ct = read_ct(image, slices, EVERYTHING_ALLOWED)
    if hu_check:
        check_hounsfield(ct.image_hu, ct.valid, remedy=HU_REMEDY)
    box = place.within(ct)
    network = load_network(trained, pick_device(device))
    files = []
    for name, values in predict_box(network, trained, ct, box):
        volume = np.zeros(ct.grid.shape, values.dtype)
        volume[box] = values
        files.append(out / f"{name}.nii.gz")
        write_volume(files[-1], volume, ct.grid)
    files.append(out / "about.json")
    write_output(files[-1], (json.dumps(_about(trained, image, box), indent=1) + "\n").encode())
    remove_incomplete(out)
    return files


def predict_box(
    network: MattingNetwork, checkpoint: Checkpoint, ct: CtVolume, box: Box
) -> list[tuple[str, NDArray[np.generic]]]:
    """Predict a box of a CT on isotropic voxels, and resample the result to the CT's.

    Args:
        network: The network.
        checkpoint: Its checkpoint, which has spacing and intensity range.
        ct: The CT.
        box: The voxels to predict.

    Returns:
        Name and values, of the box's shape, of each volume.
    """
    grid = ct.grid.window((box[0].start, box[1].start, box[2].start), ct.image_hu[box].shape)
    spacing_mm = checkpoint.config.spacing_mm
    low, high = checkpoint.config.intensity_range_hu
    image, valid, _ = resample_image(
        ct.image_hu[box], ct.valid[box], grid, ResampleSettings(spacing_mm=spacing_mm)
    )
    found: Prediction = predict(network, image, valid, (low, high))

    def back(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.where(
            ct.valid[box],
            np.clip(resample_back(values, (spacing_mm,) * 3, grid), 0, 1),
            np.float32(0),
        )

    volumes: list[tuple[str, NDArray[np.generic]]] = [("alpha", back(found.alpha))]
    for name, mask in (("overlap", found.overlap), ("union", found.union)):
        if mask is not None:
            volumes.append((name, (back(mask) >= MASK_THRESHOLD).astype(np.uint8)))
    return volumes


def _about(checkpoint: Checkpoint, image: Path, box: Box) -> dict[str, object]:
    return {
        "image": image.name,
        "first_voxel_zyx": [side.start for side in box],
        "last_voxel_zyx": [side.stop - 1 for side in box],
        "network": checkpoint.label,
        "checkpoint": checkpoint.digest,
        "trained_on_release": checkpoint.config.release,
        "trained_on_mattes": checkpoint.config.learned,
        "trained_on_stand_in": checkpoint.config.synthetic,
        "note": "Research software. Not for diagnosis or treatment.",
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

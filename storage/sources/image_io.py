"""Read volume files (NIfTI, NRRD, MHA) as arrays (z, y, x) on a grid."""

import re
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from matting.errors import InputError
from matting.geometry.grid import Grid, Vector
from matting.geometry.patch import AIR_HU
from storage.sources.dicom_file import PREAMBLE_BYTES
from storage.sources.nifti_file import check_agreement, read_nifti

LATTICE_TOLERANCE_MM = 0.05
"""Farthest that two lattices held for the same may lie apart at any corner; headers carry 4 to 7
digits."""

PADDING_BELOW_HU = -1024.0
"""No tissue and no air is below; scanners fill the corners outside their field of view with such
values."""

_OLD_PAIRS = (".hdr", ".img", ".hdr.gz", ".img.gz")

_OTHER_FORMATS = {
    b"version https://git-lfs": ("a Git LFS pointer", "Run `git lfs pull`."),
    b"PK\x03\x04": ("a zip archive", "Unpack it, and give the volume in it."),
    b"\x93NUMPY": ("a NumPy array, without geometry", "Write it as NIfTI with its geometry."),
    b"\x89HDF": ("an HDF5 file", "Write the volume as NIfTI with its geometry."),
    b"<": ("a text file", "Give the volume itself."),
}
"""What some files are that stand in the place of volumes, by their first bytes, and what to do."""


@dataclass(frozen=True, slots=True)
class Volume:
    """One volume file."""

    grid: Grid
    values: NDArray[Any]
    """(z, y, x) as stored: integers or floats."""


def read_volume(path: Path, what: str) -> Volume:
    """Read one file.

    Args:
        path: The file.
        what: What it is, for the messages, e.g. ``"the CT"``.

    Returns:
        Its voxels in stored order and the grid they lie on.

    Raises:
        InputError: Where there is no such file, or it is no volume with one number per voxel.
    """
    if not path.is_file():
        remedy = "Check the path in the table; it is relative to the table's folder."
        raise InputError(f"{what} is not there", got=path, expected="a volume file", remedy=remedy)
    _check_format(path, what)
    try:
        nifti = read_nifti(path)
        stored = nifti.stored_values() if nifti else None
        affines = nifti.affines() if nifti else {}
    except (OSError, ValueError, KeyError, HeaderDataError) as error:
        raise _unreadable(path, what, str(error)) from error
    if nifti:
        check_agreement(affines, nifti.shape, path, what)
    try:
        image = sitk.ReadImage(str(path))
        grid, values = _grid(image, path, what), sitk.GetArrayFromImage(image)
    except RuntimeError as error:
        # ITK refuses a shear of 0.006 degrees, and a suffix in capitals and small letters
        if nifti is None or len(nifti.shape) != 3:
            raise _unreadable(path, what, _complaint(error)) from error
        grid, values = nifti.grid(), nifti.values()
    if stored is None:
        stored = values
    bad = int(np.count_nonzero(~np.isfinite(stored)))
    if bad:
        raise InputError(
            f"{what} holds voxels that are no numbers",
            got=f"{bad} of {values.size} NaN or infinite in {path}",
            expected="a number everywhere",
            remedy="Write a number instead; for CT that was not measured one below "
            f"{PADDING_BELOW_HU:.0f} HU.",
        )
    return Volume(grid, values)


def _check_format(path: Path, what: str) -> None:
    """Refuse what is known to be no volume in one file, and say what it is."""
    with path.open("rb") as stream:
        start = stream.read(PREAMBLE_BYTES + 4)
    found, remedy = "", ""
    if not start:
        found, remedy = "an empty file", "Write or copy the file again."
    elif path.name.lower().endswith(_OLD_PAIRS):
        found, remedy = "split over two files", "Write it as .nii.gz."
    elif start[PREAMBLE_BYTES:] == b"DICM":
        found, remedy = "a DICOM file", "Convert the series to NIfTI, e.g. with dcm2niix."
    for magic, (meaning, action) in _OTHER_FORMATS.items():
        if start.startswith(magic):
            found, remedy = meaning, action
    if found:
        raise InputError(
            f"{what} is {found}", got=path, expected="one NIfTI, NRRD or MHA file", remedy=remedy
        )


def _complaint(error: RuntimeError) -> str:
    """Return the line of ITK's message that says why, without addresses in memory."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    last = lines[-1].removeprefix("ITK ERROR:").strip() if lines else "ITK cannot read it"
    return re.sub(r"\(0x[0-9a-f]+\)", "", last)


def _unreadable(path: Path, what: str, complaint: str) -> InputError:
    return InputError(
        f"{what} cannot be read",
        got=f"{path}: {complaint}",
        expected="a whole NIfTI-1, NRRD or MHA file with orthogonal axes",
        remedy="Copy it again if it was cut short; else write it again from its source.",
    )


def _grid(image: Any, path: Path, what: str) -> Grid:
    values = image.GetNumberOfComponentsPerPixel()
    if image.GetDimension() != 3 or values != 1 or "complex" in image.GetPixelIDTypeAsString():
        raise InputError(
            f"{what} is not one volume of plain numbers",
            got=f"{path}: size {image.GetSize()}, {values} value(s) a voxel, "
            f"{image.GetPixelIDTypeAsString()}",
            expected="three axes and one number a voxel",
            remedy="Write the one volume that is meant to a file of its own.",
        )
    columns, rows, slices = image.GetSize()
    x, y, z = image.GetSpacing()
    axes = np.reshape(image.GetDirection(), (3, 3)).T
    return Grid(
        (slices, rows, columns),
        (z, y, x),
        _vector(np.array(image.GetOrigin())),
        (_vector(axes[2]), _vector(axes[1]), _vector(axes[0])),
    )


def _vector(values: NDArray[np.float64]) -> Vector:
    x, y, z = (values + 0.0).tolist()  # no negative zeros
    return x, y, z


def distance_mm(one: Grid, other: Grid) -> float:
    """Return the largest distance between corresponding corners of two lattices, in mm."""
    corners = np.array(list(product(*((0, n - 1) for n in one.shape))))
    return float(np.linalg.norm(one.to_patient(corners) - other.to_patient(corners), axis=1).max())


def place_alpha(alpha: Volume, grid: Grid, what: str) -> NDArray[np.float32]:
    """Lay a matte known in a box onto a grid whose voxels it shares; 0 outside the box.

    Args:
        alpha: The matte; its box may lie anywhere on the grid's lattice, also beyond the grid.
        grid: Where it is wanted.
        what: What it is, for the messages.

    Returns:
        The matte on the grid.

    Raises:
        InputError: Where it has another lattice, or holds anything but 0..1.
    """
    start = np.rint(grid.to_index(alpha.grid.origin_lps_mm)).astype(int)
    apart = distance_mm(
        alpha.grid, grid.window((int(start[0]), int(start[1]), int(start[2])), alpha.grid.shape)
    )
    if apart > LATTICE_TOLERANCE_MM:
        raise InputError(
            f"{what} has another lattice than the CT",
            got=f"corners {apart:.3f} mm off",
            expected=f"at most {LATTICE_TOLERANCE_MM} mm",
            remedy="Give it on the CT's own voxels.",
        )
    low, high = np.min(alpha.values), np.max(alpha.values)
    if low < 0 or high > 1:
        raise InputError(
            f"{what} is no matte",
            got=f"values {low}..{high}",
            expected="0..1",
            remedy="Write it again.",
        )
    placed = np.zeros(grid.shape, np.float32)
    stop = start + alpha.values.shape
    first, last = np.clip(start, 0, grid.shape), np.clip(stop, 0, grid.shape)
    inside = tuple(slice(a - s, b - s) for a, b, s in zip(first, last, start, strict=True))
    placed[tuple(slice(a, b) for a, b in zip(first, last, strict=True))] = alpha.values[inside]
    return placed


def without_padding(
    image_hu: NDArray[np.float32], padding: NDArray[np.bool_] | bool = False
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Put air where nothing was measured.

    Args:
        image_hu: Radiodensity as stored.
        padding: Voxels already known for padding; those below PADDING_BELOW_HU are found here.

    Returns:
        The image with AIR_HU on the padding, and the mask of what was measured.
    """
    valid = ~((image_hu < PADDING_BELOW_HU) | padding)
    return np.where(valid, image_hu, np.float32(AIR_HU)), valid

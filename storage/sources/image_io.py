"""Read volume files (NIfTI, NRRD, MHA) as arrays (z, y, x) on a grid."""

import gzip
import struct
import zlib
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from matting.errors import InputError
from matting.geometry.grid import Grid, Vector
from matting.geometry.patch import AIR_HU

LATTICE_TOLERANCE_MM = 0.05
"""Farthest that two lattices held for the same may lie apart at any corner; headers carry 4 to 7
digits."""

PADDING_BELOW_HU = -1024.0
"""No tissue and no air is below; scanners fill the corners outside their field of view with such
values."""

_OLD_PAIRS = (".hdr", ".img")

NIFTI_HEADER_BYTES = 348
"""What a NIfTI-1 file begins with; in the other order of bytes the file is big-endian."""


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
    if path.suffix in _OLD_PAIRS:
        remedy = "Write it as .nii.gz."
        raise InputError(
            f"{what} is split over two files",
            got=path,
            expected="a NIfTI file in one piece",
            remedy=remedy,
        )
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise _unreadable(path, what, str(error).strip().splitlines()[-1]) from error
    grid, values = _grid(image, path, what), sitk.GetArrayFromImage(image)
    stored = (
        _stored_nifti(path, values, what) if path.name.endswith((".nii", ".nii.gz")) else values
    )
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


def _stored_nifti(path: Path, values: NDArray[Any], what: str) -> NDArray[Any]:
    """Return the values as they stand in a NIfTI-1 file.

    ITK's NIfTI reader turns NaN and infinity into 0, and fills what a file that was cut short
    lacks, without a word.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            content = stream.read()
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, what, str(error)) from error
    order = "<" if int.from_bytes(content[:4], "little") == NIFTI_HEADER_BYTES else ">"
    kind, bits = struct.unpack_from(order + "hh", content, 70)
    start = int(struct.unpack_from(order + "f", content, 108)[0])
    if len(content) - start < values.size * bits // 8:
        raise _unreadable(
            path, what, f"{len(content) - start} of {values.size * bits // 8} bytes of voxels"
        )
    stored = {16: "f4", 64: "f8"}.get(kind)
    return np.frombuffer(content, order + stored, values.size, start) if stored else values


def _unreadable(path: Path, what: str, complaint: str) -> InputError:
    return InputError(
        f"{what} cannot be read",
        got=f"{path}: {complaint}",
        expected="a whole NIfTI-1, NRRD or MHA file with orthogonal axes",
        remedy="Write or copy the file again.",
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

"""Read volume files (NIfTI, NRRD, MHA) as arrays (z, y, x) on a grid."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from matting.errors import InputError
from matting.geometry.grid import Grid, Vector
from matting.geometry.patch import AIR_HU
from storage.sources.detached import voxel_files
from storage.sources.dicom_file import PREAMBLE_BYTES
from storage.sources.nifti_file import check_agreement, check_scale, read_nifti

PADDING_BELOW_HU = -1024.0
"""No tissue and no air is below; scanners fill the corners outside their field of view with such
values."""

_DRIVE = re.compile(r"[A-Za-z]:\\")
_OLD_PAIRS = (".hdr", ".img", ".hdr.gz", ".img.gz")

_ITK_COMPLAINTS = {
    "Unable to determine ImageIO": "neither its content nor its suffix is that of a volume",
    "Reason: No such file": "it ends early, or the file with its voxels is missing",
    "Reason: Success": "it ends early",
    "orthonormal": "axes that are not orthogonal",
}
"""What ITK says, and what it means."""

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
    """One volume."""

    grid: Grid
    values: NDArray[Any]
    """(z, y, x) as stored: integers, floats or truth values."""


@dataclass(frozen=True, slots=True)
class Stack:
    """What one file holds: a volume, or several on one grid."""

    grid: Grid
    values: NDArray[Any]
    """(layers, z, y, x) as stored."""
    tags: Mapping[str, str]
    """What an NRRD file says beside its geometry, by name."""
    size: str
    """As the file states it, for messages."""


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
    stack = read_stack(path, what)
    if len(stack.values) != 1:
        raise _no_volume(path, what, stack.size)
    return Volume(stack.grid, stack.values[0])


def read_stack(path: Path, what: str) -> Stack:
    """Read a file that may hold several volumes: along a fourth axis, or as values of a voxel.

    Args:
        path: The file.
        what: What it is, for the messages.

    Raises:
        InputError: Where there is no such file, or it holds no volumes of plain numbers.
    """
    if not path.is_file():
        raise InputError(
            f"{what} is not there",
            got=path,
            expected="a volume file",
            remedy="Check the path; in a table it is relative to the table's folder. "
            + ("It is one of Windows with a drive." if _DRIVE.match(path.name) else ""),
        )
    _check_format(path, what)
    try:
        nifti = read_nifti(path)
        stored = nifti.stored_values() if nifti else None
        affines = nifti.affines() if nifti else {}
    except (OSError, ValueError, KeyError, HeaderDataError) as error:
        raise _unreadable(path, what, str(error)) from error
    if nifti:
        check_agreement(affines, nifti.shape, path, what)
        check_scale(nifti.header, path, what)
    try:
        stack = _stack(sitk.ReadImage(str(path)), path, what)
    except RuntimeError as error:
        # ITK refuses a shear of 0.006 degrees, and a suffix in capitals and small letters
        if nifti is None or len(nifti.shape) != 3:
            raise _unreadable(path, what, _complaint(error)) from error
        stack = Stack(nifti.grid(), nifti.values()[None], {}, f"size {nifti.shape[::-1]}")
    bad = int(np.count_nonzero(~np.isfinite(stack.values if stored is None else stored)))
    if bad:
        raise InputError(
            f"{what} holds voxels that are no numbers",
            got=f"{bad} of {stack.values.size} NaN or infinite in {path}",
            expected="a number everywhere",
            remedy="Write a number instead; for CT that was not measured one below "
            f"{PADDING_BELOW_HU:.0f} HU.",
        )
    return stack


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
        found, remedy = "a DICOM file", "Convert it to NIfTI."
    missing = [file for file in voxel_files(path) if not file.exists()]
    if missing:
        found, remedy = f"a header without its voxels in {missing[0]}", "Copy both files."
    for magic, (meaning, action) in _OTHER_FORMATS.items():
        if start.startswith(magic):
            found, remedy = meaning, action
    if found:
        raise InputError(
            f"{what} is {found}", got=path, expected="one NIfTI, NRRD or MHA file", remedy=remedy
        )


def _complaint(error: RuntimeError) -> str:
    """Return why ITK cannot read a file, in words."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    for sign, meaning in _ITK_COMPLAINTS.items():
        if sign in last:
            return meaning
    last = re.sub(r'"[^"]*"', '"..."', last)  # a header's content, which may name people
    return re.sub(r"^\[nrrd\] \w+: |^ITK ERROR: (\w+\(0x[0-9a-f]+\): )?", "", last)


def _unreadable(path: Path, what: str, complaint: str) -> InputError:
    return InputError(
        f"{what} cannot be read",
        got=f"{path}: {complaint}",
        expected="a whole NIfTI-1, NRRD or MHA file with orthogonal axes",
        remedy="Copy it again if it was cut short; else write it again from its source.",
    )


def _no_volume(path: Path, what: str, size: str) -> InputError:
    return InputError(
        f"{what} is not one volume of plain numbers",
        got=f"{path}: {size}",
        expected="three axes and one number a voxel",
        remedy="Write the one volume that is meant to a file of its own.",
    )


def _stack(image: Any, path: Path, what: str) -> Stack:
    values = image.GetNumberOfComponentsPerPixel()
    axes = image.GetDimension()
    kind = image.GetPixelIDTypeAsString()
    size = f"size {image.GetSize()}, {values} value(s) a voxel, {kind}"
    if axes not in (3, 4) or (axes == 4 and values > 1) or "complex" in kind:
        raise _no_volume(path, what, size)
    array = sitk.GetArrayFromImage(image)
    if axes == 3:
        array = array[None] if values == 1 else np.moveaxis(array, -1, 0)
    columns, rows, slices = image.GetSize()[:3]
    x, y, z = image.GetSpacing()[:3]
    directions = np.reshape(image.GetDirection(), (axes, axes))[:3, :3].T
    grid = Grid(
        (slices, rows, columns),
        (z, y, x),
        _vector(np.array(image.GetOrigin()[:3])),
        (_vector(directions[2]), _vector(directions[1]), _vector(directions[0])),
    )
    tags = {key: str(image.GetMetaData(key)) for key in image.GetMetaDataKeys()}
    return Stack(grid, array, tags, size)


def _vector(values: NDArray[np.float64]) -> Vector:
    x, y, z = (values + 0.0).tolist()  # no negative zeros
    return x, y, z


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

"""Mattes that somebody predicted for nodules of a release: one NIfTI or npz file for each."""

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from matting.errors import InputError
from matting.geometry.alignment import place_on_grid
from matting.geometry.grid import Grid
from storage.sources.image_io import Volume, read_volume

SUFFIXES = (".nii.gz", ".nii", ".npz")
VALUE_TOLERANCE = 1e-5
"""How far beyond 0..1 rounding may carry a value; such values are clipped."""
ARRAY = "alpha"
"""Name of the matte in an npz file with several arrays."""
GEOMETRY = ("spacing_mm", "origin_lps_mm", "axes_lps")
"""Names of its geometry, as `halosign release export --format npz` writes them."""
VOXELS_AT_MOST = 1_000_000_000
"""A larger volume is not unpacked to cut a nodule out of it; a whole CT has about half as many."""
_NOT_NPZ = (
    *(ValueError, OSError, EOFError, KeyError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error),
)
"""What the libraries raise on files that are damaged, encrypted or no npz files."""
_WHAT = "the prediction"


@dataclass(frozen=True, slots=True)
class PredictionFolder:
    """What a folder of predictions holds."""

    files: Mapping[str, tuple[Path, ...]]
    """Files by the name of the nodule, sorted."""
    others: tuple[Path, ...]
    """What is no prediction by its name; hidden files are not listed."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """A predicted matte on the grid of its nodule."""

    matte: NDArray[np.float64]
    """(z, y, x) in 0..1."""
    has_geometry: bool
    """Whether the file states its grid; otherwise only its shape could be compared."""


def list_predictions(folder: Path) -> PredictionFolder:
    """List the predictions of a folder.

    Raises:
        InputError: There is no such folder, or no prediction in it.
    """
    if not folder.is_dir():
        raise InputError(
            "there are no predictions",
            got=folder,
            expected="a folder",
            remedy="Give the folder with one file for each nodule.",
        )
    files: dict[str, tuple[Path, ...]] = {}
    others = []
    for path in sorted(folder.iterdir()):
        suffix = next((one for one in SUFFIXES if path.name.endswith(one)), "")
        name = path.name.removesuffix(suffix)
        if path.name.startswith("."):
            continue
        if suffix and path.is_file():
            files[name] = (*files.get(name, ()), path)
        else:
            others.append(path)
    if not files:
        raise InputError(
            "there are no predictions",
            got=f"{len(others)} other files or folders in {folder}",
            expected="NODULE.nii.gz, NODULE.nii or NODULE.npz",
            remedy="Name each file by its nodule, as `halosign release show` lists them.",
        )
    return PredictionFolder(files, tuple(others))


def read_prediction(path: Path, target: Grid) -> Prediction:
    """Read a predicted matte on the grid of its nodule, without interpolation.

    Args:
        path: NIfTI, or npz with one array, or `ARRAY` among several; (z, y, x). With `GEOMETRY`
            its grid is compared, else only its shape can be.
        target: Grid of the nodule in the release.

    Raises:
        InputError: It cannot be read, does not fit the grid, or holds other values.
    """
    if path.suffix == ".npz":
        values, has_geometry = _read_npz(path, target)
    else:
        volume = _read_volume(path)
        values = place_on_grid(volume.values, volume.grid, target, _WHAT)
        has_geometry = True
    if values.dtype.kind not in "biuf":
        raise InputError(
            f"{_WHAT} holds no numbers",
            got=f"{values.dtype} in {path.name}",
            expected="real numbers in 0..1",
            remedy="Write the matte as float32.",
        )
    matte = np.ascontiguousarray(values, np.float64)
    bad = int(np.count_nonzero(~np.isfinite(matte)))
    if bad:
        raise InputError(
            f"{_WHAT} holds voxels that are no numbers",
            got=f"{bad} of {matte.size} NaN or infinite in {path.name}",
            expected="a number everywhere",
            remedy="Write 0 where there is no lesion.",
        )
    low, high = float(matte.min()), float(matte.max())
    if low < -VALUE_TOLERANCE or high > 1 + VALUE_TOLERANCE:
        raise InputError(
            f"{_WHAT} has values outside 0..1",
            got=f"{low:g} to {high:g} in {path.name}",
            expected="the share of lesion, 0..1",
            remedy=_remedy(values.dtype, high),
        )
    return Prediction(np.clip(matte, 0, 1), has_geometry)


def _remedy(dtype: np.dtype[Any], high: float) -> str:
    if dtype.kind in "iu" or high in {100.0, 255.0, 65535.0}:
        return "Divide every prediction by the one value that means 1, such as 255."
    return "Apply the sigmoid if these are logits; do not rescale each nodule by its own range."


def _read_volume(path: Path) -> Volume:
    """Read a NIfTI file; messages name it without its folder, for they enter a page."""
    try:
        return read_volume(path, _WHAT)
    except InputError as error:
        raise InputError(
            error.what,
            got=str(error.got).replace(str(path), path.name),
            expected=error.expected,
            remedy=error.remedy,
        ) from error


def _read_npz(path: Path, target: Grid) -> tuple[NDArray[Any], bool]:
    """Return the matte and whether the file states its grid."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            arrays = [name for name in names if name not in GEOMETRY]
            name = ARRAY if ARRAY in arrays else arrays[0] if len(arrays) == 1 else None
            if name is None:
                raise InputError(
                    f"{_WHAT} is not one array",
                    got=f"{', '.join(one[:40] for one in names[:8]) or 'nothing'} in {path.name}",
                    expected=f"an array `{ARRAY}`, or one array alone",
                    remedy=f"Write it with np.savez_compressed(path, {ARRAY}=matte).",
                )
            known = [one for one in GEOMETRY if one in names]
            shape = _shape(archive, name)
            if not known or len(shape) != 3:
                _check_shape(shape, target, path)
                return _array(archive, name), False
            if len(known) < len(GEOMETRY):
                raise InputError(
                    f"{_WHAT} has an incomplete geometry",
                    got=f"{', '.join(known)} in {path.name}",
                    expected=f"all of {', '.join(GEOMETRY)}, or none",
                    remedy="Copy the geometry of the exported nodule.",
                )
            grid = _grid(archive, shape)
            if np.prod(shape, dtype=float) > VOXELS_AT_MOST:
                _check_shape(shape, target, path)  # before it is unpacked
            return place_on_grid(_array(archive, name), grid, target, _WHAT), True
    except InputError:
        raise
    except _NOT_NPZ as error:
        raise InputError(
            f"{_WHAT} cannot be read",
            got=f"{path.name}: {error}",
            expected="an npz file with an array of real numbers",
            remedy="Copy it again if it was cut short; else write it again from its source.",
        ) from error


def _check_shape(shape: tuple[int, ...], target: Grid, path: Path) -> None:
    if shape != target.shape:
        raise InputError(
            f"{_WHAT} has another shape than the nodule",
            got=f"{shape} in {path.name}",
            expected=f"{target.shape} (z, y, x)",
            remedy="Write the matte on the grid of the release, axes in the order z, y, x.",
        )


def _grid(archive: zipfile.ZipFile, shape: tuple[int, ...]) -> Grid:
    sizes = {"spacing_mm": (3,), "origin_lps_mm": (3,), "axes_lps": (3, 3)}
    wrong = [name for name, size in sizes.items() if _shape(archive, name) != size]
    if wrong:
        raise ValueError(f"{', '.join(wrong)} does not have the shape of a grid's")
    spacing, origin, axes = (_array(archive, name).astype(float).tolist() for name in sizes)
    z, y, x = shape
    return Grid((z, y, x), tuple(spacing), tuple(origin), tuple(axes))


def _shape(archive: zipfile.ZipFile, name: str) -> tuple[int, ...]:
    """Return the shape of an array without unpacking it, so that none fills the memory."""
    with archive.open(f"{name}.npy") as stream:
        shape, _, _ = _header(cast(BinaryIO, stream))
    return shape


def _header(stream: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    if np.lib.format.read_magic(stream) == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    return np.lib.format.read_array_header_2_0(stream)


def _array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    with archive.open(f"{name}.npy") as stream:
        values: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
    return values

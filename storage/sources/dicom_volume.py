"""A few neighbouring slices of a CT series as one piece of CT in HU on a grid."""

import hashlib
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset

from matting.errors import InputError
from matting.geometry.grid import ORTHOGONALITY_TOLERANCE, Grid, Vector
from storage.sources.dicom_series import POSITION_TOLERANCE_MM, Series, SliceHeader
from storage.sources.image_io import without_padding

ALIKE_TOLERANCE = 1e-4
"""Largest difference between the slices' direction cosines, or between their pixel spacings in mm."""

_ALIKE = {"shape": "size", "pixel_spacing_mm": "pixel spacing", "orientation": "orientation"}

_UNDECODABLE = (
    RuntimeError,
    NotImplementedError,
    ValueError,
    AttributeError,
    KeyError,
    OSError,
    TypeError,
)
"""What pydicom raises where no decoder is at hand, or the stream is broken."""


@dataclass(frozen=True, slots=True)
class SliceStack:
    """Whole slices of a series, evenly spaced."""

    grid: Grid
    image_hu: NDArray[np.float32]
    """Radiodensity by each slice's own slope and intercept; air where not valid."""
    valid: NDArray[np.bool_]
    slices: tuple[SliceHeader, ...]
    sha256: tuple[str, ...]
    """Of each slice's file, in the order of the slices."""


def read_slice_stack(series: Series, first: int, stop: int) -> SliceStack:
    """Read the slices `first` to `stop` (not included) of a series.

    Raises:
        InputError: Where they are not one even lattice, or pixels are missing or cannot be decoded.
    """
    headers = series.slices[first:stop]
    grid = _lattice(series, headers)
    image = np.empty(grid.shape, np.float32)
    valid = np.empty(grid.shape, np.bool_)
    digests = []
    for k, header in enumerate(headers):
        content = _content(header)
        digests.append(hashlib.sha256(content).hexdigest())
        image[k], valid[k] = _decode(header, content)
    return SliceStack(grid, image, valid, headers, tuple(digests))


def _lattice(series: Series, headers: tuple[SliceHeader, ...]) -> Grid:
    _check_alike(headers)
    positions = np.array([header.position_lps_mm for header in headers])
    normal = np.asarray(series.normal)
    along = positions @ normal
    step = _step_mm(series, along)
    drift = (
        (positions[-1] - positions[0]) / ((len(headers) - 1) * step) if len(headers) > 1 else normal
    )
    # a stack that leans (tilted gantry) keeps its drift as z axis, and the grid refuses it
    upright = np.abs(drift - normal).max() <= ORTHOGONALITY_TOLERANCE
    between_rows, between_columns = headers[0].pixel_spacing_mm
    return Grid(
        (len(headers), *_pair(headers[0].shape)),
        (step, between_rows, between_columns),
        headers[0].position_lps_mm,
        (
            _vector(normal if upright else drift),
            _vector(headers[0].orientation[3:]),
            _vector(headers[0].orientation[:3]),
        ),
    )


def _step_mm(series: Series, along: NDArray[np.float64]) -> float:
    """Return the even distance of slices at the positions `along`, or refuse."""
    steps = np.diff(along)
    # two slices alone cannot show a gap between them: they are held against the whole series
    usual = float(np.median(steps)) if len(steps) > 1 else series.step_mm()
    if not np.isfinite(usual):
        raise InputError(
            "the series has a single slice",
            got=series.slices[0].path,
            expected="two or more, to know their distance",
            remedy=f"Fetch the whole series {series.uid}.{series.ignored_files()}",
        )
    uneven = np.flatnonzero(np.abs(steps - usual) > POSITION_TOLERANCE_MM)
    if len(uneven):
        k = int(uneven[np.argmax(np.abs(steps[uneven] - usual))])
        raise InputError(
            "a gap between the slices that the nodule needs"
            if steps[k] > usual
            else "unevenly spaced slices",
            got=f"{steps[k]:.3f} mm between positions {along[k]:.3f} and {along[k + 1]:.3f} mm",
            expected=f"{usual:.3f} mm",
            remedy=f"Fetch the whole series {series.uid} again, or leave the nodule out.{series.ignored_files()}",
        )
    return float((along[-1] - along[0]) / len(steps)) if len(steps) else usual


def _check_alike(headers: tuple[SliceHeader, ...]) -> None:
    for name, meaning in _ALIKE.items():
        usual = getattr(headers[0], name)
        for header in headers:
            if not np.allclose(getattr(header, name), usual, rtol=0, atol=ALIKE_TOLERANCE):
                raise InputError(
                    f"the slices differ in {meaning}",
                    got=f"{getattr(header, name)} in {header.path.name}",
                    expected=f"{usual} as in {headers[0].path.name}",
                    remedy="The series mixes acquisitions; fetch it again, or leave the nodule out.",
                )


def _vector(values: ArrayLike) -> Vector:
    x, y, z = np.asarray(values, np.float64).tolist()
    return x, y, z


def _pair(values: tuple[int, ...]) -> tuple[int, int]:
    rows, columns = values
    return rows, columns


def _content(header: SliceHeader) -> bytes:
    try:
        return header.path.read_bytes()
    except OSError as error:
        raise InputError(
            "a slice cannot be read",
            got=f"{header.path}: {error.strerror}",
            expected="a readable file",
            remedy="Check the archive's disk and permissions.",
        ) from error


def _decode(header: SliceHeader, content: bytes) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    try:
        return _radiodensity(header, dcmread(BytesIO(content)))
    except InputError:
        raise
    except (
        Exception
    ) as error:  # a file that ends within its header raises whatever pydicom stumbles over
        raise InputError(
            "a slice is broken",
            got=f"{header.path}: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
            expected="a whole DICOM file",
            remedy="Fetch it again.",
        ) from error


def _radiodensity(
    header: SliceHeader, dataset: Dataset
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return one slice in HU and where it was measured."""
    stored = _stored_values(header, dataset)
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    if slope in (None, "") or intercept in (None, ""):
        raise InputError(
            "a slice does not say how to turn its values into HU",
            got=f"RescaleSlope {slope}, RescaleIntercept {intercept} in {header.path}",
            expected="both numbers",
            remedy="Fetch the series again; only CT in HU can be worked on.",
        )
    image = (stored * float(slope) + float(intercept)).astype(np.float32)
    return without_padding(image, _tagged_padding(dataset, stored))


def _stored_values(header: SliceHeader, dataset: Dataset) -> NDArray[np.int64]:
    _check_length(header, dataset)
    try:
        stored = dataset.pixel_array
    except _UNDECODABLE as error:
        syntax = dataset.file_meta.TransferSyntaxUID
        raise InputError(
            "the pixels of a slice cannot be decoded",
            got=f"{syntax.name} in {header.path}: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
            expected="uncompressed pixels, or a compression that pydicom can decode here",
            remedy="Install pylibjpeg with its plugins, or decompress the series (e.g. gdcmconv --raw).",
        ) from error
    if stored.shape != header.shape:
        raise InputError(
            "a slice is no single grey image",
            got=f"pixels of shape {stored.shape} in {header.path}",
            expected=header.shape,
            remedy="Only classic CT with one image a file can be worked on.",
        )
    return np.asarray(stored, np.int64)


def _check_length(header: SliceHeader, dataset: Dataset) -> None:
    """Raise InputError for a file that ends before its pixels do."""
    got = len(dataset.get("PixelData") or b"")
    expected = dataset.Rows * dataset.Columns * dataset.get("BitsAllocated", 16) // 8
    if got == 0 or (got < expected and not dataset.file_meta.TransferSyntaxUID.is_compressed):
        raise InputError(
            "the pixels of a slice are cut short",
            got=f"{got} bytes in {header.path}",
            expected=f"{expected} bytes",
            remedy="The file was not copied whole; fetch it again.",
        )


def _tagged_padding(dataset: Dataset, stored: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return the stored values, one or a range, that the header declares to be padding."""
    value, limit = dataset.get("PixelPaddingValue"), dataset.get("PixelPaddingRangeLimit")
    if value in (None, ""):
        return np.zeros(stored.shape, np.bool_)
    ends = [_as_stored(dataset, end) for end in (value, limit) if end not in (None, "")]
    return (stored >= min(ends)) & (stored <= max(ends))


def _as_stored(dataset: Dataset, value: int) -> int:
    # some writers give the tag as unsigned beside signed pixels: 63536 stands for -2000
    return value - 2**16 if dataset.PixelRepresentation == 1 and value >= 2**15 else value

"""A few neighbouring slices of a CT series as one piece of CT in HU on a grid."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from matting.errors import InputError
from matting.geometry.grid import ORTHOGONALITY_TOLERANCE, Grid, Vector
from storage.sources.dicom_headers import SliceHeader
from storage.sources.dicom_pixels import SliceReader
from storage.sources.dicom_series import Series
from storage.sources.image_sets import POSITION_TOLERANCE_MM

ALIKE_TOLERANCE = 1e-4
"""Largest difference between slices in direction cosines, or in pixel spacing (mm)."""

_ALIKE = {"shape": "size", "pixel_spacing_mm": "pixel spacing", "orientation": "orientation"}


@dataclass(frozen=True, slots=True)
class SliceStack:
    """Whole slices of a series, evenly spaced."""

    grid: Grid
    image_hu: NDArray[np.float32]
    """Radiodensity by each slice's own slope and intercept; air where not valid."""
    valid: NDArray[np.bool_]
    slices: tuple[SliceHeader, ...]
    sha256: tuple[str, ...]
    """Of each slice's file (of a frame: of the file and its index), in the order of the slices."""
    image_set: str = ""
    """Which of the series' image sets they are; empty where the series is one set."""


def read_slice_stack(series: Series, first: int, stop: int) -> SliceStack:
    """Read the slices `first` to `stop` (not included) of a series.

    Raises:
        InputError: Where the series has several images at one position, or the slices are not one
            even lattice, or pixels are missing or cannot be decoded.
    """
    _check_one_image(series)
    headers = series.slices[first:stop]
    grid = _lattice(series, headers)
    image = np.empty(grid.shape, np.float32)
    valid = np.empty(grid.shape, np.bool_)
    digests = []
    reader = SliceReader()
    for k, header in enumerate(headers):
        pixels, sha256 = reader.read(header)
        digests.append(sha256)
        image[k], valid[k] = pixels.image_hu, pixels.valid
    return SliceStack(grid, image, valid, headers, tuple(digests), series.image_set)


def _check_one_image(series: Series) -> None:
    if series.ambiguous_positions:
        positions = len(np.unique(np.round(series.positions_mm() / POSITION_TOLERANCE_MM)))
        raise InputError(
            "the series has several images at one position",
            got=f"different images at {series.ambiguous_positions} of {positions} positions of "
            f"{series.uid}, which no attribute tells apart as whole sets",
            expected="one image a position, or sets with an AcquisitionNumber, ImageType, "
            "ConvolutionKernel or geometry of their own",
            remedy="Keep the files of the one acquisition or reconstruction that the readers saw.",
        )


def _lattice(series: Series, headers: tuple[SliceHeader, ...]) -> Grid:
    _check_alike(headers)
    positions = np.array([header.position_lps_mm for header in headers])
    normal = np.asarray(series.normal)
    along = positions @ normal
    step = _step_mm(series, along)
    drift = (
        (positions[-1] - positions[0]) / ((len(headers) - 1) * step) if len(headers) > 1 else normal
    )
    _check_straight(headers, positions, drift * step, normal)
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


def _check_straight(
    headers: tuple[SliceHeader, ...],
    positions: NDArray[np.float64],
    advance_mm: NDArray[np.float64],
    normal: NDArray[np.float64],
) -> None:
    """Raise InputError where slices step aside from the line through the first and the last."""
    line = positions[0] + np.arange(len(headers))[:, None] * advance_mm
    offset = positions - line
    in_plane = offset - (offset @ normal)[:, None] * normal
    aside = np.linalg.norm(in_plane, axis=1)
    k = int(aside.argmax())
    if aside[k] > POSITION_TOLERANCE_MM:
        raise InputError(
            "slices step aside from their stack",
            got=f"{headers[k].path.name} at {_triple(positions[k])} mm",
            expected=f"{_triple(line[k])} mm, on the line through the first and the last slice",
            remedy="The series mixes acquisitions or was edited; fetch it again, or leave the "
            "nodule out.",
        )


def _triple(point: NDArray[np.float64]) -> str:
    return "({:.3f}, {:.3f}, {:.3f})".format(*point)


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
            remedy=f"Fetch the whole series {series.uid} again, or leave the nodule "
            f"out.{series.ignored_files()}",
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
                    remedy="The series mixes acquisitions; fetch it again, or leave the nodule "
                    "out.",
                )


def _vector(values: ArrayLike) -> Vector:
    x, y, z = np.asarray(values, np.float64).tolist()
    return x, y, z


def _pair(values: tuple[int, ...]) -> tuple[int, int]:
    rows, columns = values
    return rows, columns

"""A few neighbouring slices of a CT series as one piece of CT in HU on an even, upright grid."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from matting.errors import InputError
from matting.geometry.grid import ORTHOGONALITY_TOLERANCE, Grid, Vector
from matting.geometry.restack import Restacking
from matting.parameters import ResampleSettings
from storage.recipe import NOTHING_ALLOWED, SourceSettings
from storage.sources.dicom_headers import SliceHeader
from storage.sources.dicom_pixels import SliceReader
from storage.sources.dicom_series import Series
from storage.sources.image_sets import POSITION_TOLERANCE_MM

ALIKE_TOLERANCE = 1e-4
"""Largest difference between slices in direction cosines, or in pixel spacing (mm)."""

_REFUSE = ResampleSettings()
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
    restacking: Restacking | None = None
    """How the slices came onto the grid; None where each is a slice of it."""


def read_slice_stack(
    series: Series,
    first: int,
    stop: int,
    settings: ResampleSettings = _REFUSE,
    allowed: SourceSettings = NOTHING_ALLOWED,
) -> SliceStack:
    """Read the slices `first` to `stop` (not included) of a series.

    Args:
        series: All slices; a gap is told by them.
        first: Index of the first slice.
        stop: Index after the last slice.
        settings: Whether slices at changing distances, or slices that lean, are interpolated.
        allowed: Whether slices may show text or drawings.

    Raises:
        InputError: Where the series has several images at one position, or the slices are not one
            even lattice and shall not be made one, or pixels are missing or cannot be decoded.
    """
    _check_one_image(series)
    headers = series.slices[first:stop]
    grid, restacking = _lattice(series, headers, settings)
    shape = (len(headers), *grid.shape[1:])
    image = np.empty(shape, np.float32)
    valid = np.empty(shape, np.bool_)
    digests = []
    reader = SliceReader(allowed)
    for k, header in enumerate(headers):
        pixels, sha256 = reader.read(header)
        digests.append(sha256)
        image[k], valid[k] = pixels.image_hu, pixels.valid
    if restacking:
        image, valid = restacking.image(image, valid)
    return SliceStack(grid, image, valid, headers, tuple(digests), series.image_set, restacking)


def _check_one_image(series: Series) -> None:
    if series.ambiguous_positions:
        positions = len(np.unique(np.round(series.positions_mm() / POSITION_TOLERANCE_MM)))
        raise InputError(
            "the series has several images at one position, or mixes sets of images",
            got=f"different images at {series.ambiguous_positions} of {positions} positions of "
            f"{series.uid}, which no attribute tells apart as whole sets",
            expected="one image a position, or sets with an AcquisitionNumber, ImageType, "
            "ConvolutionKernel or geometry of their own",
            remedy="Keep the files of the one acquisition or reconstruction that the readers saw.",
        )


def _lattice(
    series: Series, headers: tuple[SliceHeader, ...], settings: ResampleSettings
) -> tuple[Grid, Restacking | None]:
    """Return the grid of slices, and how they come onto it where they are not its own."""
    _check_alike(headers)
    positions = np.array([header.position_lps_mm for header in headers])
    normal = np.asarray(series.normal)
    along = positions @ normal
    step, is_even = _step_mm(series, along, settings)
    lean = _lean(headers, positions, along, normal)
    between_rows, between_columns = headers[0].pixel_spacing_mm
    rows, columns = np.reshape(headers[0].orientation, (2, 3))[::-1]
    is_upright = bool(np.abs(lean).max() <= ORTHOGONALITY_TOLERANCE)
    if not is_upright and settings.tilt == "refuse":
        degrees = float(np.degrees(np.arctan(np.linalg.norm(lean))))
        raise InputError(
            "the axes of the stack are not orthogonal",
            got=f"slices that lean by {degrees:.2f} degrees, as of a tilted gantry",
            expected="slices above each other",
            remedy="Set `resample.tilt: correct` in the recipe, or leave the nodule out.",
        )
    middle = along[len(along) // 2]
    aside_mm = np.zeros((len(along), 3)) if is_upright else (along - middle)[:, None] * lean
    restacking = None
    depth = len(headers)
    if not (is_even and is_upright):
        moved = np.column_stack(
            [aside_mm @ rows / between_rows, aside_mm @ columns / between_columns]
        )
        places = np.arange(depth, dtype=np.float64) if is_even else (along - along[0]) / step
        restacking = Restacking(places, moved)
        depth = restacking.depth
    grid = Grid(
        (depth, *_pair(headers[0].shape)),
        (step, between_rows, between_columns),
        _vector(positions[0] - aside_mm[0]),
        (_vector(normal), _vector(rows), _vector(columns)),
    )
    return grid, restacking


def _lean(
    headers: tuple[SliceHeader, ...],
    positions: NDArray[np.float64],
    along: NDArray[np.float64],
    normal: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return how far the slices move aside per mm along their normal, in patient space.

    Raises:
        InputError: A slice lies off the line through the first and the last.
    """
    aside = positions - along[:, None] * normal
    extent = along[-1] - along[0]
    lean = (aside[-1] - aside[0]) / extent if len(headers) > 1 else np.zeros(3)
    line = aside[0] + (along - along[0])[:, None] * lean
    off = np.linalg.norm(aside - line, axis=1)
    k = int(off.argmax())
    if off[k] > POSITION_TOLERANCE_MM:
        raise InputError(
            "slices step aside from their stack",
            got=f"{headers[k].path.name} at {_triple(positions[k])} mm",
            expected=f"{_triple(line[k] + along[k] * normal)} mm, on the line through the first "
            "and the last slice",
            remedy="The series mixes acquisitions or was edited; fetch it again, or leave the "
            "nodule out.",
        )
    return np.asarray(lean)


def _triple(point: NDArray[np.float64]) -> str:
    return "({:.3f}, {:.3f}, {:.3f})".format(*point)


def _step_mm(
    series: Series, along: NDArray[np.float64], settings: ResampleSettings
) -> tuple[float, bool]:
    """Return the distance of slices at the positions `along`, and whether it is even; or refuse."""
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
    places = np.linspace(along[0], along[-1], len(along))
    # Positions that are rounded up and down in turn: two steps differ by more than any slice is off
    is_jitter = len(steps) > 1 and np.abs(along - places).max() <= POSITION_TOLERANCE_MM
    if not len(uneven) or is_jitter:
        return float((along[-1] - along[0]) / len(steps)) if len(steps) else usual, True
    repeated = _repeated_steps(series)
    by_scanner = repeated.size > 0
    if by_scanner and settings.uneven == "interpolate":
        return float(repeated[repeated >= steps.min() - POSITION_TOLERANCE_MM].min()), False
    k = int(uneven[np.argmax(np.abs(steps[uneven] - usual))])
    raise InputError(
        "a gap between the slices that the nodule needs"
        if steps[k] > usual
        else "unevenly spaced slices",
        got=f"{steps[k]:.3f} mm between positions {along[k]:.3f} and {along[k + 1]:.3f} mm",
        expected=f"{usual:.3f} mm",
        remedy="The scanner took slices at changing distances: set `resample.uneven: interpolate` "
        "in the recipe, or leave the nodule out."
        if by_scanner
        else f"Fetch the whole series {series.uid} again, or leave the nodule "
        f"out.{series.ignored_files()}",
    )


def _repeated_steps(series: Series) -> NDArray[np.float64]:
    """Return the distances of slices that come more than once in a series; none if one is lost.

    Where slices are missing, a distance is larger than the others and hardly ever repeats. A single
    smaller one is where the scanner began again.
    """
    steps = np.diff(series.positions_mm())
    counts = (np.abs(steps[:, None] - steps) <= POSITION_TOLERANCE_MM).sum(axis=1)
    repeated = steps[counts > 1]
    is_lost = repeated.size > 0 and bool((steps[counts == 1] > repeated.min()).any())
    return np.asarray(repeated[:0] if is_lost else repeated)


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

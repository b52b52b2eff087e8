"""From LIDC-IDRI's contours to slices: which slices a nodule needs, where its masks lie on them.

Masks are placed by z position and pixel, so the slices must be the very ones that were annotated:
of the same size and pixel spacing, and in the same orientation.
"""

from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from matting.errors import InputError
from matting.geometry.grid import ORTHOGONALITY_TOLERANCE
from matting.parameters import ResampleSettings
from storage.recipe import SourceSettings
from storage.sources.dicom_headers import SliceHeader
from storage.sources.dicom_series import Series
from storage.sources.dicom_volume import SliceStack, read_slice_stack
from storage.sources.errors import SourceUnreachableError
from storage.sources.image_sets import POSITION_TOLERANCE_MM
from storage.sources.lidc_annotations import FRAME_PIXELS, ReaderMasks

PIXEL_TOLERANCE_MM = 1e-3
"""Largest difference between the pixel spacing in the database and in the slices; both carry 6
digits."""


def read_slices_around(
    series: Series,
    marks: ReaderMasks,
    padding_slices: int,
    settings: ResampleSettings,
    allowed: SourceSettings,
) -> SliceStack:
    """Read the slices of the union and `padding_slices` more at both ends of it.

    Raises:
        SourceUnreachableError: Slices of the scan are missing.
        InputError: They are unfit.
    """
    scan_z = np.unique(marks.scan_z_mm)
    low, high = np.searchsorted(scan_z, (marks.z_mm[0], marks.z_mm[-1]))
    wanted = scan_z[max(low - padding_slices, 0) : high + padding_slices + 1]
    series_z = np.array([header.position_lps_mm[2] for header in series.slices])
    apart = np.abs(wanted[:, None] - series_z)
    if (apart.min(axis=1) > POSITION_TOLERANCE_MM).any():
        _refuse_missing(series, wanted[apart.min(axis=1) > POSITION_TOLERANCE_MM], wanted, series_z)
    ends = apart[0].argmin(), apart[-1].argmin()
    return read_slice_stack(series, int(min(ends)), int(max(ends)) + 1, settings, allowed)


def _refuse_missing(
    series: Series,
    missing: NDArray[np.float64],
    wanted: NDArray[np.float64],
    series_z: NDArray[np.float64],
) -> NoReturn:
    below, above = series_z[series_z < missing[0]], series_z[series_z > missing[0]]
    gap = f", a gap of {above.min() - below.max():.3f} mm" if below.size and above.size else ""
    positions = ", ".join(f"{z:.3f}" for z in missing[:5]) + (" ..." if len(missing) > 5 else "")
    raise SourceUnreachableError(
        "slices are missing",
        got=f"none at z = {positions} mm{gap}",
        expected=f"the {len(wanted)} slices from z = {wanted[0]:.3f} to {wanted[-1]:.3f} mm",
        remedy=f"Fetch the whole series {series.uid} again.{series.ignored_files()}",
    )


def place_masks(marks: ReaderMasks, slab: SliceStack) -> NDArray[np.bool_]:
    """Lay the readers' masks onto the slab's slices, each by its z position.

    Returns:
        The masks (readers, z, y, x).

    Raises:
        InputError: The slices have other pixels than those that the readers drew on.
    """
    _check_frame(marks, slab)
    _check_orientation(slab.slices[0])
    shape = (len(slab.slices), *slab.grid.shape[1:])
    readers = np.zeros((len(marks.masks), *shape), np.bool_)
    slab_z = np.array([header.position_lps_mm[2] for header in slab.slices])
    row, column = marks.corner
    rows, columns = marks.masks.shape[2:]
    for mask, z in zip(marks.masks.swapaxes(0, 1), marks.z_mm, strict=True):
        readers[:, np.abs(slab_z - z).argmin(), row : row + rows, column : column + columns] |= mask
    return slab.restacking.masks(readers) if slab.restacking else readers


def _check_frame(marks: ReaderMasks, slab: SliceStack) -> None:
    """Raise InputError for CT on other pixels than those the readers drew on."""
    expected = f"{FRAME_PIXELS} x {FRAME_PIXELS} pixels of {marks.pixel_spacing_mm} mm"
    _, rows, columns = slab.grid.shape
    spacing = slab.grid.spacing_mm[1:]
    if (rows, columns) != (FRAME_PIXELS, FRAME_PIXELS) or not np.allclose(
        spacing, marks.pixel_spacing_mm, rtol=0, atol=PIXEL_TOLERANCE_MM
    ):
        raise InputError(
            "this is not the CT that was annotated",
            got=f"{rows} x {columns} pixels of {spacing[0]} x {spacing[1]} mm",
            expected=expected,
            remedy="Fetch the original series; a resampled copy cannot carry the readers' "
            "contours.",
        )


def _check_orientation(header: SliceHeader) -> None:
    """Raise InputError for CT whose rows and columns run otherwise than the readers saw them.

    Contours are given in pixels. The archive's scans have axial slices whose rows begin at the
    right of a patient who lies on the back, and at the left of one who lies face down.
    """
    prone = header.patient_position.endswith("P")
    expected = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0) if prone else (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    if not np.allclose(header.orientation, expected, rtol=0, atol=ORTHOGONALITY_TOLERANCE):
        raise InputError(
            "the CT has another orientation than the one that was annotated",
            got=f"ImageOrientationPatient {header.orientation}, PatientPosition "
            f"{header.patient_position or 'not given'}",
            expected=f"{expected}",
            remedy="Fetch the original series; on a re-oriented copy the readers' contours would "
            "lie elsewhere.",
        )

"""The regions of an RTSTRUCT: closed contours in the patient, filled on the slices of a CT.

A voxel belongs to a region where its centre lies inside its contours. Contours of one slice within
each other cut holes (the even-odd rule), as planning systems write them.
"""

from collections import defaultdict
from pathlib import Path

import numpy as np
from matplotlib.path import Path as Polygon
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from matting.errors import InputError
from matting.geometry.grid import Grid
from storage.sources.dicom_file import read_dicom
from storage.sources.image_io import Volume
from storage.sources.segments import Segment

PLANE_TOLERANCE_MM = 0.1
"""Farthest that a contour may lie from the middle of its slice; planning systems write tenths."""


def rtstruct_segments(path: Path, grid: Grid) -> list[Segment]:
    """Read the regions of an RTSTRUCT, in the order of their numbers.

    Args:
        path: The file.
        grid: The CT's, on whose voxels the contours are filled.

    Raises:
        InputError: It cannot be read, or a contour does not lie in a slice of the CT.
    """
    try:
        dataset = read_dicom(path)
        names = {int(roi.ROINumber): str(roi.ROIName) for roi in dataset.StructureSetROISequence}
        contours = {
            int(roi.ReferencedROINumber): _contours(roi) for roi in dataset.ROIContourSequence
        }
    except Exception as error:  # pydicom raises many things for a file that is cut short
        raise InputError(
            "an RTSTRUCT cannot be read",
            got=path,
            expected="StructureSetROISequence and ROIContourSequence with closed contours",
            remedy="Export it again.",
        ) from error
    return [
        Segment(number, names.get(number, ""), Volume(grid, _fill(contours[number], grid, path)))
        for number in sorted(contours)
    ]


def _contours(roi: Dataset) -> list[NDArray[np.float64]]:
    """Return the contours (points, 3) of a region in LPS, mm."""
    return [
        np.array(contour.ContourData, np.float64).reshape(-1, 3)
        for contour in roi.get("ContourSequence") or []
        if contour.get("ContourGeometricType") == "CLOSED_PLANAR"
    ]


def _fill(contours: list[NDArray[np.float64]], grid: Grid, path: Path) -> NDArray[np.bool_]:
    mask = np.zeros(grid.shape, np.bool_)
    by_slice: dict[int, list[NDArray[np.float64]]] = defaultdict(list)
    for points in contours:
        index = grid.to_index(points)
        nearest = round(float(np.median(index[:, 0])))
        off_mm = float(np.abs(index[:, 0] - nearest).max()) * grid.spacing_mm[0]
        if off_mm > PLANE_TOLERANCE_MM or not 0 <= nearest < grid.shape[0]:
            raise InputError(
                "a contour does not lie in a slice of the CT",
                got=f"{off_mm:.2f} mm off slice {nearest} of {grid.shape[0]} ({path})",
                expected=f"at most {PLANE_TOLERANCE_MM} mm off a slice from 0 to "
                f"{grid.shape[0] - 1}",
                remedy="Check that the RTSTRUCT belongs to this CT.",
            )
        by_slice[nearest].append(index[:, 1:])
    for k, polygons in by_slice.items():
        for polygon in polygons:
            mask[k] ^= _inside(polygon, (grid.shape[1], grid.shape[2]))
    return mask


def _inside(polygon: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return which pixels (y, x) have their centre inside a polygon of (y, x) points."""
    inside = np.zeros(shape, np.bool_)
    first = np.clip(np.floor(polygon.min(axis=0)).astype(int), 0, shape)
    stop = np.clip(np.ceil(polygon.max(axis=0)).astype(int) + 1, 0, shape)
    rows, columns = np.mgrid[first[0] : stop[0], first[1] : stop[1]]
    if rows.size and len(polygon) > 2:
        centres = np.column_stack([rows.ravel(), columns.ravel()])
        closed = Polygon(np.vstack([polygon, polygon[:1]]), closed=True)
        inside[first[0] : stop[0], first[1] : stop[1]] = closed.contains_points(centres).reshape(
            rows.shape
        )
    return inside

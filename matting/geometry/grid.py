"""Where a lattice of voxels lies in the patient.

Array axes are (z, y, x) everywhere. Patient space is DICOM's LPS: x to the left, y to the back, z to the
head, in mm. A grid maps between the two and holds no voxels, so geometry can be planned before data is read.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from matting.errors import InputError

Shape = tuple[int, int, int]
Vector = tuple[float, float, float]

ORTHOGONALITY_TOLERANCE = 1e-3
"""Largest deviation of the axes' Gram matrix from the identity; scanners write direction cosines with 4-6 digits."""


@dataclass(frozen=True, slots=True)
class Grid:
    """A regular lattice of voxels in patient space."""

    shape: Shape
    """Voxels along (z, y, x)."""
    spacing_mm: Vector
    """Distance between voxel centres along (z, y, x)."""
    origin_lps_mm: Vector
    """Patient coordinates (x, y, z) of the centre of voxel (0, 0, 0)."""
    axes_lps: tuple[Vector, Vector, Vector] = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
    """Unit vectors in patient space (x, y, z) along which the array axes z, y and x run."""

    def __post_init__(self) -> None:
        """Refuse what is no lattice."""
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise InputError(
                "a grid needs three sizes",
                got=self.shape,
                expected="(z, y, x), each at least 1",
                remedy="Check the volume's shape.",
            )
        if len(self.spacing_mm) != 3 or not all(np.isfinite(s) and s > 0 for s in self.spacing_mm):
            raise InputError(
                "voxel spacing must be positive",
                got=self.spacing_mm,
                expected="three lengths in mm above 0",
                remedy="Check the image header.",
            )
        axes = np.asarray(self.axes_lps)
        if not np.allclose(axes @ axes.T, np.eye(3), atol=ORTHOGONALITY_TOLERANCE):
            raise InputError(
                "the axes of a grid must be orthogonal unit vectors",
                got=self.axes_lps,
                expected=f"a rotation within {ORTHOGONALITY_TOLERANCE}",
                remedy="Resample the volume onto a rectangular grid (a tilted gantry gives sheared volumes).",
            )

    def to_patient(self, index: ArrayLike) -> NDArray[np.float64]:
        """Map voxel indices (..., 3) in (z, y, x) to patient coordinates (..., 3) in (x, y, z), mm."""
        steps = np.asarray(index, np.float64) * np.asarray(self.spacing_mm)
        points: NDArray[np.float64] = np.asarray(self.origin_lps_mm) + steps @ np.asarray(
            self.axes_lps
        )
        return points

    def to_index(self, point_lps_mm: ArrayLike) -> NDArray[np.float64]:
        """Map patient coordinates (..., 3) in (x, y, z), mm, to fractional voxel indices (..., 3) in (z, y, x)."""
        offset = np.asarray(point_lps_mm, np.float64) - np.asarray(self.origin_lps_mm)
        index: NDArray[np.float64] = (
            offset @ np.asarray(self.axes_lps).T / np.asarray(self.spacing_mm)
        )
        return index

    def window(self, start: tuple[int, int, int], shape: Shape) -> "Grid":
        """Give the grid of a box that starts at voxel `start` (z, y, x); it may reach beyond this grid."""
        left, back, head = self.to_patient(start).tolist()
        return Grid(shape, self.spacing_mm, (left, back, head), self.axes_lps)

    def with_spacing(self, spacing_mm: Vector) -> "Grid":
        """Give the grid with the same first voxel whose new voxel centres all lie within the old ones' hull."""
        shape = tuple(
            int(np.floor((n - 1) * old / new + 1e-6)) + 1
            for n, old, new in zip(self.shape, self.spacing_mm, spacing_mm, strict=True)
        )
        return Grid((shape[0], shape[1], shape[2]), spacing_mm, self.origin_lps_mm, self.axes_lps)

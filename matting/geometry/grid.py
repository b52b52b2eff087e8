"""The position of a grid of voxels in patient space.

Array axes are (z, y, x) everywhere. Patient space is DICOM's LPS in mm: x increases to the left, y
to the back (posterior), z to the head (superior). A grid maps between the two and holds no voxels,
so geometry can be planned before data is read.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from matting.errors import InputError

Shape = tuple[int, int, int]
Vector = tuple[float, float, float]

ORTHOGONALITY_TOLERANCE = 1e-3
"""Largest deviation of the axes' Gram matrix from the identity.

Scanners write direction cosines with 4 to 6 digits.
"""


@dataclass(frozen=True, slots=True)
class Grid:
    """A regular grid of voxels in patient space.

    Two slices 2.5 mm apart, of 3 x 4 pixels of 0.5 mm:

    >>> grid = Grid((2, 3, 4), (2.5, 0.5, 0.5), (-10.0, 20.0, -300.0))
    >>> grid.to_patient((1, 0, 2)).tolist()
    [-9.0, 20.0, -297.5]
    >>> grid.to_index((-9.0, 20.0, -297.5)).tolist()
    [1.0, 0.0, 2.0]
    """

    shape: Shape
    """Voxels along (z, y, x)."""
    spacing_mm: Vector
    """Distance between voxel centres along (z, y, x)."""
    origin_lps_mm: Vector
    """Patient coordinates (x, y, z) of the centre of voxel (0, 0, 0)."""
    axes_lps: tuple[Vector, Vector, Vector] = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
    """Unit vectors in patient space (x, y, z) along which the array axes z, y and x run."""

    def __post_init__(self) -> None:
        """Raise InputError for sizes, spacings or axes that define no grid."""
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
                remedy="Resample the volume to a rectangular grid: a tilted gantry shears volumes.",
            )

    @property
    def affine(self) -> NDArray[np.float64]:
        """The map from voxel indices to patient space as a (4, 4) matrix.

        It takes homogeneous indices (z, y, x, 1) to (x, y, z, 1) in LPS, mm. nibabel's affine takes
        (x, y, z, 1) to RAS instead: reverse the first three columns and the signs of two rows.

        >>> grid = Grid((2, 3, 4), (2.5, 0.5, 0.5), (-10.0, 20.0, -300.0))
        >>> grid.affine
        array([[   0. ,    0. ,    0.5,  -10. ],
               [   0. ,    0.5,    0. ,   20. ],
               [   2.5,    0. ,    0. , -300. ],
               [   0. ,    0. ,    0. ,    1. ]])
        >>> (grid.affine @ (1, 0, 2, 1)).tolist()
        [-9.0, 20.0, -297.5, 1.0]
        """
        affine = np.eye(4)
        affine[:3, :3] = (np.asarray(self.axes_lps) * np.asarray(self.spacing_mm)[:, None]).T
        affine[:3, 3] = self.origin_lps_mm
        return affine

    def to_patient(self, index: ArrayLike) -> NDArray[np.float64]:
        """Map voxel indices (..., 3) in (z, y, x) to patient coordinates in (x, y, z), mm."""
        offset_mm = np.asarray(index, np.float64) * np.asarray(self.spacing_mm)
        axes = np.asarray(self.axes_lps)
        points: NDArray[np.float64] = np.asarray(self.origin_lps_mm) + offset_mm @ axes
        return points

    def to_index(self, point_lps_mm: ArrayLike) -> NDArray[np.float64]:
        """Map patient coordinates (..., 3) in (x, y, z), mm, to fractional indices in (z, y, x)."""
        offset = np.asarray(point_lps_mm, np.float64) - np.asarray(self.origin_lps_mm)
        index: NDArray[np.float64] = (
            offset @ np.asarray(self.axes_lps).T / np.asarray(self.spacing_mm)
        )
        return index

    def window(self, start: tuple[int, int, int], shape: Shape) -> "Grid":
        """Return the grid of a box of voxels, which may extend beyond this grid.

        >>> grid = Grid((2, 3, 4), (2.5, 0.5, 0.5), (-10.0, 20.0, -300.0))
        >>> grid.window((-1, 1, 0), (2, 2, 2)).origin_lps_mm
        (-10.0, 20.5, -302.5)

        Args:
            start: Index (z, y, x) of the first voxel of the box.
            shape: Voxels of the box along (z, y, x).
        """
        left, back, head = self.to_patient(start).tolist()
        return Grid(shape, self.spacing_mm, (left, back, head), self.axes_lps)

    def with_spacing(self, spacing_mm: Vector) -> "Grid":
        """Return a grid with the same first voxel whose voxel centres stay within this grid's.

        >>> grid = Grid((2, 3, 4), (2.5, 0.5, 0.5), (-10.0, 20.0, -300.0))
        >>> grid.with_spacing((0.5, 0.5, 0.5)).shape
        (6, 3, 4)

        Args:
            spacing_mm: The new spacing along (z, y, x), above 0.
        """
        # 1e-6 keeps the last voxel where the new spacing divides the extent up to rounding.
        shape = tuple(
            int(np.floor((n - 1) * old / new + 1e-6)) + 1
            for n, old, new in zip(self.shape, self.spacing_mm, spacing_mm, strict=True)
        )
        return Grid((shape[0], shape[1], shape[2]), spacing_mm, self.origin_lps_mm, self.axes_lps)

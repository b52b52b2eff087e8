"""The part of a patch that decides the unknown voxels: all eight methods work on it instead of the patch.

Solving costs time and memory in proportion to the unknown voxels and their surroundings, whatever the patch's size.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from matting.grid import Shape, Vector
from matting.refusal import Refusal
from matting.trimap import BACKGROUND, FOREGROUND, UNKNOWN

WINDOW_REACH = 2
"""Voxels that two windows reach from one centre to the other's edge: closer than this nothing may be cut away."""
Box = tuple[slice, slice, slice]


@dataclass(frozen=True, slots=True)
class Region:
    """The unknown voxels with everything a method may look at; voxels are counted in raster order within it."""

    box: Box
    """Where the region lies in the patch."""
    intensity: NDArray[np.float64]
    """(z, y, x), 0..1."""
    unknown: NDArray[np.bool_]
    """(z, y, x): what is to be solved."""
    foreground: NDArray[np.bool_]
    """(z, y, x): what is known to be the lesion; the rest that is not unknown is background."""
    spacing_mm: Vector
    """Voxel spacing along (z, y, x)."""
    position_scale_mm: float
    """Length that counts as 1 in the position feature; fixed, so that the search box does not decide how far is far."""

    @property
    def shape(self) -> Shape:
        """Voxels along (z, y, x)."""
        depth, height, width = self.intensity.shape
        return depth, height, width

    @property
    def background(self) -> NDArray[np.bool_]:
        """(z, y, x): what is known not to be the lesion."""
        return ~(self.unknown | self.foreground)

    @property
    def steps(self) -> NDArray[np.float64]:
        """Change of the position feature from voxel to voxel along (z, y, x): mm over the scale."""
        return np.asarray(self.spacing_mm, np.float64) / self.position_scale_mm


def region_around(
    volume_hu: NDArray[np.floating],
    trimap: NDArray[np.uint8],
    *,
    spacing_mm: Vector,
    margin_mm: float,
    position_scale_mm: float,
    range_hu: tuple[float, float],
) -> Region:
    """Cut the box that reaches `margin_mm` beyond the unknown voxels in every direction, within the patch.

    Raises:
        Refusal: No foreground or no background lies within reach.
    """
    unknown = trimap == UNKNOWN
    reach = [max(WINDOW_REACH, int(margin_mm / spacing + 1e-6)) for spacing in spacing_mm]
    box = box_around(unknown, (reach[0], reach[1], reach[2]))
    labels = trimap[box]
    for name, label in (("foreground", FOREGROUND), ("background", BACKGROUND)):
        if not (labels == label).any():
            raise Refusal(
                f"no {name} lies near the unknown voxels",
                got=f"none within {margin_mm} mm of them",
                expected="at least one voxel",
                remedy="Raise solver.search_margin_mm or look at the trimap.",
            )
    intensity = to_intensity(volume_hu[box], range_hu)
    intensity = np.ascontiguousarray(intensity)
    return Region(box, intensity, unknown[box], labels == FOREGROUND, spacing_mm, position_scale_mm)


def to_intensity(volume_hu: NDArray[np.floating], range_hu: tuple[float, float]) -> NDArray[np.float64]:
    """Scale HU linearly from `range_hu` to intensities 0..1, clipped."""
    low, high = range_hu
    intensity: NDArray[np.float64] = np.clip((volume_hu.astype(np.float64) - low) / (high - low), 0.0, 1.0)
    return intensity


def box_around(mask: NDArray[np.bool_], reach: tuple[int, int, int]) -> Box:
    """Give the smallest box that holds the mask, grown by `reach` voxels along (z, y, x) within the array."""
    bounds = []
    for axis, margin in enumerate(reach):
        filled = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        bounds.append(slice(max(0, int(filled[0]) - margin), min(mask.shape[axis], int(filled[-1]) + 1 + margin)))
    return bounds[0], bounds[1], bounds[2]

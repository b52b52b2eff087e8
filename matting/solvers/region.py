"""The part of a patch that decides the unknown voxels: all eight methods work on it instead of the patch.

Solving costs time and memory in proportion to the unknown voxels and their surroundings, whatever the patch's size.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from matting.errors import InputError
from matting.geometry.box import Box, box_around
from matting.geometry.grid import Shape, Vector
from matting.geometry.trimap import BACKGROUND, FOREGROUND, UNKNOWN

WINDOW_REACH = 2
"""Voxels that two windows reach from one centre to the other's edge: closer than this nothing may be cut away."""
ONE_AROUND = (1, 1, 1)
"""Voxels around the unknown ones: the nearest known voxels lie there, or within."""


@dataclass(frozen=True)
class SolveDomain:
    """The unknown voxels with everything a method may look at; voxels are counted in raster order within it."""

    box: Box
    """Where the region lies in the patch."""
    intensity: NDArray[np.float64]
    """(z, y, x), 0..1."""
    unknown: NDArray[np.bool_]
    """(z, y, x): what is to be solved."""
    foreground: NDArray[np.bool_]
    """(z, y, x): what is known to be the lesion; the rest that is not unknown is background."""
    surroundings: NDArray[np.float64]
    """(z, y, x): intensity of the region and as far beyond it as means over voxels reach, within the patch."""
    inset: Box
    """Where the region lies in its surroundings."""
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

    @cached_property
    def known_mm(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(unknown,) each: how far the nearest known foreground and background are; measured once for all methods."""
        box = box_around(self.unknown, ONE_AROUND)
        if not (self.foreground[box].any() and self.background[box].any()):
            box = (slice(None),) * 3
        unknown = self.unknown[box]
        foreground, background = (
            ndimage.distance_transform_edt(~known[box], self.spacing_mm)[unknown]
            for known in (self.foreground, self.background)
        )
        return foreground, background


def region_around(
    volume_hu: NDArray[np.floating],
    trimap: NDArray[np.uint8],
    *,
    spacing_mm: Vector,
    margin_mm: float,
    mean_reach_mm: float,
    position_scale_mm: float,
    range_hu: tuple[float, float],
    curve: float,
) -> SolveDomain:
    """Cut the box that reaches `margin_mm` beyond the unknown voxels in every direction, within the patch.

    Windows also see mean intensities within `mean_reach_mm` of their voxels, which the surroundings hold.

    Raises:
        InputError: No foreground or no background lies within reach.
    """
    unknown = trimap == UNKNOWN
    z, y, x = (max(WINDOW_REACH, int(margin_mm / spacing + 1e-6)) for spacing in spacing_mm)
    box = box_around(unknown, (z, y, x))
    labels = trimap[box]
    for name, label in (("foreground", FOREGROUND), ("background", BACKGROUND)):
        if not (labels == label).any():
            raise InputError(
                f"no {name} lies near the unknown voxels",
                got=f"none within {margin_mm} mm of them",
                expected="at least one voxel",
                remedy="Raise solver.search_margin_mm or look at the trimap.",
            )
    wide = _hold(box, box_around(unknown, _windows_reach(mean_reach_mm, spacing_mm)))
    inset = _within(box, wide)
    surroundings = np.ascontiguousarray(bent(to_intensity(volume_hu[wide], range_hu), curve))
    return SolveDomain(
        box,
        np.ascontiguousarray(surroundings[inset]),
        unknown[box],
        labels == FOREGROUND,
        surroundings,
        inset,
        spacing_mm,
        position_scale_mm,
    )


def _windows_reach(mean_reach_mm: float, spacing_mm: Vector) -> tuple[int, int, int]:
    """Give how far from unknown voxels a window's means look along (z, y, x)."""
    z, y, x = reach_voxels(mean_reach_mm, spacing_mm)
    return z + WINDOW_REACH, y + WINDOW_REACH, x + WINDOW_REACH


def _hold(one: Box, other: Box) -> Box:
    """Give the smallest box that holds both."""
    z, y, x = (
        slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(one, other, strict=True)
    )
    return z, y, x


def _within(box: Box, outer: Box) -> Box:
    """Give a box as counted from the corner of another."""
    z, y, x = (slice(a.start - b.start, a.stop - b.start) for a, b in zip(box, outer, strict=True))
    return z, y, x


def to_intensity(
    volume_hu: NDArray[np.floating], range_hu: tuple[float, float]
) -> NDArray[np.float64]:
    """Scale HU linearly from `range_hu` to intensities 0..1, clipped."""
    low, high = range_hu
    intensity: NDArray[np.float64] = np.clip(
        (volume_hu.astype(np.float64) - low) / (high - low), 0.0, 1.0
    )
    return intensity


def bent(intensity: NDArray[np.float64], curve: float) -> NDArray[np.float64]:
    """Spread low intensities and draw high ones together, 0 and 1 staying: (1 + curve) I / (1 + curve I).

    A lesion is denser in its core than at its rim, and alpha follows intensity in a straight line from known background
    to known core; on the bent scale the rim counts for more. Rational, since logarithms differ between processors.
    """
    result: NDArray[np.float64] = (1.0 + curve) * intensity / (1.0 + curve * intensity)
    return result


def reach_voxels(reach_mm: float, spacing_mm: Vector) -> tuple[int, int, int]:
    """Give how many whole voxels lie within a reach along (z, y, x)."""
    z, y, x = (round(reach_mm / spacing) for spacing in spacing_mm)
    return z, y, x

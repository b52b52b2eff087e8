"""The part of a patch that decides the unknown voxels; all eight methods work on it.

Solving costs time and memory in proportion to the unknown voxels and their surroundings, whatever
the size of the patch.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from matting.errors import InputError
from matting.geometry.box import Box, box_around
from matting.geometry.grid import Shape, Vector
from matting.geometry.trimap import BACKGROUND, FOREGROUND, UNKNOWN
from matting.solvers.knn_search import SharedSearch

WINDOW_REACH = 2
"""Voxels from an unknown voxel to the far side of a window that holds it: nothing nearer may be cut
away."""


@dataclass(frozen=True)
class SolveDomain:
    """The unknown voxels with everything a method may read; flat indices count its voxels."""

    box: Box
    """Position of the domain in the patch."""
    intensity: NDArray[np.float64]
    """(z, y, x), 0..1."""
    unknown: NDArray[np.bool_]
    """(z, y, x): the voxels to solve."""
    foreground: NDArray[np.bool_]
    """(z, y, x): known lesion; what is neither unknown nor foreground is background."""
    surroundings: NDArray[np.float64]
    """(z, y, x): intensity of the domain and of the patch around it, as far as windows' means
    reach."""
    inset: Box
    """Position of the domain in its surroundings."""
    spacing_mm: Vector
    """Voxel spacing along (z, y, x)."""
    position_scale_mm: float
    """Length that counts as 1 in the position feature."""
    search: SharedSearch = field(default_factory=SharedSearch, compare=False)
    """Nearest neighbours of the unknown voxels among all voxels."""

    @property
    def shape(self) -> Shape:
        """Voxels along (z, y, x)."""
        depth, height, width = self.intensity.shape
        return depth, height, width

    @property
    def background(self) -> NDArray[np.bool_]:
        """(z, y, x): known not to be lesion."""
        return ~(self.unknown | self.foreground)

    @property
    def voxel_pitch(self) -> NDArray[np.float64]:
        """Difference of the position feature between neighbouring voxels along (z, y, x)."""
        return np.asarray(self.spacing_mm, np.float64) / self.position_scale_mm


def solve_domain_around(
    volume_hu: NDArray[np.floating],
    trimap: NDArray[np.uint8],
    *,
    spacing_mm: Vector,
    margin_mm: float,
    mean_reach_mm: float,
    position_scale_mm: float | None,
    range_hu: tuple[float, float],
    intensity_curve: float,
) -> SolveDomain:
    """Cut out the box around the unknown voxels, within the patch.

    Args:
        volume_hu: (z, y, x), radiodensity in HU.
        trimap: (z, y, x), BACKGROUND, UNKNOWN or FOREGROUND; at least one voxel is unknown.
        spacing_mm: Voxel spacing along (z, y, x).
        margin_mm: How far the box extends beyond the unknown voxels, 0 or more; windows get the
            voxels that they need in any case.
        mean_reach_mm: Reach of the means in the windows' second channel, which the surroundings
            hold.
        position_scale_mm: Length that counts as 1 in the position feature; None for the longest
            side of the box.
        range_hu: HU mapped linearly to intensities 0..1 and clipped.
        intensity_curve: Strength of `tone_curve`; 0 for none.

    Returns:
        The domain.

    Raises:
        InputError: No foreground or no background lies within the margin.
    """
    unknown = trimap == UNKNOWN
    z, y, x = (
        # A margin beyond the volume, such as infinity, is the whole volume.
        max(WINDOW_REACH, int(min(margin_mm / spacing + 1e-6, side)))
        for spacing, side in zip(spacing_mm, unknown.shape, strict=True)
    )
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
    wide = _enclosing(box, box_around(unknown, _means_reach(mean_reach_mm, spacing_mm)))
    inset = _relative_to(box, wide)
    intensity = to_intensity(volume_hu[wide], range_hu)
    surroundings = np.ascontiguousarray(tone_curve(intensity, intensity_curve))
    if position_scale_mm is None:
        position_scale_mm = longest_side_mm(labels.shape, spacing_mm)
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


def longest_side_mm(shape: tuple[int, ...], spacing_mm: Vector) -> float:
    """Return the longest side of a box, voxels times spacing."""
    return max(count * spacing for count, spacing in zip(shape, spacing_mm, strict=True))


def _means_reach(mean_reach_mm: float, spacing_mm: Vector) -> tuple[int, int, int]:
    """Return how far from an unknown voxel the means of its windows reach along (z, y, x)."""
    z, y, x = reach_voxels(mean_reach_mm, spacing_mm)
    return z + WINDOW_REACH, y + WINDOW_REACH, x + WINDOW_REACH


def _enclosing(one: Box, other: Box) -> Box:
    """Return the smallest box that holds both."""
    z, y, x = (
        slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(one, other, strict=True)
    )
    return z, y, x


def _relative_to(box: Box, outer: Box) -> Box:
    """Return a box counted from the corner of another."""
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


def tone_curve(intensity: NDArray[np.float64], curve: float) -> NDArray[np.float64]:
    """Apply (1 + curve) I / (1 + curve I): low intensities spread, high ones move together.

    A lesion is denser in its core than at its rim, and alpha follows intensity linearly from known
    background to known core; on the curved scale the rim counts for more. The curve is rational,
    since logarithms differ between processors.

    Args:
        intensity: Any shape, 0..1.
        curve: 0 or more; 0 is the identity.

    Returns:
        The same shape; 0 and 1 are unchanged.
    """
    result: NDArray[np.float64] = (1.0 + curve) * intensity / (1.0 + curve * intensity)
    return result


def reach_voxels(reach_mm: float, spacing_mm: Vector) -> tuple[int, int, int]:
    """Return the number of whole voxels nearest to a length along (z, y, x)."""
    z, y, x = (round(reach_mm / spacing) for spacing in spacing_mm)
    return z, y, x

"""How far through the unknown band a voxel lies: what geometry alone says of alpha.

A soft lesion fades from its known foreground to its known background. With d_F and d_B the distances in mm to the
nearest known voxel of each, and an outer rim of `inset_mm` that is all background because readers outline generously,

    ramp = d / (d_F + d),   d = max(0, d_B - inset_mm)

runs from 1 at the foreground to 0 at the rim. Local models say little where a window holds a vessel, the pleura or
nothing but noise; a weak pull towards the ramp decides there and is drowned out elsewhere.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from matting.region import Region, box_around
from matting.solver import Targets

Floats = NDArray[np.float64]
ONE_AROUND = (1, 1, 1)
"""Voxels around the unknown ones: the nearest known voxels lie there, or within."""


def ramp_pull(
    region: Region, targets: Targets, strength: float, inset_mm: float
) -> tuple[Floats | None, Floats | None]:
    """Give the pull of each unknown voxel and where to, for `matting.solver.Problem`.

    Args:
        region: What is solved.
        targets: The known values S; the ramp reaches their mean over the foreground, which is 1 in the plain forms.
        strength: The pull, on the scale of the Laplacian's entries; 0 for none.
        inset_mm: Width of the outer rim.

    Returns:
        Pull (unknown,) and target (unknown, columns), unknown voxels in raster order; None for no pull.
    """
    if strength == 0:
        return None, None
    ramp = unknown_ramp(region, inset_mm)
    lesion = targets(np.flatnonzero(region.foreground)).mean(axis=0)
    return np.full(len(ramp), strength), ramp[:, None] * lesion


def unknown_ramp(region: Region, inset_mm: float) -> Floats:
    """Give the ramp of the unknown voxels, (unknown,) in raster order, 0..1."""
    box = box_around(region.unknown, ONE_AROUND)
    if not (region.foreground[box].any() and region.background[box].any()):
        box = (slice(None),) * 3
    unknown = region.unknown[box]
    from_lesion, from_rest = (
        ndimage.distance_transform_edt(~known[box], region.spacing_mm)[unknown]
        for known in (region.foreground, region.background)
    )
    inner: Floats = np.maximum(from_rest - inset_mm, 0.0)
    ramp: Floats = inner / (from_lesion + inner)
    return ramp

"""How far through the unknown band a voxel lies: what geometry alone says of alpha.

A soft lesion fades from its known foreground to its known background. With d_F and d_B the distances in mm to the
nearest known voxel of each, and an outer rim of `inset_mm` that is all background because readers outline generously,

    t = d^2 / (min(d_F, depth_mm)^2 + d^2),   d = max(0, d_B - inset_mm)

runs from 1 at the foreground to 0 at the rim. Foreground farther than `depth_mm` counts as that far: what lies well
within the band, as a spicule does far from the core, is not taken for background. Read as a chance, t is nearly certain
near the known voxels, from which the band was dilated, and open in between; so each unknown voxel is pulled towards it
by the inverse of its variance,

    p = strength / (t (1 - t) + LEAST_VARIANCE)

Local models say little where a window holds a vessel, the pleura or nothing but noise; there the pull decides, and it
is drowned out elsewhere.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from matting.region import Region, box_around
from matting.solver import Pull, Targets

Floats = NDArray[np.float64]
ONE_AROUND = (1, 1, 1)
"""Voxels around the unknown ones: the nearest known voxels lie there, or within."""
LEAST_VARIANCE = 5e-4
"""Of the ramp as a chance, where it is all but certain."""


def ramp_pull(region: Region, targets: Targets, strength: float, inset_mm: float, depth_mm: float) -> Pull | None:
    """Give the pull of each unknown voxel towards the ramp.

    Args:
        region: What is solved.
        targets: The known values S; the ramp reaches their mean over the foreground, which is 1 in the plain forms.
        strength: Scale of the pull against the Laplacian's entries; 0 for none.
        inset_mm: Width of the outer rim.
        depth_mm: Distance from the foreground beyond which it counts the same.
    """
    if strength == 0:
        return None
    ramp = unknown_ramp(region, inset_mm, depth_mm)
    lesion = targets(np.flatnonzero(region.foreground)).mean(axis=0)
    return Pull(strength / (ramp * (1.0 - ramp) + LEAST_VARIANCE), ramp[:, None] * lesion)


def unknown_ramp(region: Region, inset_mm: float, depth_mm: float) -> Floats:
    """Give the ramp of the unknown voxels, (unknown,) in raster order, 0..1."""
    box = box_around(region.unknown, ONE_AROUND)
    if not (region.foreground[box].any() and region.background[box].any()):
        box = (slice(None),) * 3
    unknown = region.unknown[box]
    from_lesion, from_rest = (
        ndimage.distance_transform_edt(~known[box], region.spacing_mm)[unknown]
        for known in (region.foreground, region.background)
    )
    inner = np.maximum(from_rest - inset_mm, 0.0) ** 2
    ramp: Floats = inner / (np.minimum(from_lesion, depth_mm) ** 2 + inner)
    return ramp

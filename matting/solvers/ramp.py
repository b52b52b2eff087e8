"""Where in the unknown band a voxel lies: what geometry alone says of alpha.

A soft lesion fades from its known foreground to its known background. With d_F and d_B the distances in mm to the
nearest known voxel of each, and r the width `rim_mm` of the band's outer rim, two pulls act on each unknown voxel:

    towards 0, with    rim_strength max(0, 1 - d_B / r)^2     the band was dilated by about r beyond what any reader
                                                              marked, so its rim is nearly background
    towards t, with    ramp_strength                          t = d^2 / (min(d_F, r)^2 + d^2), d = max(0, d_B - r / 2),
                                                              runs from 1 at the foreground to 0 in the rim

Foreground farther than r counts as that far: what lies well within the band, as a spicule does far from the core, is
not taken for background. Local models say little where a window holds a vessel, the pleura or nothing but noise; there
the pulls decide, and elsewhere they are drowned out.
"""

import numpy as np
from numpy.typing import NDArray

from matting.solvers.conjugate_gradient import DataTerm, KnownValues
from matting.solvers.region import SolveDomain

Floats = NDArray[np.float64]


def ramp_pull(
    region: SolveDomain,
    targets: KnownValues,
    ramp_strength: float,
    rim_strength: float,
    rim_mm: float,
) -> DataTerm:
    """Give both pulls as one.

    Args:
        region: What is solved.
        targets: The known values S; the ramp reaches their mean over the foreground, which is 1 in the plain forms.
        ramp_strength: Of the pull towards the ramp, on the scale of the Laplacian's entries; 0 for none.
        rim_strength: Of the pull towards 0 at the band's outer edge, on the same scale; 0 for none.
        rim_mm: Width of the outer rim.
    """
    ramp, rim = ramp_and_rim(region, rim_mm)
    towards = ramp[:, None] * targets(np.flatnonzero(region.foreground)).mean(axis=0)
    return DataTerm(np.full(len(ramp), ramp_strength), towards) + DataTerm(
        rim_strength * rim, np.zeros_like(towards)
    )


def ramp_and_rim(region: SolveDomain, rim_mm: float) -> tuple[Floats, Floats]:
    """Give t and max(0, 1 - d_B / r)^2 of the unknown voxels, (unknown,) each in raster order, 0..1."""
    from_lesion, from_rest = region.known_mm
    inner = np.maximum(from_rest - rim_mm / 2, 0.0) ** 2
    ramp: Floats = inner / (np.minimum(from_lesion, rim_mm) ** 2 + inner)
    rim: Floats = np.maximum(0.0, 1.0 - from_rest / rim_mm) ** 2
    return ramp, rim

"""The geometric data terms: what the position of a voxel in the unknown band suggests for alpha.

A soft lesion fades from its known foreground to its known background. With d_F and d_B the
distances in mm to the nearest known voxel of each, and r the width `rim_mm` of the band's outer
rim, each unknown voxel has two data terms:

    target 0, weight rim_strength max(0, 1 - d_B / r)^2
        The band was dilated by about r beyond what any reader marked, so its rim is nearly
        background.
    target t, weight ramp_strength
        t = d^2 / (min(d_F, r)^2 + d^2) with d = max(0, d_B - r / 2) falls from 1 at the foreground
        to 0 in the rim.

Foreground farther away than r counts as r away: what is well within the band, such as a spicule far
from the core, is not taken for background. Where a window holds a vessel, the pleura or nothing but
noise, local models determine alpha poorly and these terms decide; elsewhere their weight is
negligible.
"""

import numpy as np
from numpy.typing import NDArray

from matting.solvers.conjugate_gradient import DataTerm, KnownValues
from matting.solvers.solve_domain import SolveDomain

Floats = NDArray[np.float64]


def ramp_data_term(
    domain: SolveDomain,
    known_values: KnownValues,
    ramp_strength: float,
    rim_strength: float,
    rim_mm: float,
) -> DataTerm | None:
    """Return both terms as one, or None if both strengths are 0.

    Args:
        domain: The voxels to solve.
        known_values: S; the ramp rises to their mean over the foreground, 1 in the plain forms.
        ramp_strength: Weight of the ramp, on the scale of the Laplacian's entries; 0 for none.
        rim_strength: Weight of target 0 at the band's outer edge, on the same scale; 0 for none.
        rim_mm: Width of the outer rim, above 0.

    Returns:
        The term on the unknown voxels.
    """
    if ramp_strength == 0 and rim_strength == 0:
        return None
    ramp, rim = ramp_and_rim(domain, rim_mm)
    foreground = np.flatnonzero(domain.foreground)
    target = ramp[:, None] * known_values(foreground).mean(axis=0)
    ramp_term = DataTerm(np.full(len(ramp), ramp_strength), target)
    rim_term = DataTerm(rim_strength * rim, np.zeros_like(target))
    return ramp_term + rim_term


def ramp_and_rim(domain: SolveDomain, rim_mm: float) -> tuple[Floats, Floats]:
    """Return t and max(0, 1 - d_B / r)^2 of the unknown voxels, (unknown,) each, 0..1."""
    to_foreground, to_background = domain.known_mm
    inner = np.maximum(to_background - rim_mm / 2, 0.0) ** 2
    ramp: Floats = inner / (np.minimum(to_foreground, rim_mm) ** 2 + inner)
    rim: Floats = np.maximum(0.0, 1.0 - to_background / rim_mm) ** 2
    return ramp, rim

"""Closed-form matting (CF).

Paper     A. Levin, D. Lischinski, Y. Weiss, A Closed-Form Solution to Natural Image Matting, IEEE TPAMI 30(2), 2008,
          doi:10.1109/TPAMI.2007.1177; in 3D: Wang et al., arXiv 2210.05104, Eq. 3 and 27.
Assumes   Alpha is a line in the channels within every small window.
Equation  L_ij = sum over windows w holding i and j of
              c_w (d_ij - (1/n) (1 + (I_i - m_w)^T (V_w + (eps/n) Id)^-1 (I_j - m_w)))

Symbols   I: channels    m_w, V_w: their `mean` and `covariance` in the window    n: `WINDOW_SIZE`    eps: `epsilon`
          d_ij: 1 if i = j else 0    c_w: `count`, t / (v_w + t) with t `trusted_variance`, v_w the intensity's variance

Ours      Windows of 3 x 3 x 3 voxels instead of 3 x 3 pixels, and only those that hold an unknown voxel: the others
          couple known voxels, which Eq. 15 holds fixed. A photograph has three channels; a CT has one, its intensity,
          and the second is the mean intensity within `mean_reach_mm` less the voxel's own. Windows in which intensity
          varies much count less. Unknown voxels are drawn by the pulls of matting/solvers/ramp.py. The paper's form is epsilon
          1e-7, mean_reach_mm 0, trusted_variance none, ramp_strength and rim_strength 0, with solver.intensity_curve 0.
          The sum has the form of matting/solvers/window_laplacian.py with M = c_w diag((n V_w + eps Id)^-1, 1 / n).
"""

from matting.parameters import ClosedFormSettings
from matting.solvers.conjugate_gradient import KnownValues, LinearSystem
from matting.solvers.ramp import ramp_pull
from matting.solvers.region import SolveDomain
from matting.solvers.window_laplacian import (
    ridge_fit,
    window_laplacian,
    window_weight,
    windows_touching,
)


def build(
    region: SolveDomain, parameters: ClosedFormSettings, targets: KnownValues
) -> LinearSystem:
    """Set up closed-form matting on a region; `targets` are the known values, whose mean the ramp reaches."""
    windows = windows_touching(region, parameters.mean_reach_mm)
    count = window_weight(windows, parameters.trusted_variance)
    operator = window_laplacian(windows, ridge_fit(windows, parameters.epsilon, count), count)
    pull = ramp_pull(
        region, targets, parameters.ramp_strength, parameters.rim_strength, parameters.rim_mm
    )
    return LinearSystem(operator, windows.unknown, pull=pull, channels=windows.unknown_channels)

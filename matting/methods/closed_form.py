"""Closed-form matting (CF).

Paper     A. Levin, D. Lischinski, Y. Weiss, A Closed-Form Solution to Natural Image Matting, IEEE
          TPAMI 30(2), 2008, doi:10.1109/TPAMI.2007.1177; in 3D: Wang et al., arXiv 2210.05104,
          Eq. 3 and 27.
Assumes   Alpha is a linear function of the channels within every small window.
Equation  L_ij = sum over windows w holding i and j of
              c_w (d_ij - (1/n) (1 + (I_i - m_w)^T (V_w + (eps/n) Id)^-1 (I_j - m_w)))

Symbols   I: channels    m_w, V_w: their `mean` and `covariance` in the window    n: `WINDOW_SIZE`
          eps: `epsilon`    d_ij: 1 if i = j else 0    c_w: `weights`, t / (v_w + t) with t
          `trusted_variance`, v_w the intensity's variance

Ours      Windows of 3 x 3 x 3 voxels instead of 3 x 3 pixels, and only those that hold an unknown
          voxel: the others couple known voxels, which Eq. 15 holds fixed. A photograph has three
          channels; a CT has one, its intensity, and the second is the mean intensity within
          `mean_reach_mm` minus the voxel's own. Windows in which intensity varies much weights
          less. In the paper form, the default, neither is there: mean_reach_mm 0, trusted_variance
          none. The sum has the form of matting/solvers/window_laplacian.py with
          M = c_w diag((n V_w + eps Id)^-1, 1 / n).
"""

from matting.parameters import ClosedFormSettings
from matting.solvers.conjugate_gradient import LinearSystem
from matting.solvers.solve_domain import SolveDomain
from matting.solvers.window_laplacian import (
    find_touching_windows,
    ridge_fit,
    window_laplacian,
    window_weights,
)


def build(domain: SolveDomain, parameters: ClosedFormSettings) -> LinearSystem:
    """Set up closed-form matting on a domain.

    Args:
        domain: The voxels to solve and their surroundings.
        parameters: Ridge, channels and window weights.

    Returns:
        The system, its unknown nodes in raster order.
    """
    windows = find_touching_windows(domain, parameters.mean_reach_mm)
    weights = window_weights(windows, parameters.trusted_variance)
    operator = window_laplacian(windows, ridge_fit(windows, parameters.epsilon, weights), weights)
    return LinearSystem(operator, windows.unknown, channels=windows.unknown_channels)

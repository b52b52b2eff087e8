"""Closed-form matting (CF).

Paper     A. Levin, D. Lischinski, Y. Weiss, A Closed-Form Solution to Natural Image Matting, IEEE TPAMI 30(2), 2008,
          doi:10.1109/TPAMI.2007.1177; in 3D: Wang et al., arXiv 2210.05104, Eq. 3 and 27.
Assumes   Alpha is a line in intensity within every small window.
Equation  L_ij = sum over windows w holding i and j of
              d_ij - (1/n) (1 + (I_i - m_w) (I_j - m_w) / (v_w + eps/n))

Symbols   I: intensity    m_w, v_w: `mean`, `variance` of the window    n: `WINDOW_SIZE`    eps: `epsilon`
          d_ij: 1 if i = j else 0

Ours      Windows of 3 x 3 x 3 voxels instead of 3 x 3 pixels, one channel instead of three, and only the windows that
          hold an unknown voxel: the others couple known voxels, which Eq. 15 holds fixed. The sum has the form of
          matting/windows.py with M = diag(1 / (n v_w + eps), 1 / n).
"""

import numpy as np

from matting.parameters import ClosedForm
from matting.region import Region
from matting.solver import Problem
from matting.windows import WINDOW_SIZE, window_laplacian, windows_touching


def build(region: Region, parameters: ClosedForm) -> Problem:
    """Set up closed-form matting on a region."""
    windows = windows_touching(region)
    fit = np.empty((len(windows.centres), 3))
    fit[:, 0] = 1.0 / (WINDOW_SIZE * windows.variance + parameters.epsilon)
    fit[:, 1] = 0.0
    fit[:, 2] = 1.0 / WINDOW_SIZE
    return Problem(window_laplacian(windows, fit), windows.unknown)

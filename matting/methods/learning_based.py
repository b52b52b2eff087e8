"""Learning-based matting (LB).

Paper     Y. Zheng, C. Kambhamettu, Learning Based Digital Matting, ICCV 2009, doi:10.1109/ICCV.2009.5459326.
Assumes   Within a window, a voxel's alpha can be learnt from the others' by ridge regression on intensity.
Equation  L = sum over windows of (Id - F)^T (Id - F),   F = K (K + r Id)^-1
          linear model    K = X X^T, X = [I_w, 1]
          kernel model    K_ij = exp(-(I_i - I_j)^2 / (2 kernel_width^2))

Symbols   I_w: intensities in the window    r: `ridge`    Id: identity    K: `kernel`

Ours      Windows of 3 x 3 x 3 voxels, centred on unknown voxels ("centred"; on the patch's border the nearest window
          inside) or all that hold one ("touching"). One channel makes the linear model closed, with no 27 x 27
          inverse. Around the window's mean m, X = X_c T with X_c = [I_w - m, 1]; with n voxels of variance v,
          D = X_c^T X_c = diag(n v, n), S = T T^T and C = (D + r S^-1)^-1,

              (Id - F)^T (Id - F) = Id - X_c M X_c^T,   M = 2 C - C D C,   S^-1 = [[1 + m^2, -m], [-m, 1]],

          the form of matting/windows.py. (The same without moving to the mean loses all digits where a window is
          flat.) With all windows and r = eps it is closed-form matting; the larger ridge and the centred windows make
          it a method of its own. The kernel model has Id - F = r (K + r Id)^-1 and is summed up as a sparse matrix.
          The ridge also weighs on the constant part, so a window's rows sum to about (r/27)^2 instead of zero.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from threadpoolctl import threadpool_limits

from matting.graph import SparseOperator
from matting.parameters import LearningBased
from matting.region import Region
from matting.solver import Problem
from matting.windows import WINDOW_SIZE, Windows, window_laplacian, windows_centred, windows_touching

BATCH = 2000
"""Windows whose 27 x 27 matrices are held at once."""


def build(region: Region, parameters: LearningBased) -> Problem:
    """Set up learning-based matting on a region."""
    windows = windows_centred(region) if parameters.windows == "centred" else windows_touching(region)
    if parameters.kernel == "gaussian":
        return Problem(_kernel_laplacian(windows, parameters), windows.unknown)
    return Problem(window_laplacian(windows, _linear_fit(windows, parameters.ridge)), windows.unknown)


def _linear_fit(windows: Windows, ridge: float) -> NDArray[np.float64]:
    """Give M = 2 C - C D C of each window as (windows, 3): M_00, M_01, M_11."""
    n, mean, variance = float(WINDOW_SIZE), windows.mean, windows.variance
    # D + r S^-1 and its inverse
    a00, a01, a11 = n * variance + ridge * (1.0 + mean**2), -ridge * mean, n + ridge
    determinant = a00 * a11 - a01**2
    c00, c01, c11 = a11 / determinant, -a01 / determinant, a00 / determinant
    m00 = 2.0 * c00 - n * (variance * c00**2 + c01**2)
    m01 = 2.0 * c01 - n * (variance * c00 + c11) * c01
    m11 = 2.0 * c11 - n * (variance * c01**2 + c11**2)
    return np.stack([m00, m01, m11], axis=1)


def _kernel_laplacian(windows: Windows, parameters: LearningBased) -> SparseOperator:
    """Sum up (Id - F)^2 with Id - F = r (K + r Id)^-1 over all windows."""
    node_of = np.full(windows.intensity.size, -1, np.int64)
    node_of[windows.nodes] = np.arange(len(windows.nodes))
    size = len(windows.nodes)
    total = sparse.csr_matrix((size, size))
    ridge = parameters.ridge * np.eye(WINDOW_SIZE)
    for start in range(0, len(windows.centres), BATCH):
        members = windows.centres[start : start + BATCH, None] + windows.offsets
        values = windows.intensity[members]
        apart = (values[:, :, None] - values[:, None, :]) / parameters.kernel_width
        with threadpool_limits(1):
            misfit = parameters.ridge * np.linalg.inv(np.exp(-0.5 * apart**2) + ridge)
            local = misfit @ misfit
        nodes = node_of[members]
        rows = np.repeat(nodes, WINDOW_SIZE, axis=1).ravel()
        columns = np.tile(nodes, (1, WINDOW_SIZE)).ravel()
        total += sparse.csr_matrix((local.ravel(), (rows, columns)), shape=(size, size))
    return SparseOperator(windows.voxels, ((total + total.T) / 2.0).tocsr())

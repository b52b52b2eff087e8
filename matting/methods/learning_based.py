"""Learning-based matting (LB).

Paper     Y. Zheng, C. Kambhamettu, Learning Based Digital Matting, ICCV 2009,
          doi:10.1109/ICCV.2009.5459326.
Assumes   Within a window, a voxel's alpha can be learnt from the others' by ridge regression on the
          channels.
Equation  L = sum over windows of c_w (Id - F)^T (Id - F),   F = K (K + r Id)^-1
          linear model    K = X X^T, X = [I_w, J_w, 1]
          kernel model    K_ij = exp(-(I_i - I_j)^2 / (2 kernel_width^2))

Symbols   I_w: intensities in the window    J_w: the mean within `mean_reach_mm` of each voxel minus
          its intensity    r: `ridge`    Id: identity    K: `kernel`    c_w: t / (v_w + t), t
          `trusted_variance`, v_w the intensity's variance

Ours      Windows of 3 x 3 x 3 voxels, all that hold an unknown voxel ("touching"), or only those
          centred on one ("centred"; on the patch's border the nearest window inside). Two channels
          make the linear model closed, with no 27 x 27 inverse. Around the channels' means m,
          X = X_c T with X_c = [I_w - m_0, J_w - m_1, 1]; with n voxels of covariance V,
          D = X_c^T X_c = diag(n V, n), S = T T^T and C = (D + r S^-1)^-1,

              (Id - F)^T (Id - F) = Id - X_c M X_c^T,   M = 2 C - C D C,
              S^-1 = [[Id + m m^T, -m], [-m^T, 1]],

          the form of matting/solvers/window_laplacian.py. (The same without moving to the mean
          loses all digits where a window is flat.) With the same channels and a small ridge it is
          closed-form matting: to second order in r it shrinks no slope. The kernel model has
          Id - F = r (K + r Id)^-1 and is summed up as a sparse matrix. The ridge also acts on the
          constant part, so a window's rows sum to about (r/27)^2 instead of zero.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from threadpoolctl import threadpool_limits

from matting.jit import kernel
from matting.parameters import LearningBasedSettings
from matting.solvers.conjugate_gradient import LinearSystem
from matting.solvers.graph_laplacian import SparseOperator
from matting.solvers.solve_domain import SolveDomain
from matting.solvers.window_laplacian import (
    WINDOW_SIZE,
    Windows,
    find_centred_windows,
    find_touching_windows,
    window_laplacian,
    window_weights,
)

Floats = NDArray[np.float64]
BATCH = 2000
"""Windows whose 27 x 27 matrices are in memory at once."""


def build(domain: SolveDomain, parameters: LearningBasedSettings) -> LinearSystem:
    """Set up learning-based matting on a domain.

    Args:
        domain: The voxels to solve and their surroundings.
        parameters: Ridge, channels, windows and kernel.

    Returns:
        The system, its unknown nodes in raster order.
    """
    centred = parameters.windows == "centred"
    find_windows = find_centred_windows if centred else find_touching_windows
    windows = find_windows(domain, parameters.mean_reach_mm)
    weights = window_weights(windows, parameters.trusted_variance)
    if parameters.kernel == "gaussian":
        operator = _kernel_laplacian(windows, weights, parameters)
        return LinearSystem(operator, windows.unknown)
    fit = np.empty((6, len(windows.centres)))
    _fit_linear(windows.mean, windows.covariance, parameters.ridge, weights, fit)
    linear = window_laplacian(windows, fit, weights)
    return LinearSystem(linear, windows.unknown, channels=windows.unknown_channels)


@kernel
def _fit_linear(
    mean: Floats, covariance: Floats, ridge: float, weights: Floats, fit: Floats
) -> None:
    """Write M = c (2 C - C D C) of each window: M_00, M_01, M_02, M_11, M_12, M_22.

    All 3 x 3 matrices are written out entry by entry: they stay in registers, and no BLAS decides
    the order of their sums. The ridge makes A = D + r S^-1 positive definite also in flat windows.
    """
    n = float(WINDOW_SIZE)
    for w in range(len(weights)):
        m0 = mean[0, w]
        m1 = mean[1, w]
        d00 = n * covariance[0, w]
        d01 = n * covariance[1, w]
        d11 = n * covariance[2, w]
        # A = D + r S^-1
        a00 = d00 + ridge * (1.0 + m0 * m0)
        a01 = d01 + ridge * m0 * m1
        a02 = -ridge * m0
        a11 = d11 + ridge * (1.0 + m1 * m1)
        a12 = -ridge * m1
        a22 = n + ridge
        # its cofactors, and C = A^-1
        k00 = a11 * a22 - a12 * a12
        k01 = a02 * a12 - a01 * a22
        k02 = a01 * a12 - a02 * a11
        k11 = a00 * a22 - a02 * a02
        k12 = a01 * a02 - a00 * a12
        k22 = a00 * a11 - a01 * a01
        scale = 1.0 / (a00 * k00 + a01 * k01 + a02 * k02)
        c00 = k00 * scale
        c01 = k01 * scale
        c02 = k02 * scale
        c11 = k11 * scale
        c12 = k12 * scale
        c22 = k22 * scale
        # the first two rows of D C; its third is n (c02, c12, c22)
        e00 = d00 * c00 + d01 * c01
        e01 = d00 * c01 + d01 * c11
        e02 = d00 * c02 + d01 * c12
        e10 = d01 * c00 + d11 * c01
        e11 = d01 * c01 + d11 * c11
        e12 = d01 * c02 + d11 * c12
        fit[0, w] = weights[w] * (2.0 * c00 - c00 * e00 - c01 * e10 - n * c02 * c02)
        fit[1, w] = weights[w] * (2.0 * c01 - c00 * e01 - c01 * e11 - n * c02 * c12)
        fit[2, w] = weights[w] * (2.0 * c02 - c00 * e02 - c01 * e12 - n * c02 * c22)
        fit[3, w] = weights[w] * (2.0 * c11 - c01 * e01 - c11 * e11 - n * c12 * c12)
        fit[4, w] = weights[w] * (2.0 * c12 - c01 * e02 - c11 * e12 - n * c12 * c22)
        fit[5, w] = weights[w] * (2.0 * c22 - c02 * e02 - c12 * e12 - n * c22 * c22)


def _kernel_laplacian(
    windows: Windows, weights: Floats, parameters: LearningBasedSettings
) -> SparseOperator:
    """Add up c (Id - F)^2 with Id - F = r (K + r Id)^-1 over all windows.

    LAPACK runs in one thread: with several its sums would depend on their number.
    """
    node_of = np.full(windows.channels.shape[1], -1, np.int64)
    node_of[windows.nodes] = np.arange(len(windows.nodes))
    size = len(windows.nodes)
    total = sparse.csr_matrix((size, size))
    ridge = parameters.ridge * np.eye(WINDOW_SIZE)
    for start in range(0, len(windows.centres), BATCH):
        members = windows.centres[start : start + BATCH, None] + windows.offsets
        values = windows.channels[0, members]
        difference = (values[:, :, None] - values[:, None, :]) / parameters.kernel_width
        with threadpool_limits(1):
            misfit = parameters.ridge * np.linalg.inv(np.exp(-0.5 * difference**2) + ridge)
            local = weights[start : start + BATCH, None, None] * (misfit @ misfit)
        nodes = node_of[members]
        rows = np.repeat(nodes, WINDOW_SIZE, axis=1).ravel()
        columns = np.tile(nodes, (1, WINDOW_SIZE)).ravel()
        total += sparse.csr_matrix((local.ravel(), (rows, columns)), shape=(size, size))
    # The inverse is symmetric up to rounding, but conjugate gradients need it exactly.
    return SparseOperator(windows.voxels, ((total + total.T) / 2.0).tocsr())

"""Information-flow matting (IF).

Paper     Y. Aksoy, T. O. Aydin, M. Pollefeys, Designing Effective Inter-Pixel Information Flow for Natural Image
          Matting, CVPR 2017, doi:10.1109/CVPR.2017.32. Written from the paper's formulas alone.
Minimises a^T L_CM a + intra_strength a^T L_UU a + local_strength a^T L_LOC a
              + known_strength sum over U of eta_p (a_p - aF_p)^2 + ramp     with a_K = S_K

Flows     colour mixture   p in U is rebuilt from its 20 nearest anywhere: L_CM = (Id - W)^T (Id - W), rows of U
          known to U       p is rebuilt from its 7 nearest in F and 7 in B: aF_p = sum over F of w_q S_q,
                           eta_p = (sum over F of w_q I_q - sum over B of w_q I_q)^2
          intra U          L_UU: Laplacian of w = max(0, 1 - mean |f_p - f_q|) with the 5 nearest in U
          local            L_LOC: the closed-form Laplacian (matting/solvers/window_laplacian.py)
          ramp             what geometry alone says (matting/solvers/ramp.py); ours

Rebuilding weights of least norm that sum to one, with n the neighbours' intensities, m their mean, d = n - m and k
their number:
          w = 1/k + d (I_p - m) / (mixture_ridge + d.d)

Symbols   I: intensity    U, F, B: unknown, foreground, background    S: known values    f = (I, weight position)
          aF: `target`    eta: `confidence`    W: `rows` holds Id - W

Ours      Position has three parts, in mm over solver.position_scale_mm. One channel makes the rebuilding weights
          closed instead of one linear system a voxel, and eta lacks the paper's division by three channels. aF is
          weighted with S, so that the optimised form (Eq. 28) reaches the flow from known voxels too, and is kept
          within 0 and the largest S used: a voxel brighter than the whole lesion (bone, a vessel) would otherwise be
          pulled far beyond 1. The local term has the two channels and the trust in windows of matting/solvers/window_laplacian.py.
          The paper's two ways of trimming the trimap beforehand are left out: they move the known labels, which the
          readers decide here.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from matting.parameters import InformationFlowSettings
from matting.solvers.conjugate_gradient import (
    DataTerm,
    KnownValues,
    LinearSystem,
    Operator,
    sum_operators,
)
from matting.solvers.graph_laplacian import SparseOperator, SquareOperator, laplacian, number_nodes
from matting.solvers.knn_search import Metric, affinity, nearest
from matting.solvers.ramp import ramp_pull
from matting.solvers.region import SolveDomain
from matting.solvers.window_laplacian import (
    Windows,
    ridge_fit,
    window_laplacian,
    window_weight,
    windows_touching,
)

Floats = NDArray[np.float64]
Voxels = NDArray[np.int64]


def build(
    region: SolveDomain, parameters: InformationFlowSettings, targets: KnownValues
) -> LinearSystem:
    """Set up information-flow matting on a region; `targets` are the known values, which one of its flows carries."""
    unknown = np.flatnonzero(region.unknown)
    windows = windows_touching(region, parameters.local_mean_reach_mm)
    operator = sum_operators(
        len(unknown),
        (1.0, _mixture(region, unknown, parameters)),
        (parameters.intra_strength, _intra(region, unknown, parameters)),
        (parameters.local_strength, _local(windows, parameters)),
    )
    pull = _from_known(region, unknown, parameters, targets)
    pull += ramp_pull(
        region, targets, parameters.ramp_strength, parameters.rim_strength, parameters.rim_mm
    )
    return LinearSystem(operator, len(unknown), pull=pull, channels=windows.unknown_channels)


def _mixture(
    region: SolveDomain, unknown: Voxels, parameters: InformationFlowSettings
) -> SquareOperator:
    metric = Metric(1.0, parameters.mixture_position_weight * region.steps)
    found = nearest(
        region.intensity,
        np.ones(region.shape, bool),
        unknown,
        parameters.mixture_neighbours,
        metric,
    )
    weights = rebuilding_weights(region.intensity.ravel(), unknown, found, parameters.mixture_ridge)
    voxels, nodes = number_nodes(unknown, found)
    own = np.arange(len(unknown))
    entries = np.concatenate([np.ones(len(unknown)), -weights.ravel()])
    places = (
        np.concatenate([own, np.repeat(own, found.shape[1])]),
        np.concatenate([own, nodes.ravel()]),
    )
    return SquareOperator(
        voxels, sparse.csr_matrix((entries, places), shape=(len(unknown), len(voxels)))
    )


def _intra(
    region: SolveDomain, unknown: Voxels, parameters: InformationFlowSettings
) -> SparseOperator:
    metric = Metric(1.0, parameters.intra_position_weight * region.steps)
    found = nearest(region.intensity, region.unknown, unknown, parameters.intra_neighbours, metric)
    voxels, nodes = number_nodes(unknown, found)
    weights = affinity(region.intensity, unknown, found, metric)
    sources = np.repeat(np.arange(len(unknown)), found.shape[1])
    return SparseOperator(voxels, laplacian(len(voxels), sources, nodes.ravel(), weights.ravel()))


def _local(windows: Windows, parameters: InformationFlowSettings) -> Operator:
    count = window_weight(windows, parameters.local_trusted_variance)
    return window_laplacian(windows, ridge_fit(windows, parameters.local_epsilon, count), count)


def _from_known(
    region: SolveDomain, unknown: Voxels, parameters: InformationFlowSettings, targets: KnownValues
) -> DataTerm:
    """Give the pull of eta towards aF."""
    metric = Metric(1.0, parameters.known_position_weight * region.steps)
    lesion = nearest(
        region.intensity, region.foreground, unknown, parameters.known_neighbours, metric
    )
    others = nearest(
        region.intensity, region.background, unknown, parameters.known_neighbours, metric
    )
    intensity = region.intensity.ravel()
    found = np.concatenate([lesion, others], axis=1)
    weights = rebuilding_weights(intensity, unknown, found, parameters.mixture_ridge)
    mixed = weights * intensity[found]
    count = lesion.shape[1]
    confidence: Floats = (mixed[:, :count].sum(axis=1) - mixed[:, count:].sum(axis=1)) ** 2
    known = targets(lesion.ravel()).reshape(*lesion.shape, -1)
    target: Floats = np.clip((weights[:, :count, None] * known).sum(axis=1), 0.0, known.max(axis=1))
    return DataTerm(parameters.known_strength * confidence, target)


def rebuilding_weights(intensity: Floats, queries: Voxels, found: Voxels, ridge: float) -> Floats:
    """Give (queries, neighbours) weights that sum to one and rebuild each query's intensity with least norm."""
    values = intensity[found]
    mean = values.mean(axis=1, keepdims=True)
    apart = values - mean
    energy = ridge + (apart**2).sum(axis=1, keepdims=True)
    weights: Floats = 1.0 / found.shape[1] + apart * (intensity[queries][:, None] - mean) / energy
    return weights

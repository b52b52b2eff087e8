"""Information-flow matting (IF).

Paper     Y. Aksoy, T. O. Aydin, M. Pollefeys, Designing Effective Inter-Pixel Information Flow for
          Natural Image Matting, CVPR 2017, doi:10.1109/CVPR.2017.32. Written from the paper's
          formulas alone.
Minimises a^T L_CM a + intra_strength a^T L_UU a + local_strength a^T L_LOC a
              + known_strength sum over U of eta_p (a_p - aF_p)^2 with a_K = S_K

Flows     colour mixture   p in U is rebuilt from its 20 nearest anywhere:
                           L_CM = (Id - W)^T (Id - W), rows of U
          known to U       p is rebuilt from its 7 nearest in F and 7 in B:
                           aF_p = sum over F of w_q S_q,
                           eta_p = (sum over F of w_q I_q - sum over B of w_q I_q)^2
          intra U          L_UU: Laplacian of w = max(0, 1 - mean |f_p - f_q|) with the 5 nearest
                           in U
          local            L_LOC: the closed-form Laplacian (matting/solvers/window_laplacian.py)

Rebuilding weights of least norm that sum to one, with n the neighbours' intensities, m their mean,
d = n - m and k their number:
          w = 1/k + d (I_p - m) / (mixture_ridge + d.d)

Symbols   I: intensity    U, F, B: unknown, foreground, background    S: known values
          f = (I, weight position)    aF: `target`    eta: `confidence`    W: `rows` holds Id - W

Ours      Position has three parts, in mm over solver.position_scale_mm. One channel makes the
          rebuilding weights closed instead of one linear system a voxel, and eta lacks the paper's
          division by three channels. aF is weighted with S, so that the optimised form (Eq. 28)
          reaches the flow from known voxels too, and is limited to 0 and the largest S used: a
          voxel brighter than the whole lesion (bone, a vessel) would otherwise be drawn far beyond
          1. The local term has the two channels and the window weights of
          matting/solvers/window_laplacian.py.

Trimming  The paper trims the trimap before the flow from known voxels, in two ways
          (matting/solvers/trimming.py): `edge_trimming`, then `patch_trimming`. Here as there they
          decide only what this flow counts as F and B: a trimmed voxel is a neighbour that others
          are rebuilt from, and its own aF is its S (0, or what it would be as known foreground)
          with eta 1. The other flows, and the known values that the matte keeps, stay the readers'.
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
from matting.solvers.knn_search import FeatureMetric, affinity, nearest_neighbours
from matting.solvers.solve_domain import SolveDomain
from matting.solvers.trimming import KnownRegions, trim_by_edges, trim_by_patches
from matting.solvers.window_laplacian import (
    Windows,
    find_touching_windows,
    ridge_fit,
    window_laplacian,
    window_weights,
)

Floats = NDArray[np.float64]
Voxels = NDArray[np.int64]


def searches(
    domain: SolveDomain, parameters: InformationFlowSettings
) -> list[tuple[int, FeatureMetric]]:
    """Return the number of neighbours and the metric of the search among all voxels."""
    metric = FeatureMetric(1.0, parameters.mixture_position_weight * domain.voxel_pitch)
    return [(parameters.mixture_neighbours, metric)]


def build(
    domain: SolveDomain, parameters: InformationFlowSettings, known_values: KnownValues
) -> LinearSystem:
    """Set up information-flow matting on a domain.

    Args:
        domain: The voxels to solve and their surroundings.
        parameters: Neighbours, weights and ridges of the flows.
        known_values: S, which the flow from known voxels carries; of an unknown voxel, what it
            would be as known foreground.

    Returns:
        The system, its unknown nodes in raster order.
    """
    unknown = np.flatnonzero(domain.unknown)
    windows = find_touching_windows(domain, parameters.local_mean_reach_mm)
    operator = sum_operators(
        len(unknown),
        (1.0, _mixture(domain, unknown, parameters)),
        (parameters.intra_strength, _intra(domain, unknown, parameters)),
        (parameters.local_strength, _local(windows, parameters)),
    )
    data_term = _from_known(domain, unknown, parameters, known_values)
    return LinearSystem(
        operator, len(unknown), data_term=data_term, channels=windows.unknown_channels
    )


def _mixture(
    domain: SolveDomain, unknown: Voxels, parameters: InformationFlowSettings
) -> SquareOperator:
    ((count, metric),) = searches(domain, parameters)
    found = domain.search.nearest(domain.intensity, unknown, count, metric)
    weights = rebuilding_weights(domain.intensity.ravel(), unknown, found, parameters.mixture_ridge)
    voxels, nodes = number_nodes(unknown, found)
    size = len(unknown)
    entries = np.concatenate([np.ones((size, 1)), -weights], axis=1)
    column = np.concatenate([np.arange(size)[:, None], nodes], axis=1).astype(np.int32)
    starts = np.arange(0, entries.size + 1, entries.shape[1], dtype=np.int32)
    rows = sparse.csr_matrix((entries.ravel(), column.ravel(), starts), shape=(size, len(voxels)))
    return SquareOperator(voxels, rows)


def _intra(
    domain: SolveDomain, unknown: Voxels, parameters: InformationFlowSettings
) -> SparseOperator:
    metric = FeatureMetric(1.0, parameters.intra_position_weight * domain.voxel_pitch)
    found = nearest_neighbours(
        domain.intensity, domain.unknown, unknown, parameters.intra_neighbours, metric
    )
    voxels, nodes = number_nodes(unknown, found)
    weights = affinity(domain.intensity, unknown, found, metric)
    sources = np.repeat(np.arange(len(unknown)), found.shape[1])
    return SparseOperator(voxels, laplacian(len(voxels), sources, nodes.ravel(), weights.ravel()))


def _local(windows: Windows, parameters: InformationFlowSettings) -> Operator:
    weights = window_weights(windows, parameters.local_trusted_variance)
    return window_laplacian(windows, ridge_fit(windows, parameters.local_epsilon, weights), weights)


def _from_known(
    domain: SolveDomain,
    unknown: Voxels,
    parameters: InformationFlowSettings,
    known_values: KnownValues,
) -> DataTerm:
    """Return the data term of weight known_strength eta and target aF."""
    regions = _known_regions(domain, parameters)
    inside, outside = (region.ravel()[unknown] for region in regions)
    rest = ~(inside | outside)
    confidence = np.ones(len(unknown))
    target = known_values(unknown) * inside[:, None]
    confidence[rest], target[rest] = _flow_from(
        regions, domain, unknown[rest], parameters, known_values
    )
    return DataTerm(parameters.known_strength * confidence, target)


def _known_regions(domain: SolveDomain, parameters: InformationFlowSettings) -> KnownRegions:
    """Return what the flow from known voxels counts as known."""
    regions = KnownRegions(domain.foreground, domain.background)
    if parameters.edge_trimming:
        regions = trim_by_edges(domain)
    return trim_by_patches(domain, regions) if parameters.patch_trimming else regions


def _flow_from(
    regions: KnownRegions,
    domain: SolveDomain,
    voxels: Voxels,
    parameters: InformationFlowSettings,
    known_values: KnownValues,
) -> tuple[Floats, Floats]:
    """Return eta (voxels,) and aF (voxels, columns) of voxels in neither region."""
    metric = FeatureMetric(1.0, parameters.known_position_weight * domain.voxel_pitch)
    lesion, others = (
        nearest_neighbours(domain.intensity, region, voxels, parameters.known_neighbours, metric)
        for region in regions
    )
    intensity = domain.intensity.ravel()
    found = np.concatenate([lesion, others], axis=1)
    weights = rebuilding_weights(intensity, voxels, found, parameters.mixture_ridge)
    mixed = weights * intensity[found]
    inside = lesion.shape[1]
    confidence: Floats = (mixed[:, :inside].sum(axis=1) - mixed[:, inside:].sum(axis=1)) ** 2
    known = known_values(lesion.ravel()).reshape(*lesion.shape, -1)
    target: Floats = np.clip(
        (weights[:, :inside, None] * known).sum(axis=1), 0.0, known.max(axis=1)
    )
    return confidence, target


def rebuilding_weights(intensity: Floats, queries: Voxels, found: Voxels, ridge: float) -> Floats:
    """Return the weights of least norm that sum to one and rebuild each query's intensity.

    Args:
        intensity: (voxels,), 0..1.
        queries: (queries,), flat indices.
        found: (queries, neighbours), flat indices of the neighbours.
        ridge: Above 0; more draws the weights towards a plain average.

    Returns:
        (queries, neighbours); some may be negative.
    """
    values = intensity[found]
    mean = values.mean(axis=1, keepdims=True)
    centred = values - mean
    energy = ridge + (centred**2).sum(axis=1, keepdims=True)
    weights: Floats = 1.0 / found.shape[1] + centred * (intensity[queries][:, None] - mean) / energy
    return weights

"""KNN matting.

Paper     Q. Chen, D. Li, C.-K. Tang, KNN Matting, IEEE TPAMI 35(9), 2013,
          doi:10.1109/TPAMI.2013.18.
Assumes   Voxels alike in intensity and position have similar alpha, wherever they are (the nonlocal
          principle).
Equation  L = diag(W 1) - W,   W_ij = max(w_ij, w_ji),
          w_ij = max(0, 1 - mean over features |f_i - f_j|)
          for each unknown i, and with search_known each i, and its nearest neighbours j

Symbols   f_i = (intensity_weight I_i, level position_i): features, four of them
          level: one of `position_weights`    I: intensity
          position: mm over solver.position_scale_mm

Ours      Position has three parts and is in mm, so that thick slices count as far as they are. In
          the improved form it is over a fixed length, so that the size of the searched box does not
          decide how far is far. Searches at several levels of position against intensity are
          joined. In the paper all voxels search: `search_known`. Without it only unknown ones do,
          which is cheaper: the search takes most of the time, and known voxels are many. An edge
          counts for both its ends: the matrix is symmetric, as conjugate gradients require. Ties
          among equally near neighbours go to the lower voxel index.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from matting.parameters import KnnSettings
from matting.solvers.conjugate_gradient import LinearSystem
from matting.solvers.graph_laplacian import (
    SparseOperator,
    count_disconnected,
    laplacian,
    number_nodes,
)
from matting.solvers.knn_search import FeatureMetric, affinity, nearest_neighbours
from matting.solvers.solve_domain import SolveDomain

Voxels = NDArray[np.int64]
Edges = tuple[Voxels, Voxels, NDArray[np.float64]]
"""Voxels at the beginning and at the end of edges, as flat indices in the domain, and weights."""


def searches(domain: SolveDomain, parameters: KnnSettings) -> list[tuple[int, FeatureMetric]]:
    """Return the number of neighbours and the metric of the search at each level."""
    return [
        (count, FeatureMetric(parameters.intensity_weight, level * domain.voxel_pitch))
        for count, level in zip(parameters.neighbours, parameters.position_weights, strict=True)
    ]


def build(domain: SolveDomain, parameters: KnnSettings) -> LinearSystem:
    """Set up KNN matting on a domain; its system has no data term."""
    unknown = np.flatnonzero(domain.unknown)
    found = [
        edges
        for count, metric in searches(domain, parameters)
        for edges in _search(domain, unknown, count, metric, parameters.search_known)
    ]
    sources, targets, weights = (np.concatenate(parts) for parts in zip(*found, strict=True))
    voxels, nodes = number_nodes(unknown, np.stack([sources, targets]))
    matrix = laplacian(len(voxels), nodes[0], nodes[1], weights)
    return LinearSystem(
        SparseOperator(voxels, matrix),
        len(unknown),
        disconnected=count_disconnected(matrix, len(unknown)),
    )


def _search(
    domain: SolveDomain, unknown: Voxels, count: int, metric: FeatureMetric, search_known: bool
) -> Iterator[Edges]:
    """Find the edges of one level: those of unknown voxels, then those of known ones to them.

    Edges between known voxels decide nothing (Eq. 15 holds both ends fixed) and are not built.
    """
    found = domain.search.nearest(domain.intensity, unknown, count, metric)
    weights = affinity(domain.intensity, unknown, found, metric)
    yield np.repeat(unknown, found.shape[1]), found.ravel(), weights.ravel()
    if search_known:
        everywhere = np.ones(domain.shape, bool)
        known = np.flatnonzero(~domain.unknown)
        found = nearest_neighbours(domain.intensity, everywhere, known, count, metric)
        row, column = np.nonzero(domain.unknown.ravel()[found])
        sources, targets = known[row], found[row, column]
        weights = affinity(domain.intensity, sources, targets[:, None], metric)
        yield sources, targets, weights.ravel()

"""KNN matting.

Paper     Q. Chen, D. Li, C.-K. Tang, KNN Matting, IEEE TPAMI 35(9), 2013,
          doi:10.1109/TPAMI.2013.18.
Assumes   Voxels alike in intensity and position have similar alpha, wherever they are (the nonlocal
          principle).
Equation  L = diag(W 1) - W,   W_ij = max(w_ij, w_ji),
          w_ij = max(0, 1 - mean over features |f_i - f_j|)
          for each unknown i and its nearest neighbours j

Symbols   f_i = (intensity_weight I_i, level position_i): features, four of them
          level: one of `position_weights`    I: intensity
          position: mm over solver.position_scale_mm

Ours      Position has three parts and is in mm, so that thick slices count as far as they are; over
          a fixed length, so that the size of the searched box does not decide how far is far.
          Searches at several levels of position against intensity are joined. Only unknown voxels
          search, and an edge counts for both its ends: the matrix is symmetric, as conjugate
          gradients require. Ties among equally near neighbours go to the lower voxel index.
"""

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
from matting.solvers.knn_search import FeatureMetric, affinity
from matting.solvers.solve_domain import SolveDomain


def searches(domain: SolveDomain, parameters: KnnSettings) -> list[tuple[int, FeatureMetric]]:
    """Return the number of neighbours and the metric of the search at each level."""
    return [
        (count, FeatureMetric(parameters.intensity_weight, level * domain.voxel_pitch))
        for count, level in zip(parameters.neighbours, parameters.position_weights, strict=True)
    ]


def build(domain: SolveDomain, parameters: KnnSettings) -> LinearSystem:
    """Set up KNN matting on a domain; its system has no data term."""
    unknown = np.flatnonzero(domain.unknown)
    sources: list[NDArray[np.int64]] = []
    targets: list[NDArray[np.int64]] = []
    weights: list[NDArray[np.float64]] = []
    for count, metric in searches(domain, parameters):
        found = domain.search.nearest(domain.intensity, unknown, count, metric)
        sources.append(np.repeat(np.arange(len(unknown)), found.shape[1]))
        targets.append(found.ravel())
        weights.append(affinity(domain.intensity, unknown, found, metric).ravel())
    voxels, target_nodes = number_nodes(unknown, np.concatenate(targets))
    matrix = laplacian(len(voxels), np.concatenate(sources), target_nodes, np.concatenate(weights))
    return LinearSystem(
        SparseOperator(voxels, matrix),
        len(unknown),
        disconnected=count_disconnected(matrix, len(unknown)),
    )

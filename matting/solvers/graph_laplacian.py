"""Operators over voxels that are linked wherever they are: sparse matrices and their squares.

They number their voxels ("nodes") with the unknown ones first, in raster order, so that the part of
the system that is solved is a leading block.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph

from matting.jit import kernel
from matting.solvers.coarse_correction import CoarseBasis

Floats = NDArray[np.float64]
Voxels = NDArray[np.int64]
Indices = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class SparseOperator:
    """A symmetric matrix over nodes."""

    voxels: Voxels
    """(nodes,): the nodes as flat indices in the solve domain."""
    matrix: Any
    """(nodes, nodes), scipy.sparse.csr_matrix of float64."""

    @property
    def diagonal(self) -> Floats:
        """(nodes,): the matrix' diagonal."""
        return np.asarray(self.matrix.diagonal())

    def apply(self, p: Floats) -> Floats:
        """Multiply (nodes, columns) by the matrix."""
        return multiply(self.matrix, p)

    def multiplier(self) -> Callable[[Floats], Floats]:
        """Return `apply`, which needs no scratch memory."""
        return self.apply

    def coarsen(self, basis: CoarseBasis) -> Any:
        """Return B^T L B, scipy.sparse.csr_matrix, with B the basis on the unknown nodes."""
        size = len(basis.block_of)
        b = basis.matrix
        return (b.T @ (self.matrix[:size, :size] @ b)).tocsr()

    def leading(self, size: int) -> "SparseOperator":
        """Return the block of the first `size` nodes."""
        return SparseOperator(self.voxels[:size], self.matrix[:size, :size].tocsr())


@dataclass(frozen=True, slots=True)
class SquareOperator:
    """R^T R for a sparse R with a row for each equation that should be satisfied."""

    voxels: Voxels
    """(nodes,): the nodes as flat indices in the solve domain."""
    rows: Any
    """(equations, nodes), R as scipy.sparse.csr_matrix of float64."""

    @property
    def diagonal(self) -> Floats:
        """(nodes,): sums of squares of R's columns."""
        return np.bincount(self.rows.indices, self.rows.data**2, self.rows.shape[1]).astype(
            np.float64
        )

    def apply(self, p: Floats) -> Floats:
        """Multiply (nodes, columns) by R^T R."""
        if p.shape[1] != 2:
            return np.asarray(self.rows.T @ (self.rows @ p))
        out = np.zeros_like(p)
        _square_pair(
            self.rows.data, self.rows.indices, self.rows.indptr, np.ascontiguousarray(p), out
        )
        return out

    def multiplier(self) -> Callable[[Floats], Floats]:
        """Return `apply`, which needs no scratch memory."""
        return self.apply

    def coarsen(self, basis: CoarseBasis) -> Any:
        """Return B^T R^T R B, scipy.sparse.csr_matrix, with B the basis on the unknown nodes."""
        rows = (self.rows[:, : len(basis.block_of)] @ basis.matrix).tocsr()
        return (rows.T @ rows).tocsr()

    def leading(self, size: int) -> "SquareOperator":
        """Return the block of the first `size` nodes."""
        return SquareOperator(self.voxels[:size], self.rows[:, :size].tocsr())


def number_nodes(unknown: Voxels, others: Voxels) -> tuple[Voxels, Voxels]:
    """Number voxels with the unknown ones first.

    Args:
        unknown: (unknown,), flat indices, ascending.
        others: Any shape: flat indices, known or not, repeated or not.

    Returns:
        (nodes,) flat indices: the unknown voxels, then the known ones among `others`, ascending;
        and the node of each of `others`, in their shape.
    """
    span = 1 + int(max(unknown.max(initial=0), others.max(initial=0)))
    node_of = np.full(span, -1, np.int64)
    node_of[unknown] = np.arange(len(unknown))
    occurs = np.zeros(span, bool)
    occurs[others.ravel()] = True
    known = np.flatnonzero(occurs & (node_of < 0))
    node_of[known] = len(unknown) + np.arange(len(known))
    return np.concatenate([unknown, known]), node_of[others]


def laplacian(nodes: int, sources: Voxels, targets: Voxels, weights: Floats) -> Any:
    """Build diag(W 1) - W with W_ij = max(w_ij, w_ji) from directed edges between nodes.

    Args:
        nodes: Number of nodes.
        sources: (edges,), the node at the beginning of each edge; edges may repeat.
        targets: (edges,), the node at its end.
        weights: (edges,), w, 0 or more; edges of weight 0 are dropped.

    Returns:
        (nodes, nodes), scipy.sparse.csr_matrix of float64, symmetric, rows summing to zero.
    """
    starts, columns, values = _sort_edges(nodes, sources, targets, weights)
    indptr = np.zeros(nodes + 1, np.int32)
    indices = np.empty(len(columns) + nodes, np.int32)
    data = np.empty(len(columns) + nodes)
    _merge_edges(starts, columns, values, indptr, indices, data)
    size = indptr[-1]
    return sparse.csr_matrix((data[:size], indices[:size], indptr), shape=(nodes, nodes))


@kernel
def _sort_edges(
    nodes: int, sources: Voxels, targets: Voxels, weights: Floats
) -> tuple[Voxels, Indices, Floats]:
    """Return each node's edges, those named from either end, by ascending node at the other end.

    Two stable counting sorts: the edges are dealt out to the nodes at both ends; then, node by
    node, to those at the other ends, which thereby receive them in ascending order.

    Returns:
        Where each node's edges begin, (nodes + 1,); the node at their other end; their weights.
    """
    starts = np.zeros(nodes + 1, np.int64)
    for n in range(len(weights)):
        if weights[n] > 0:
            starts[sources[n] + 1] += 1
            starts[targets[n] + 1] += 1
    for n in range(nodes):
        starts[n + 1] += starts[n]
    dealt = np.empty(starts[-1], np.int32)
    dealt_weights = np.empty(starts[-1])
    filled = starts[:-1].copy()
    for n in range(len(weights)):
        if weights[n] > 0:
            for one, other in ((sources[n], targets[n]), (targets[n], sources[n])):
                dealt[filled[one]] = other
                dealt_weights[filled[one]] = weights[n]
                filled[one] += 1
    others = np.empty_like(dealt)
    values = np.empty_like(dealt_weights)
    filled[:] = starts[:-1]
    for node in range(nodes):
        for n in range(starts[node], starts[node + 1]):
            at = filled[dealt[n]]
            filled[dealt[n]] += 1
            others[at] = node
            values[at] = dealt_weights[n]
    return starts, others, values


@kernel
def _merge_edges(
    starts: Voxels,
    columns: Indices,
    values: Floats,
    indptr: Indices,
    indices: Indices,
    data: Floats,
) -> None:
    """Write the Laplacian row by row: of equal edges the heaviest, and the degree in its place.

    The degree is summed in the order of columns.
    """
    size = 0
    for row in range(len(indptr) - 1):
        degree = 0.0
        diagonal = -1
        first = size
        for n in range(starts[row], starts[row + 1]):
            if size > first and indices[size - 1] == columns[n]:
                data[size - 1] = min(data[size - 1], -values[n])
                continue
            if diagonal < 0 and columns[n] > row:
                diagonal = size
                size += 1
            indices[size] = columns[n]
            data[size] = -values[n]
            size += 1
        if diagonal < 0:
            diagonal = size
            size += 1
        indices[diagonal] = row
        data[diagonal] = 0.0
        for n in range(first, size):
            degree -= data[n]
        data[diagonal] = degree
        indptr[row + 1] = size


def count_disconnected(matrix: Any, unknown: int) -> int:
    """Count the unknown nodes that no path of links joins to a known one.

    Args:
        matrix: (nodes, nodes), scipy.sparse matrix whose entries are the links.
        unknown: Number of unknown nodes, which come first.
    """
    parts, label = csgraph.connected_components(matrix, directed=False)
    anchored = np.zeros(parts, bool)
    anchored[label[unknown:]] = True
    return int((~anchored[label[:unknown]]).sum())


def multiply(matrix: Any, p: Floats) -> Floats:
    """Multiply (columns of the matrix, c) by a scipy.sparse.csr_matrix, term by term as stored.

    Two columns, the usual number, have a kernel of their own: the indices are read once for both.
    """
    out = np.empty((matrix.shape[0], p.shape[1]))
    if p.shape[1] == 2:
        _multiply_pair(matrix.data, matrix.indices, matrix.indptr, np.ascontiguousarray(p), out)
    else:
        out[:] = matrix @ p
    return out


@kernel
def _multiply_pair(
    data: Floats, indices: NDArray[np.int32], indptr: NDArray[np.int32], p: Floats, out: Floats
) -> None:
    for row in range(len(out)):
        sum0 = 0.0
        sum1 = 0.0
        for n in range(indptr[row], indptr[row + 1]):
            sum0 += data[n] * p[indices[n], 0]
            sum1 += data[n] * p[indices[n], 1]
        out[row, 0] = sum0
        out[row, 1] = sum1


@kernel
def _square_pair(
    data: Floats, indices: NDArray[np.int32], indptr: NDArray[np.int32], p: Floats, out: Floats
) -> None:
    """Add R^T (R p) to `out`.

    Row by row: (R p) of a row is multiplied by the same row of R again, while it is in the cache,
    so R is read once and R^T is never formed. Rows add to shared entries of `out`, in their order.
    """
    for row in range(len(indptr) - 1):
        sum0 = 0.0
        sum1 = 0.0
        for n in range(indptr[row], indptr[row + 1]):
            sum0 += data[n] * p[indices[n], 0]
            sum1 += data[n] * p[indices[n], 1]
        for n in range(indptr[row], indptr[row + 1]):
            out[indices[n], 0] += data[n] * sum0
            out[indices[n], 1] += data[n] * sum1

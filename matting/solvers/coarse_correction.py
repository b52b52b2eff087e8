"""The coarse half of the preconditioner, so that large regions take as few steps as small ones.

All four Laplacians charge next to nothing for an alpha that is a line in intensity (and in the second channel, where a
method has one) over some stretch, which the diagonal alone cannot see. So the unknown voxels are put into blocks of the
lattice, and within each block alpha may be corrected by a + b (I - m), m the block's mean intensity, and so for the
second channel. With B these functions and D the diagonal,

    z = D^-1 r + B (B^T (L + P) B)^-1 B^T r

The coarse matrix is small and sparse; its factors come from SuperLU without pivoting, in one thread.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import linalg

from matting.jit import kernel

Floats = NDArray[np.float64]
Voxels = NDArray[np.int64]
BLOCK = 5
"""Voxels along each side of a block; found by measuring: 4 takes a sixth fewer steps, but factors that grow faster than
the region cost more than they save."""
RIDGE = 1e-12
"""Share added to the coarse diagonal, since an intensity nearly flat in a block gives a row of rounding errors."""
FLAT = 1e-6
"""A block whose intensities spread less than this is corrected by a constant only."""


@dataclass(frozen=True, slots=True)
class CoarseBasis:
    """The unknown voxels, block by block."""

    corner: Voxels
    """(blocks, 3): place of each block among all blocks along (z, y, x)."""
    member: Voxels
    """(unknown,): the block of each."""
    functions: Floats
    """(functions, unknown): 1, then each channel less its mean in the block, scaled to at most 1; 0 in flat blocks."""

    @property
    def size(self) -> int:
        """Columns of B."""
        return len(self.corner) * len(self.functions)

    @property
    def basis(self) -> Any:
        """B, (unknown, size), scipy.sparse.csr_matrix: the functions of each block side by side."""
        count = len(self.functions)
        columns = count * self.member[:, None] + np.arange(count)
        starts = np.arange(0, self.functions.size + 1, count)
        return sparse.csr_matrix(
            (self.functions.T.ravel(), columns.ravel(), starts), shape=(len(columns), self.size)
        )

    def weigh(self, weight: Floats) -> Any:
        """Give B^T diag(weight) B for (unknown,) weights."""
        count, blocks = len(self.functions), len(self.corner)
        first = count * np.arange(blocks)
        entries, rows, columns = [], [], []
        for f, one in enumerate(self.functions):
            for g, other in enumerate(self.functions):
                entries.append(np.bincount(self.member, weight * one * other, blocks))
                rows.append(first + f)
                columns.append(first + g)
        places = (np.concatenate(rows), np.concatenate(columns))
        return sparse.csr_matrix((np.concatenate(entries), places), shape=(self.size, self.size))

    def lines_in(self, channels: Floats) -> "CoarseBasis":
        """Give the same blocks with lines in other channels, (channels, unknown)."""
        return CoarseBasis(self.corner, self.member, _functions(self.member, channels))


def blocks_of(unknown: NDArray[np.bool_], intensity: Floats) -> CoarseBasis:
    """Put the unknown voxels, in raster order, into blocks counted from their own corner, whatever lies around."""
    places = np.argwhere(unknown)
    places = (places - places.min(axis=0)) // BLOCK
    keys = np.ravel_multi_index(tuple(places.T), tuple(side // BLOCK + 1 for side in unknown.shape))
    _, first, member = np.unique(keys, return_index=True, return_inverse=True)
    member = member.astype(np.int64)
    return CoarseBasis(
        places[first].astype(np.int64), member, _functions(member, intensity[unknown][None])
    )


def _functions(member: Voxels, channels: Floats) -> Floats:
    functions = np.ones((1 + len(channels), len(member)))
    held = np.bincount(member)
    for function, values in zip(functions[1:], channels, strict=True):
        apart = values - (np.bincount(member, values) / held)[member]
        spread = np.zeros(len(held))
        np.maximum.at(spread, member, np.abs(apart))
        function[:] = np.where(spread[member] > FLAT, apart / np.maximum(spread, FLAT)[member], 0.0)
    return functions


@dataclass(frozen=True, slots=True)
class CoarseCorrection:
    """The coarse matrix, factored."""

    blocks: CoarseBasis
    factors: Any
    """scipy.sparse.linalg.SuperLU of B^T (L + P) B."""

    def correct(self, residue: Floats, z: Floats) -> None:
        """Add B (B^T (L + P) B)^-1 B^T r to z, each column by itself."""
        summed = np.zeros((residue.shape[1], self.blocks.size))
        _restrict(residue, self.blocks.member, self.blocks.functions, summed)
        for column in range(len(summed)):
            summed[column] = self.factors.solve(summed[column])
        _prolong(summed, self.blocks.member, self.blocks.functions, z)


def factor(blocks: CoarseBasis, matrix: Any) -> CoarseCorrection | None:
    """Factor B^T (L + P) B; None where it holds what is no number, which the solve then reports."""
    diagonal = matrix.diagonal()
    if not np.isfinite(matrix.data).all():
        return None
    ridge = np.where(diagonal > 0, RIDGE * diagonal, 1.0)
    matrix = (matrix + sparse.diags(ridge)).tocsc()
    try:
        factors = linalg.splu(
            matrix, "MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
        )
    except RuntimeError:  # singular, as the whole system then is: the diagonal alone will show it
        return None
    return CoarseCorrection(blocks, factors)


@kernel
def _restrict(residue: Floats, member: Voxels, functions: Floats, summed: Floats) -> None:
    count = len(functions)
    for n in range(len(member)):
        for column in range(residue.shape[1]):
            for f in range(count):
                summed[column, count * member[n] + f] += functions[f, n] * residue[n, column]


@kernel
def _prolong(summed: Floats, member: Voxels, functions: Floats, z: Floats) -> None:
    count = len(functions)
    for n in range(len(member)):
        for column in range(z.shape[1]):
            for f in range(count):
                z[n, column] += functions[f, n] * summed[column, count * member[n] + f]


def sum_windows(
    blocks: CoarseBasis,
    centres: Voxels,
    offsets: Voxels,
    nodes: Voxels,
    channels: Floats,
    mean: Floats,
    fit: Floats,
) -> Any:
    """Give the sum over windows of (X^T B)^T M (X^T B) with the X, and `fit` the entries of the M, of windows.py."""
    count, functions = len(blocks.corner), len(blocks.functions)
    place_of = np.full(channels.shape[1], -1, np.int64)
    place_of[nodes] = np.arange(len(nodes))
    beside, sums = np.full((count, 14), -1, np.int64), np.zeros((count, 14, functions, functions))
    _sum_windows(
        blocks.corner,
        blocks.member,
        blocks.functions,
        centres,
        offsets,
        place_of,
        channels,
        mean,
        fit,
        beside,
        sums,
    )
    one, way = np.nonzero(beside >= 0)
    entries, f = sums[one, way], np.arange(functions)
    rows = np.broadcast_to(functions * one[:, None, None] + f[:, None], entries.shape)
    columns = np.broadcast_to(functions * beside[one, way][:, None, None] + f, entries.shape)
    # the other half by symmetry
    away = way > 0
    row, column = np.append(rows, columns[away]), np.append(columns, rows[away])
    shape = (blocks.size, blocks.size)
    return sparse.csr_matrix((np.append(entries, entries[away]), (row, column)), shape=shape)


@kernel
def _sum_windows(
    corner: Voxels,
    member: Voxels,
    functions: Floats,
    centres: Voxels,
    offsets: Voxels,
    place_of: Voxels,
    channels: Floats,
    mean: Floats,
    fit: Floats,
    beside: Voxels,
    sums: Floats,
) -> None:
    # a window reaches at most two blocks along each axis
    held, x, y = (
        np.empty(8, np.int64),
        np.empty((8, len(functions), 3)),
        np.empty((8, len(functions), 3)),
    )
    for w in range(len(centres)):
        count = _sum_window(
            centres[w],
            offsets,
            place_of,
            member,
            functions,
            channels,
            mean[0, w],
            mean[1, w],
            held,
            x,
        )
        for at in range(count):
            for f in range(len(functions)):
                a, b, c = x[at, f, 0], x[at, f, 1], x[at, f, 2]
                y[at, f, 0] = fit[0, w] * a + fit[1, w] * b + fit[2, w] * c
                y[at, f, 1] = fit[1, w] * a + fit[3, w] * b + fit[4, w] * c
                y[at, f, 2] = fit[2, w] * a + fit[4, w] * b + fit[5, w] * c
        for at in range(count):
            for to in range(at, count):
                way = _way(corner, held[at], held[to])
                one, other = (at, to) if way >= 0 else (to, at)
                beside[held[one], abs(way)] = held[other]
                _add_pair(x[one], y[other], sums[held[one], abs(way)])


@kernel
def _sum_window(
    centre: int,
    offsets: Voxels,
    place_of: Voxels,
    member: Voxels,
    functions: Floats,
    channels: Floats,
    mean0: float,
    mean1: float,
    held: Voxels,
    x: Floats,
) -> int:
    """Find the blocks that a window reaches and X^T B of each; give their number."""
    count = 0
    for offset in offsets:
        voxel = centre + offset
        place = place_of[voxel]
        if place < 0:
            continue
        at = 0
        while at < count and held[at] != member[place]:
            at += 1
        if at == count:
            held[at] = member[place]
            x[at] = 0.0
            count += 1
        a, b = channels[0, voxel] - mean0, channels[1, voxel] - mean1
        for f in range(len(functions)):
            value = functions[f, place]
            x[at, f, 0] += a * value
            x[at, f, 1] += b * value
            x[at, f, 2] += value
    return count


@kernel
def _way(corner: Voxels, one: int, other: int) -> int:
    """0 for a block itself, 1 to 13 for the neighbours that come later in raster order, negative for the earlier."""
    way = 0
    for axis in range(3):
        way = 3 * way + corner[other, axis] - corner[one, axis]
    return way


@kernel
def _add_pair(x: Floats, y: Floats, sums: Floats) -> None:
    for f in range(x.shape[0]):
        for g in range(y.shape[0]):
            sums[f, g] += x[f, 0] * y[g, 0] + x[f, 1] * y[g, 1] + x[f, 2] * y[g, 2]

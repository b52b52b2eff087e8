"""The coarse half of the preconditioner, so that large regions take as few steps as small ones.

All four Laplacians charge next to nothing for an alpha that is a line in intensity over some stretch, which the
diagonal alone cannot see. So the unknown voxels are put into blocks of the lattice, and within each block alpha may be
corrected by a + b (I - m), m the block's mean intensity. With B these functions and D the diagonal,

    z = D^-1 r + B (B^T (L + P) B)^-1 B^T r

The coarse matrix is small and sparse; its factors come from SuperLU without pivoting, in one thread.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import linalg

from matting.compiled import kernel

Floats = NDArray[np.float64]
Voxels = NDArray[np.int64]
BLOCK = 4
"""Voxels along each side of a block; found by measuring: half the steps of 8 at little more work a step."""
RIDGE = 1e-12
"""Share added to the coarse diagonal, since an intensity nearly flat in a block gives a row of rounding errors."""
FLAT = 1e-6
"""A block whose intensities spread less than this is corrected by a constant only."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """The unknown voxels, block by block."""

    corner: Voxels
    """(blocks, 3): place of each block among all blocks along (z, y, x)."""
    member: Voxels
    """(unknown,): the block of each."""
    slope: Floats
    """(unknown,): I - m, scaled to at most 1 in each block; 0 in flat blocks."""

    @property
    def basis(self) -> Any:
        """B, (unknown, 2 blocks), scipy.sparse.csr_matrix: constant and slope of each block side by side."""
        size = len(self.member)
        entries = np.stack([np.ones(size), self.slope], axis=1).ravel()
        columns = np.stack([2 * self.member, 2 * self.member + 1], axis=1).ravel()
        starts = np.arange(0, 2 * size + 1, 2)
        return sparse.csr_matrix((entries, columns, starts), shape=(size, 2 * len(self.corner)))

    def weigh(self, weight: Floats) -> Any:
        """Give B^T diag(weight) B for (unknown,) weights."""
        count = len(self.corner)
        entries = [np.bincount(self.member, weight * self.slope**power, count) for power in (0, 1, 1, 2)]
        even = 2 * np.arange(count)
        rows, columns = np.concatenate([even, even, even + 1, even + 1]), np.concatenate([even, even + 1] * 2)
        return sparse.csr_matrix((np.concatenate(entries), (rows, columns)), shape=(2 * count, 2 * count))


def blocks_of(unknown: NDArray[np.bool_], intensity: Floats) -> Blocks:
    """Put the unknown voxels, in raster order, into blocks counted from their own corner, whatever lies around."""
    places = np.argwhere(unknown)
    places = (places - places.min(axis=0)) // BLOCK
    keys = np.ravel_multi_index(tuple(places.T), tuple(side // BLOCK + 1 for side in unknown.shape))
    _, first, member = np.unique(keys, return_index=True, return_inverse=True)
    values = intensity[unknown]
    apart = values - (np.bincount(member, values) / np.bincount(member))[member]
    spread = np.zeros(len(first))
    np.maximum.at(spread, member, np.abs(apart))
    slope = np.where(spread[member] > FLAT, apart / np.maximum(spread, FLAT)[member], 0.0)
    return Blocks(places[first].astype(np.int64), member.astype(np.int64), slope)


@dataclass(frozen=True, slots=True)
class Coarse:
    """The coarse matrix, factored."""

    blocks: Blocks
    factors: Any
    """scipy.sparse.linalg.SuperLU of B^T (L + P) B."""

    def correct(self, residue: Floats, z: Floats) -> None:
        """Add B (B^T (L + P) B)^-1 B^T r to z, each column by itself."""
        summed = np.zeros((residue.shape[1], 2 * len(self.blocks.corner)))
        _restrict(residue, self.blocks.member, self.blocks.slope, summed)
        for column in range(len(summed)):
            summed[column] = self.factors.solve(summed[column])
        _prolong(summed, self.blocks.member, self.blocks.slope, z)


def factor(blocks: Blocks, matrix: Any) -> Coarse | None:
    """Factor B^T (L + P) B; None where it holds what is no number, which the solve then reports."""
    diagonal = matrix.diagonal()
    if not np.isfinite(matrix.data).all():
        return None
    ridge = np.where(diagonal > 0, RIDGE * diagonal, 1.0)
    matrix = (matrix + sparse.diags(ridge)).tocsc()
    try:
        factors = linalg.splu(matrix, "MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    except RuntimeError:  # singular, as the whole system then is: the diagonal alone will show it
        return None
    return Coarse(blocks, factors)


@kernel
def _restrict(residue: Floats, member: Voxels, slope: Floats, summed: Floats) -> None:
    for n in range(len(member)):
        for column in range(residue.shape[1]):
            summed[column, 2 * member[n]] += residue[n, column]
            summed[column, 2 * member[n] + 1] += slope[n] * residue[n, column]


@kernel
def _prolong(summed: Floats, member: Voxels, slope: Floats, z: Floats) -> None:
    for n in range(len(member)):
        for column in range(z.shape[1]):
            z[n, column] += summed[column, 2 * member[n]] + slope[n] * summed[column, 2 * member[n] + 1]


def sum_windows(
    blocks: Blocks, centres: Voxels, offsets: Voxels, nodes: Voxels, intensity: Floats, mean: Floats, fit: Floats
) -> Any:
    """Give the sum over windows of (X^T B)^T M (X^T B), X = [I - m, 1], with `fit` the (3, windows) entries of M."""
    count = len(blocks.corner)
    block_of, slope_of = np.full(len(intensity), -1, np.int64), np.zeros(len(intensity))
    block_of[nodes], slope_of[nodes] = blocks.member, blocks.slope
    beside, sums = np.full((count, 27), -1, np.int64), np.zeros((count, 27, 2, 2))
    _sum_windows(blocks.corner, centres, offsets, block_of, slope_of, intensity, mean, fit, beside, sums)
    one, way = np.nonzero(beside >= 0)
    other, entries = beside[one, way], sums[one, way]
    rows = np.stack([2 * one, 2 * one, 2 * one + 1, 2 * one + 1], axis=1)
    columns = np.stack([2 * other, 2 * other + 1, 2 * other, 2 * other + 1], axis=1)
    shape = (2 * count, 2 * count)
    return sparse.csr_matrix((entries.ravel(), (rows.ravel(), columns.ravel())), shape=shape)


@kernel
def _sum_windows(
    corner: Voxels,
    centres: Voxels,
    offsets: Voxels,
    block_of: Voxels,
    slope_of: Floats,
    intensity: Floats,
    mean: Floats,
    fit: Floats,
    beside: Voxels,
    sums: Floats,
) -> None:
    # a window reaches at most two blocks along each axis
    held, x, y = np.empty(8, np.int64), np.empty((8, 2, 2)), np.empty((8, 2, 2))
    for w in range(len(centres)):
        count = _sum_window(centres[w] + offsets, block_of, slope_of, intensity, mean[w], held, x)
        for at in range(count):
            for f in range(2):
                y[at, f, 0] = fit[0, w] * x[at, f, 0] + fit[1, w] * x[at, f, 1]
                y[at, f, 1] = fit[1, w] * x[at, f, 0] + fit[2, w] * x[at, f, 1]
        for at in range(count):
            for to in range(count):
                _add_pair(corner, held[at], held[to], x[at], y[to], beside, sums)


@kernel
def _sum_window(
    voxels: Voxels, block_of: Voxels, slope_of: Floats, intensity: Floats, mean: float, held: Voxels, x: Floats
) -> int:
    """Find the blocks that a window reaches and X^T B of each; give their number."""
    count = 0
    for voxel in voxels:
        block = block_of[voxel]
        if block < 0:
            continue
        at = 0
        while at < count and held[at] != block:
            at += 1
        if at == count:
            held[at] = block
            x[at] = 0.0
            count += 1
        apart = intensity[voxel] - mean
        x[at, 0, 0] += apart
        x[at, 0, 1] += 1.0
        x[at, 1, 0] += apart * slope_of[voxel]
        x[at, 1, 1] += slope_of[voxel]
    return count


@kernel
def _add_pair(corner: Voxels, one: int, other: int, x: Floats, y: Floats, beside: Voxels, sums: Floats) -> None:
    way = 13
    for axis in range(3):
        way += (corner[other, axis] - corner[one, axis]) * 3 ** (2 - axis)
    beside[one, way] = other
    for f in range(2):
        for g in range(2):
            sums[one, way, f, g] += x[f, 0] * y[g, 0] + x[f, 1] * y[g, 1]

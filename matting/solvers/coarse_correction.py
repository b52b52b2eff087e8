"""The coarse half of the preconditioner, which keeps iterations few on large domains.

All four Laplacians charge next to nothing for an alpha that is linear in the intensity (and in the
second channel, for methods that have one) over some distance. The diagonal alone cannot see such
errors, and conjugate gradients would remove them a few voxels per iteration. So the unknown voxels
are divided into blocks of BLOCK^3, and within each block alpha may be corrected by a + b (I - m),
m the block's mean intensity, and likewise for the second channel. With B these functions as columns
and D the diagonal, the preconditioner is

    z = 2 D^-1 r + B (B^T (L + P) B)^-1 B^T r                                            (1)

a two-level additive method. The coarse matrix B^T (L + P) B is small and sparse, since a window
reaches neighbouring blocks only. It is symmetric positive definite, so SuperLU factors it without
pivoting, in one thread: the same factors on every machine.

Symbols  r  residual    z  preconditioned residual    L, P  operator and data term of
         matting/solvers/conjugate_gradient.py    X, M  of matting/solvers/window_laplacian.py
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
"""Voxels along each side of a block, found by measuring: 4 takes a sixth fewer iterations, but on
large domains the factors grow faster than that saves."""
FINE_WEIGHT = 2.0
"""Factor of the diagonal term in Eq. (1), found by measuring: 1 takes up to a tenth more
iterations, 3 a few more."""
RELATIVE_RIDGE = 1e-12
"""Share added to the coarse diagonal: an intensity nearly flat in a block gives a row of rounding
errors."""
FLAT_DEVIATION = 1e-6
"""A block whose intensities deviate from their mean by less than this has no linear function."""


@dataclass(frozen=True, slots=True)
class CoarseBasis:
    """The matrix B: functions of the unknown voxels, each 0 outside one block."""

    block_index: Voxels
    """(blocks, 3): index of each block among all blocks along (z, y, x)."""
    block_of: Voxels
    """(unknown,): the block of each unknown voxel."""
    functions: Floats
    """(functions, unknown): 1, then each channel minus its mean in the block, scaled to at most 1;
    0 in flat blocks."""

    @property
    def size(self) -> int:
        """Columns of B."""
        return len(self.block_index) * len(self.functions)

    @property
    def matrix(self) -> Any:
        """B, (unknown, size), scipy.sparse.csr_matrix: the functions of each block side by side."""
        count = len(self.functions)
        columns = count * self.block_of[:, None] + np.arange(count)
        starts = np.arange(0, self.functions.size + 1, count)
        return sparse.csr_matrix(
            (self.functions.T.ravel(), columns.ravel(), starts), shape=(len(columns), self.size)
        )

    def weighted_gram(self, weight: Floats) -> Any:
        """Return B^T diag(weight) B, scipy.sparse.csr_matrix, for (unknown,) weights.

        It is block diagonal, since every voxel is in one block.
        """
        count = len(self.functions)
        blocks = len(self.block_index)
        first = count * np.arange(blocks)
        entries = []
        rows = []
        columns = []
        for f, one in enumerate(self.functions):
            for g, other in enumerate(self.functions):
                entries.append(np.bincount(self.block_of, weight * one * other, blocks))
                rows.append(first + f)
                columns.append(first + g)
        indices = (np.concatenate(rows), np.concatenate(columns))
        return sparse.csr_matrix((np.concatenate(entries), indices), shape=(self.size, self.size))

    def with_channels(self, channels: Floats) -> "CoarseBasis":
        """Return the same blocks with linear functions of other channels, (channels, unknown)."""
        return CoarseBasis(self.block_index, self.block_of, _functions(self.block_of, channels))


def coarse_basis(unknown: NDArray[np.bool_], intensity: Floats) -> CoarseBasis:
    """Divide the unknown voxels into blocks.

    Blocks are counted from the corner of the unknown voxels' own bounding box, so that they do not
    depend on how far the solve domain extends.

    Args:
        unknown: (z, y, x), at least one voxel.
        intensity: (z, y, x), the channel of the linear functions, 0..1.

    Returns:
        The basis, its voxels in raster order.
    """
    indices = np.argwhere(unknown)
    indices = (indices - indices.min(axis=0)) // BLOCK
    keys = np.ravel_multi_index(
        tuple(indices.T), tuple(side // BLOCK + 1 for side in unknown.shape)
    )
    _, first, block_of = np.unique(keys, return_index=True, return_inverse=True)
    block_of = block_of.astype(np.int64)
    functions = _functions(block_of, intensity[unknown][None])
    return CoarseBasis(indices[first].astype(np.int64), block_of, functions)


def _functions(block_of: Voxels, channels: Floats) -> Floats:
    functions = np.ones((1 + len(channels), len(block_of)))
    voxels = np.bincount(block_of)
    for function, values in zip(functions[1:], channels, strict=True):
        centred = values - (np.bincount(block_of, values) / voxels)[block_of]
        largest = np.zeros(len(voxels))
        np.maximum.at(largest, block_of, np.abs(centred))
        # Scaled, so that all entries of the coarse matrix have one magnitude whatever the contrast
        scaled = centred / np.maximum(largest, FLAT_DEVIATION)[block_of]
        function[:] = np.where(largest[block_of] > FLAT_DEVIATION, scaled, 0.0)
    return functions


@dataclass(frozen=True, slots=True)
class CoarseCorrection:
    """The second term of Eq. (1), factored."""

    basis: CoarseBasis
    factors: Any
    """scipy.sparse.linalg.SuperLU of B^T (L + P) B."""

    def precondition(self, residual: Floats, inverse: Floats, z: Floats) -> Floats:
        """Write Eq. (1) into z and return r.z of each column.

        Args:
            residual: r, (nodes, columns), the unknown nodes first.
            inverse: 2 D^-1, (nodes,).
            z: (nodes, columns), overwritten.
        """
        basis = self.basis
        # Tuples, whose lengths are known when the kernels are compiled: their loops are unrolled.
        slopes = tuple(basis.functions[1:])
        columns = (0,) * residual.shape[1]
        restricted = np.zeros((len(basis.block_index), len(basis.functions), len(columns)))
        _restrict(residual, basis.block_of, slopes, columns, restricted)
        for column in range(len(columns)):
            # Column by column: several at once would be summed up in another order than one.
            solved = self.factors.solve(restricted[:, :, column].ravel())
            restricted[:, :, column] = solved.reshape(restricted.shape[:2])
        return _prolong(restricted, basis.block_of, slopes, columns, residual, inverse, z)


def factor(basis: CoarseBasis, matrix: Any) -> CoarseCorrection | None:
    """Factor B^T (L + P) B.

    Args:
        basis: B.
        matrix: (size, size), scipy.sparse matrix, symmetric positive semi-definite.

    Returns:
        The correction. None if the matrix has entries that are not finite or is singular: the
        solve then runs on the diagonal alone and reports what is wrong with the system.
    """
    diagonal = matrix.diagonal()
    if not np.isfinite(matrix.data).all():
        return None
    # A flat block has a zero function, hence an empty row; 1 on its diagonal makes it harmless.
    ridge = np.where(diagonal > 0, RELATIVE_RIDGE * diagonal, 1.0)
    matrix = (matrix + sparse.diags(ridge)).tocsc()
    try:
        factors = linalg.splu(
            matrix, "MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
        )
    except RuntimeError:
        return None
    return CoarseCorrection(basis, factors)


@kernel
def _restrict(
    residual: Floats,
    block_of: Voxels,
    slopes: tuple[Floats, ...],
    columns: tuple[int, ...],
    restricted: Floats,
) -> None:
    """Add B^T r to `restricted`, (blocks, functions, columns).

    Voxels are the outer loop: B is never formed, and the voxels of a block add up in raster order.
    Every block's first function is 1; `slopes` are the others, one or two.
    """
    for n in range(len(block_of)):
        block = block_of[n]
        for column in range(len(columns)):
            r = residual[n, column]
            restricted[block, 0, column] += r
            restricted[block, 1, column] += slopes[0][n] * r
            if len(slopes) == 2:
                restricted[block, 2, column] += slopes[-1][n] * r


@kernel
def _prolong(
    coarse: Floats,
    block_of: Voxels,
    slopes: tuple[Floats, ...],
    columns: tuple[int, ...],
    residual: Floats,
    inverse: Floats,
    z: Floats,
) -> Floats:
    """Write z = 2 D^-1 r + B c for (blocks, functions, columns) coefficients c, and return r.z.

    One pass instead of three: the arrays exceed the cache, and reading them is what takes time.
    """
    products = np.zeros(len(columns))
    for n in range(len(residual)):
        for column in range(len(columns)):
            r = residual[n, column]
            value = inverse[n] * r
            # Only the unknown nodes, which come first, are in blocks.
            if n < len(block_of):
                block = block_of[n]
                part = coarse[block, 0, column] + slopes[0][n] * coarse[block, 1, column]
                if len(slopes) == 2:
                    part += slopes[-1][n] * coarse[block, 2, column]
                value += part
            z[n, column] = value
            products[column] += r * value
    return products


def sum_windows(
    basis: CoarseBasis,
    centres: Voxels,
    offsets: Voxels,
    nodes: Voxels,
    channels: Floats,
    mean: Floats,
    fit: Floats,
) -> Any:
    """Return the sum over windows of (X^T B)^T M (X^T B), the second part of B^T L B.

    X, M and the window arrays are those of matting/solvers/window_laplacian.py. A window reaches at
    most two blocks along each axis, so every block has entries with itself and its 26 neighbours.
    One half of them is summed, and the other half follows by symmetry.

    Args:
        basis: B, on the unknown nodes.
        centres: (windows,), flat index in the box of each window's centre.
        offsets: (27,), flat index of each voxel of a window minus that of its centre.
        nodes: (unknown,), flat index in the box of each unknown voxel.
        channels: (1 or 2, voxels of the box): I, and J unless it is 0 everywhere.
        mean: (2, windows), the channels' means.
        fit: (6, windows), M_00, M_01, M_02, M_11, M_12, M_22.

    Returns:
        (size, size), scipy.sparse.csr_matrix.
    """
    blocks = len(basis.block_index)
    functions = len(basis.functions)
    node_of = np.full(channels.shape[1], -1, np.int64)
    node_of[nodes] = np.arange(len(nodes))
    # Direction 0 is the block itself, 1 to 13 the neighbours that follow it in raster order.
    neighbour = np.full((blocks, 14), -1, np.int64)
    sums = np.zeros((blocks, 14, functions, functions))
    _sum_windows(
        basis.block_index,
        basis.block_of,
        tuple(basis.functions[1:]),
        tuple(channels),
        centres,
        offsets,
        node_of,
        mean,
        fit,
        neighbour,
        sums,
    )
    block, direction = np.nonzero(neighbour >= 0)
    entries = sums[block, direction]
    f = np.arange(functions)
    rows = np.broadcast_to(functions * block[:, None, None] + f[:, None], entries.shape)
    columns = np.broadcast_to(
        functions * neighbour[block, direction][:, None, None] + f, entries.shape
    )
    off_diagonal = direction > 0
    row = np.append(rows, columns[off_diagonal])
    column = np.append(columns, rows[off_diagonal])
    shape = (basis.size, basis.size)
    return sparse.csr_matrix(
        (np.append(entries, entries[off_diagonal]), (row, column)), shape=shape
    )


@kernel
def _sum_windows(
    block_index: Voxels,
    block_of: Voxels,
    slopes: tuple[Floats, ...],
    channels: tuple[Floats, ...],
    centres: Voxels,
    offsets: Voxels,
    node_of: Voxels,
    mean: Floats,
    fit: Floats,
    neighbour: Voxels,
    sums: Floats,
) -> None:
    """Add up x^T M x' for every pair of blocks (x, x' rows of X^T B) that share a window.

    Window by window, because a window's X^T B has at most 8 blocks and stays in registers and
    cache: 27 voxels are read once for all pairs of blocks. The columns of X are in the order 1, I,
    J here.
    """
    blocks = np.empty(8, np.int64)
    x = np.empty((8, 1 + len(slopes), 1 + len(channels)))
    mx = np.empty_like(x)
    for w in range(len(centres)):
        count = _restrict_window(
            centres[w], w, offsets, node_of, block_of, slopes, channels, mean, blocks, x
        )
        _apply_fit(fit, w, count, slopes, channels, x, mx)
        for n in range(count):
            for m in range(n, count):
                direction = _direction(block_index, blocks[n], blocks[m])
                # Each pair is stored once, with the block that comes first in raster order.
                first, second = (n, m) if direction >= 0 else (m, n)
                block = blocks[first]
                neighbour[block, abs(direction)] = blocks[second]
                for f in range(1 + len(slopes)):
                    for g in range(1 + len(slopes)):
                        total = x[first, f, 0] * mx[second, g, 0]
                        for part in range(1, 1 + len(channels)):
                            total += x[first, f, part] * mx[second, g, part]
                        sums[block, abs(direction), f, g] += total


@kernel
def _restrict_window(
    centre: int,
    w: int,
    offsets: Voxels,
    node_of: Voxels,
    block_of: Voxels,
    slopes: tuple[Floats, ...],
    channels: tuple[Floats, ...],
    mean: Floats,
    blocks: Voxels,
    x: Floats,
) -> int:
    """Find the blocks that a window reaches and X^T B of each; return their number."""
    count = 0
    n = 0
    for offset in offsets:
        voxel = centre + offset
        node = node_of[voxel]
        if node < 0:
            continue
        # At most 8 blocks, mostly that of the voxel before: faster to search than any table.
        block = block_of[node]
        if count == 0 or blocks[n] != block:
            n = 0
            while n < count and blocks[n] != block:
                n += 1
            if n == count:
                blocks[n] = block
                x[n, :, :] = 0.0
                count += 1
        _add_voxel(x, n, 0, 1.0, w, voxel, channels, mean)
        _add_voxel(x, n, 1, slopes[0][node], w, voxel, channels, mean)
        if len(slopes) == 2:
            _add_voxel(x, n, 2, slopes[-1][node], w, voxel, channels, mean)
    return count


@kernel(inlined=True)
def _add_voxel(
    x: Floats,
    n: int,
    f: int,
    value: float,
    w: int,
    voxel: int,
    channels: tuple[Floats, ...],
    mean: Floats,
) -> None:
    """Add a voxel's row of X times the value there of a function of block n."""
    x[n, f, 0] += value
    x[n, f, 1] += (channels[0][voxel] - mean[0, w]) * value
    if len(channels) == 2:
        x[n, f, 2] += (channels[-1][voxel] - mean[1, w]) * value


@kernel
def _apply_fit(
    fit: Floats,
    w: int,
    count: int,
    slopes: tuple[Floats, ...],
    channels: tuple[Floats, ...],
    x: Floats,
    mx: Floats,
) -> None:
    """Write M times X^T B of each block of a window."""
    for n in range(count):
        for f in range(1 + len(slopes)):
            c, a = x[n, f, 0], x[n, f, 1]
            mx[n, f, 0] = fit[5, w] * c + fit[2, w] * a
            mx[n, f, 1] = fit[2, w] * c + fit[0, w] * a
            if len(channels) == 2:
                b = x[n, f, 2]
                mx[n, f, 0] += fit[4, w] * b
                mx[n, f, 1] += fit[1, w] * b
                mx[n, f, 2] = fit[4, w] * c + fit[1, w] * a + fit[3, w] * b


@kernel
def _direction(block_index: Voxels, one: int, other: int) -> int:
    """Number the direction from one block to another, each of its three steps -1, 0 or 1.

    Read as a number to base 3 the steps give 0 for the block itself, 1 to 13 for the neighbours
    that follow in raster order, and the negative of these for the neighbours that precede.
    """
    direction = 0
    for axis in range(3):
        direction = 3 * direction + block_index[other, axis] - block_index[one, axis]
    return direction

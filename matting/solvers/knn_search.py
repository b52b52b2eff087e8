"""Exact nearest voxels in (intensity, position), with ties broken by voxel index.

With h the difference of position between neighbouring voxels along each axis,

    d(i, j)^2 = (intensity_weight (I_i - I_j))^2
                + sum over axes (position_weight h (index_i - index_j))^2                   (1)

Candidates are sorted into blocks of the grid and, within a block, into bins of intensity. A query
searches the blocks around its own ring by ring, in each block only the bins that are near enough,
and stops when no block further out can hold a candidate as near as those found.

Why the answer does not depend on the order of visits, also where thousands of candidates tie (air,
clipped to one intensity):

- positions enter as whole voxels, so voxels at the same distance tie exactly;
- a block or bin is skipped only if everything in it is strictly farther than the farthest neighbour
  found; bounds that were rounded are widened first (BIN_SLACK, RELATIVE_ROUNDING);
- among equally near candidates the lower voxel index wins, whichever was seen first.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from matting.jit import kernel

Floats = NDArray[np.float64]
Voxels = NDArray[np.int64]
Indices = NDArray[np.int32]
VOXELS_PER_CELL = 16.0
"""Candidates in a cell that is as long in intensity as in space; found by measuring, within a wide
optimum."""
BINS_PER_CELL = 4
"""Bins into which such a cell is cut: the bins of a block are read as one stretch of memory, so
finer bins cost nothing."""
LARGEST_BLOCK = 64
"""Upper limit of a block's longest side, in voxels."""
BINS_PER_CANDIDATE = 2
"""Upper limit of the bins of all blocks for each candidate, plus `SPARE_BINS`: the index stays in
proportion to what it holds."""
SPARE_BINS = 4096
BIN_SLACK = 1e-12
"""Edges of bins are taken to be this much nearer, because a value is put into its bin by a rounded
product."""
RELATIVE_ROUNDING = 1e-14
"""Relative error allowed for in squared distances where a difference of two of them decides."""


@dataclass(frozen=True, slots=True)
class FeatureMetric:
    """The distance between two voxels, Eq. (1)."""

    intensity_weight: float
    """Distance between intensities 0 and 1."""
    voxel_pitch: Floats
    """(3,): distance between neighbouring voxels along (z, y, x)."""


def nearest_neighbours(
    intensity: Floats,
    candidates: NDArray[np.bool_],
    queries: Voxels,
    neighbours: int,
    metric: FeatureMetric,
) -> Voxels:
    """Find the nearest candidates of each query, other than itself.

    Args:
        intensity: (z, y, x), 0..1.
        candidates: (z, y, x), True where neighbours may be found.
        queries: (queries,), flat indices in raster order; all of them candidates, or none.
        neighbours: Number to find.
        metric: The distance.

    Returns:
        (queries, neighbours) flat indices, nearest first, equally near ones by index. Fewer columns
        if there are fewer candidates.
    """
    itself = int(candidates.ravel()[queries].any())
    count = max(0, min(neighbours, int(candidates.sum()) - itself))
    found = np.empty((len(queries), count), np.int64)
    if found.size:
        index = _build_index(intensity, candidates, metric)
        _search(intensity.ravel(), queries, index, found)
    return found


class _CellIndex(NamedTuple):
    """Candidates bin by bin, block by block; a tuple because numba takes no dataclass."""

    shape: Voxels
    """(3,): voxels along (z, y, x)."""
    intensity_weight: float
    """Distance between intensities 0 and 1."""
    voxel_pitch: Floats
    """(3,): distance between neighbouring voxels along (z, y, x)."""
    block: Voxels
    """(3,): voxels of a block along (z, y, x)."""
    bins: int
    """Bins of intensity over 0..1."""
    counts: Voxels
    """(3,): blocks along (z, y, x)."""
    starts: Voxels
    """(blocks times bins + 1,): position of the first member of each bin of each block."""
    members: Voxels
    """(candidates,): flat indices, ascending within each bin."""
    values: Floats
    """(candidates,): their intensities."""
    indices: Indices
    """(candidates, 3): their indices along (z, y, x)."""
    empty_rings: Indices
    """(blocks along z, y, x): rings of blocks around each block, itself the first, that hold no
    candidate."""


class _Query(NamedTuple):
    """A voxel and the nearest candidates found so far."""

    voxel: int
    value: float
    """Its intensity."""
    position: Voxels
    """(3,): its indices along (z, y, x)."""
    block: Voxels
    """(3,): its block along (z, y, x)."""
    squares: Floats
    """(neighbours,): squared distances, ascending; infinite where none is found yet."""
    found: Voxels
    """(neighbours,): flat indices."""


def _build_index(
    intensity: Floats, candidates: NDArray[np.bool_], metric: FeatureMetric
) -> _CellIndex:
    shape = np.asarray(intensity.shape, np.int64)
    voxels = np.flatnonzero(candidates).astype(np.int64, copy=False)
    block, bins = _cell_size(shape, len(voxels), metric)
    counts = -(-shape // block)
    starts = np.zeros(int(counts.prod()) * bins + 1, np.int64)
    members = np.empty(len(voxels), np.int64)
    values = np.empty(len(voxels))
    indices = np.empty((len(voxels), 3), np.int32)
    _counting_sort(
        voxels, intensity.ravel(), shape, block, bins, counts, starts, members, values, indices
    )
    vacant = (np.diff(starts[::bins]) == 0).reshape(counts)
    return _CellIndex(
        shape,
        float(metric.intensity_weight),
        metric.voxel_pitch,
        block,
        bins,
        counts,
        starts,
        members,
        values,
        indices,
        ndimage.distance_transform_cdt(vacant, "chessboard").astype(np.int32),
    )


def _cell_size(shape: Voxels, candidates: int, metric: FeatureMetric) -> tuple[Voxels, int]:
    """Choose the sides of a block and the number of bins.

    A cell, a block times a bin, should be about as long in intensity as in space (both in units of
    the metric) and hold VOXELS_PER_CELL candidates: with four such sides its edge is the fourth
    root of its volume.
    """
    scale = float(np.cbrt(np.prod(metric.voxel_pitch)))
    voxels_per_cell = VOXELS_PER_CELL * float(np.prod(shape.astype(np.float64))) / candidates
    edge = min(float(LARGEST_BLOCK), (voxels_per_cell * metric.intensity_weight / scale) ** 0.25)
    sides = np.round(edge * scale / metric.voxel_pitch)
    block = np.clip(sides, 1, LARGEST_BLOCK).astype(np.int64)
    blocks = int((-(-shape // block)).prod())
    most = max(1, (BINS_PER_CANDIDATE * candidates + SPARE_BINS) // blocks)
    bins = round(BINS_PER_CELL * metric.intensity_weight / (edge * scale))
    return block, int(np.clip(bins, 1, most))


@kernel
def _counting_sort(
    voxels: Voxels,
    intensity: Floats,
    shape: Voxels,
    block: Voxels,
    bins: int,
    counts: Voxels,
    starts: Voxels,
    members: Voxels,
    values: Floats,
    indices: Indices,
) -> None:
    """Count the candidates of each bin into `starts`, then write each at its position.

    A counting sort is stable: voxels enter in raster order and stay in it within each bin.
    """
    bin_of = np.empty(len(voxels), np.int64)
    for n in range(len(voxels)):
        row, x = divmod(voxels[n], shape[2])
        z, y = divmod(row, shape[1])
        cell = ((z // block[0]) * counts[1] + y // block[1]) * counts[2] + x // block[2]
        # Intensity 1 belongs to the last bin, not to one after it.
        bin_of[n] = cell * bins + min(int(intensity[voxels[n]] * bins), bins - 1)
        starts[bin_of[n] + 1] += 1
    for n in range(len(starts) - 1):
        starts[n + 1] += starts[n]
    filled = starts[:-1].copy()
    for n in range(len(voxels)):
        at = filled[bin_of[n]]
        filled[bin_of[n]] += 1
        row, x = divmod(voxels[n], shape[2])
        z, y = divmod(row, shape[1])
        members[at] = voxels[n]
        values[at] = intensity[voxels[n]]
        indices[at, 0] = z
        indices[at, 1] = y
        indices[at, 2] = x


@kernel
def _search(intensity: Floats, queries: Voxels, cells: _CellIndex, found: Voxels) -> None:
    squares = np.empty(found.shape[1])
    position = np.empty(3, np.int64)
    block = np.empty(3, np.int64)
    for q in range(len(queries)):
        row, position[2] = divmod(queries[q], cells.shape[2])
        position[0], position[1] = divmod(row, cells.shape[1])
        block[:] = position // cells.block
        squares[:] = np.inf
        found[q, :] = -1
        query = _Query(queries[q], intensity[queries[q]], position, block, squares, found[q])
        ring = int(cells.empty_rings[block[0], block[1], block[2]])
        _search_ring(query, cells, ring)
        # <=, not <: a candidate further out may tie with the farthest one found and have a lower
        # index. The comparison is false once all blocks were searched (nan), also while squares
        # are still infinite.
        while _covered_square(query, cells, ring) <= squares[-1]:
            ring += 1
            _search_ring(query, cells, ring)


@kernel
def _covered_square(query: _Query, cells: _CellIndex, ring: int) -> float:
    """Return the squared distance within which every candidate lies in the rings searched so far.

    It is the distance to the nearest face of the searched cube of blocks that has blocks beyond
    it; nan if there is none left.
    """
    nearest_face = np.inf
    for axis in range(3):
        below = query.block[axis] - ring
        if below > 0:
            step = (query.position[axis] - below * cells.block[axis] + 1) * cells.voxel_pitch[axis]
            nearest_face = min(nearest_face, step * step)
        above = query.block[axis] + ring + 1
        if above < cells.counts[axis]:
            step = (above * cells.block[axis] - query.position[axis]) * cells.voxel_pitch[axis]
            nearest_face = min(nearest_face, step * step)
    return nearest_face if nearest_face < np.inf else np.nan


@kernel
def _search_ring(query: _Query, cells: _CellIndex, ring: int) -> None:
    """Search every block exactly `ring` blocks away along some axis.

    The squared distance to a block is added up axis by axis, so that whole planes and rows of
    blocks are skipped as soon as they are too far.
    """
    z0, y0, x0 = query.block
    for z in range(max(0, z0 - ring), min(cells.counts[0], z0 + ring + 1)):
        square_z = _gap_square(query, cells, 0, z)
        if square_z > query.squares[-1]:
            continue
        for y in range(max(0, y0 - ring), min(cells.counts[1], y0 + ring + 1)):
            square_zy = square_z + _gap_square(query, cells, 1, y)
            if square_zy > query.squares[-1]:
                continue
            # Inside the shell only the two ends of a row are part of it.
            on_shell = max(abs(z - z0), abs(y - y0)) == ring
            for x in range(x0 - ring, x0 + ring + 1, 1 if on_shell else 2 * ring):
                if 0 <= x < cells.counts[2]:
                    square = square_zy + _gap_square(query, cells, 2, x)
                    if square <= query.squares[-1]:
                        block = (z * cells.counts[1] + y) * cells.counts[2] + x
                        _search_block(query, cells, square, block * cells.bins)


@kernel
def _gap_square(query: _Query, cells: _CellIndex, axis: int, block: int) -> float:
    """Return the squared distance from the query to the nearest voxel of a block along one axis."""
    first = block * cells.block[axis]
    below = first - query.position[axis]
    above = query.position[axis] - first - cells.block[axis] + 1
    step: float = max(0, max(below, above)) * cells.voxel_pitch[axis]
    return step * step


@kernel
def _search_block(query: _Query, cells: _CellIndex, square: float, first_bin: int) -> None:
    """Search the bins of a block whose intensities are near enough.

    Args:
        query: The voxel and its nearest candidates so far.
        cells: The index.
        square: Squared distance from the query to the block.
        first_bin: Position of the block's first bin in `starts`.
    """
    if query.squares[-1] < np.inf:
        # All neighbours found once: what is left of the distance bounds the intensity from both
        # sides, and the bins between are one stretch of memory.
        left = query.squares[-1] - square + RELATIVE_ROUNDING * query.squares[-1]
        reach = np.sqrt(left) / cells.intensity_weight + BIN_SLACK
        low = max(0, int(np.floor((query.value - reach) * cells.bins)))
        high = min(cells.bins - 1, int((query.value + reach) * cells.bins))
        start = cells.starts[first_bin + low]
        stop = cells.starts[first_bin + high + 1]
        _insert_members(query, cells, start, stop)
        return
    own = min(int(query.value * cells.bins), cells.bins - 1)
    for away in range(cells.bins):
        # Nothing in these bins is nearer in intensity than the near edge of the closer of them.
        edge = cells.intensity_weight * max(0.0, (away - 1) / cells.bins - BIN_SLACK)
        if square + edge * edge > query.squares[-1]:
            break
        below = first_bin + own - away
        above = first_bin + own + away
        if own - away >= 0:
            _insert_members(query, cells, cells.starts[below], cells.starts[below + 1])
        if away > 0 and own + away < cells.bins:
            _insert_members(query, cells, cells.starts[above], cells.starts[above + 1])


@kernel
def _insert_members(query: _Query, cells: _CellIndex, first: int, last: int) -> None:
    """Compare members with the neighbours found, and insert those that are nearer.

    Insertion sort on (square, voxel): with ten neighbours or so nothing is faster.
    """
    for n in range(first, last):
        # Whole voxels times the pitch, not differences of positions: equal distances stay equal.
        dz = (cells.indices[n, 0] - query.position[0]) * cells.voxel_pitch[0]
        dy = (cells.indices[n, 1] - query.position[1]) * cells.voxel_pitch[1]
        dx = (cells.indices[n, 2] - query.position[2]) * cells.voxel_pitch[2]
        dv = cells.intensity_weight * (cells.values[n] - query.value)
        square = dz * dz + dy * dy + dx * dx + dv * dv
        voxel = cells.members[n]
        if square > query.squares[-1] or voxel == query.voxel:
            continue
        at = len(query.squares) - 1
        if square == query.squares[at] and voxel > query.found[at]:
            continue
        while at > 0 and (
            query.squares[at - 1] > square
            or (query.squares[at - 1] == square and query.found[at - 1] > voxel)
        ):
            query.squares[at] = query.squares[at - 1]
            query.found[at] = query.found[at - 1]
            at -= 1
        query.squares[at] = square
        query.found[at] = voxel


def affinity(intensity: Floats, queries: Voxels, found: Voxels, metric: FeatureMetric) -> Floats:
    """Return max(0, 1 - mean over the four features |f_i - f_j|) of each query and its neighbours.

    Args:
        intensity: (z, y, x), 0..1.
        queries: (queries,), flat indices.
        found: (queries, neighbours), flat indices.
        metric: The features' scales.

    Returns:
        (queries, neighbours), 0..1.
    """
    flat = intensity.ravel()
    difference = metric.intensity_weight * np.abs(flat[found] - flat[queries][:, None])
    found_indices = np.unravel_index(found, intensity.shape)
    query_indices = np.unravel_index(queries, intensity.shape)
    for there, here, pitch in zip(found_indices, query_indices, metric.voxel_pitch, strict=True):
        difference += pitch * np.abs(there - here[:, None])
    return np.maximum(0.0, 1.0 - difference / 4.0)

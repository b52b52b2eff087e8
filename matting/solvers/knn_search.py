"""Exact nearest voxels in (intensity, position), with ties broken by voxel index.

With h the difference of position between neighbouring voxels along each axis,

    d(i, j)^2 = (intensity_weight (I_i - I_j))^2
                + sum over axes (position_weight h (index_i - index_j))^2                   (1)

Candidates are sorted into blocks of the grid and, within a block, into bins of intensity. Queries
are visited in the same order, so that each is near the one before it both in space and in
intensity: the neighbours of that one bound how far its own can be. A query searches the blocks
around its own ring by ring, in each block only the bins within the bound, which shrinks as
neighbours are found, and stops when no block further out can hold a candidate as near as those.

Why the answer does not depend on the order of visits, also where thousands of candidates tie (air,
clipped to one intensity):

- positions enter as whole voxels, so voxels at the same distance tie exactly;
- a block or bin is skipped only if everything in it is strictly farther than the bound; bounds
  that were rounded are widened first (BIN_SLACK, RELATIVE_ROUNDING);
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
Places = NDArray[np.float32]
"""Whole numbers, which single precision holds exactly up to 2^24."""
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
NONE_YET = np.iinfo(np.int64).max
"""Stands for a neighbour that is not found yet; the index of every voxel is lower."""


@dataclass(frozen=True, slots=True)
class FeatureMetric:
    """The distance between two voxels, Eq. (1)."""

    intensity_weight: float
    """Distance between intensities 0 and 1."""
    voxel_pitch: Floats
    """(3,): distance between neighbouring voxels along (z, y, x)."""

    @property
    def key(self) -> tuple[float, ...]:
        """The numbers of the metric, to find it again by."""
        return (self.intensity_weight, *self.voxel_pitch.tolist())


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
        is_query = np.zeros(intensity.shape, bool)
        is_query.ravel()[queries] = True
        bin_of = np.empty(len(queries), np.int32)
        _assign_bins(intensity, is_query, index.block, index.bins, index.counts, bin_of)
        order = np.argsort(bin_of, kind="stable")
        _search(intensity.ravel(), candidates.ravel(), queries, order, index, found)
    return found


class SharedSearch:
    """Searches among all voxels of a volume, each metric once for all methods that use it.

    The nearest few of a voxel begin the list of its nearest many, ties included. A metric is
    therefore searched for the largest number announced, and the result is kept until every method
    that announced it has taken its columns.
    """

    def __init__(self) -> None:
        """Start without announcements: then every search is done when it is asked for."""
        self._announced: dict[tuple[float, ...], list[int]] = {}
        self._found: dict[tuple[float, ...], Voxels] = {}

    def announce(self, neighbours: int, metric: FeatureMetric) -> None:
        """Announce that a search will be asked for."""
        self._announced.setdefault(metric.key, []).append(neighbours)

    def nearest(
        self, intensity: Floats, queries: Voxels, neighbours: int, metric: FeatureMetric
    ) -> Voxels:
        """Return `nearest_neighbours` among all voxels; the queries are always the same ones."""
        waiting = self._announced.get(metric.key, [])
        found = self._found.pop(metric.key, None)
        if found is None:
            everywhere = np.ones(intensity.shape, bool)
            count = max([neighbours, *waiting])
            found = nearest_neighbours(intensity, everywhere, queries, count, metric)
        if neighbours in waiting:
            waiting.remove(neighbours)
        if waiting:
            self._found[metric.key] = found
        return found[:, :neighbours]


class _CellIndex(NamedTuple):
    """Candidates bin by bin, block by block; a tuple because numba takes no dataclass."""

    shape: Voxels
    """(3,): voxels along (z, y, x)."""
    scale: Floats
    """(4,): distances between neighbouring voxels along (z, y, x) and between intensities 0, 1."""
    block: Voxels
    """(3,): voxels of a block along (z, y, x)."""
    bins: int
    """Bins of intensity over 0..1."""
    counts: Voxels
    """(3,): blocks along (z, y, x)."""
    starts: Voxels
    """(blocks times bins + 1,): position of the first member of each bin of each block."""
    places: Places
    """(3, candidates): indices along (z, y, x) of the members, in raster order within each bin."""
    values: Floats
    """(candidates,): their intensities."""
    fullest: int
    """Most candidates in a block."""
    empty_rings: Indices
    """(blocks along z, y, x): rings of blocks around each block, itself the first, that hold no
    candidate."""


class _Query(NamedTuple):
    """A voxel and the nearest candidates found so far."""

    voxel: int
    place: Places
    """(3,): its indices along (z, y, x)."""
    value: float
    """Its intensity."""
    block: Voxels
    """(3,): its block along (z, y, x)."""
    squares: Floats
    """(neighbours,): squared distances, ascending; the bound where none is found yet."""
    found: Voxels
    """(neighbours,): flat indices; NONE_YET where none is found yet."""
    measured: Floats
    """Scratch memory for the squared distances of the members of a block."""


def _build_index(
    intensity: Floats, candidates: NDArray[np.bool_], metric: FeatureMetric
) -> _CellIndex:
    shape = np.asarray(intensity.shape, np.int64)
    count = int(candidates.sum())
    block, bins = _cell_size(shape, count, metric)
    counts = -(-shape // block)
    bin_of = np.empty(count, np.int32)
    _assign_bins(intensity, candidates, block, bins, counts, bin_of)
    starts = np.zeros(int(counts.prod()) * bins + 1, np.int64)
    places = np.empty((3, count), np.float32)
    values = np.empty(count)
    _counting_sort(intensity, candidates, bin_of, starts, places, values)
    held = np.diff(starts[::bins])
    rings = ndimage.distance_transform_cdt((held == 0).reshape(counts), "chessboard")
    return _CellIndex(
        shape,
        np.append(metric.voxel_pitch, metric.intensity_weight),
        block,
        bins,
        counts,
        starts,
        places,
        values,
        int(held.max()),
        rings.astype(np.int32),
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
def _assign_bins(
    intensity: Floats,
    mask: NDArray[np.bool_],
    block: Voxels,
    bins: int,
    counts: Voxels,
    bin_of: Indices,
) -> None:
    """Number the bin of each voxel of a mask among the bins of all blocks, in raster order."""
    n = 0
    for z in range(mask.shape[0]):
        for y in range(mask.shape[1]):
            row = (z // block[0] * counts[1] + y // block[1]) * counts[2]
            for x in range(mask.shape[2]):
                if mask[z, y, x]:
                    # Intensity 1 belongs to the last bin, not to one after it.
                    own = min(int(intensity[z, y, x] * bins), bins - 1)
                    bin_of[n] = (row + x // block[2]) * bins + own
                    n += 1


@kernel
def _counting_sort(
    intensity: Floats,
    mask: NDArray[np.bool_],
    bin_of: Indices,
    starts: Voxels,
    places: Places,
    values: Floats,
) -> None:
    """Count the candidates of each bin into `starts`, then write each at its position.

    A counting sort is stable: voxels enter in raster order and stay in it within each bin.
    """
    for own in bin_of:
        starts[own + 1] += 1
    for n in range(len(starts) - 1):
        starts[n + 1] += starts[n]
    filled = starts[:-1].copy()
    n = 0
    for z in range(mask.shape[0]):
        for y in range(mask.shape[1]):
            for x in range(mask.shape[2]):
                if mask[z, y, x]:
                    at = filled[bin_of[n]]
                    filled[bin_of[n]] += 1
                    places[0, at] = z
                    places[1, at] = y
                    places[2, at] = x
                    values[at] = intensity[z, y, x]
                    n += 1


@kernel
def _search(
    intensity: Floats,
    candidates: NDArray[np.bool_],
    queries: Voxels,
    order: Voxels,
    cells: _CellIndex,
    found: Voxels,
) -> None:
    """Find the neighbours of all queries, visited in the given order."""
    squares = np.empty(found.shape[1])
    place = np.empty(3, np.float32)
    block = np.empty(3, np.int64)
    measured = np.empty(cells.fullest)
    previous = -1
    for q in order:
        voxel = queries[q]
        place[:] = _place(voxel, cells.shape)
        for axis in range(3):
            block[axis] = int(place[axis]) // cells.block[axis]
        squares[:] = np.inf
        if previous >= 0:
            stand_in = queries[previous] if candidates[queries[previous]] else -1
            squares[:] = _bound(
                voxel, stand_in, found[previous], intensity, cells.shape, cells.scale
            )
        previous = q
        found[q, :] = NONE_YET
        query = _Query(voxel, place, intensity[voxel], block, squares, found[q], measured)
        ring = int(cells.empty_rings[block[0], block[1], block[2]])
        _search_ring(query, cells, ring)
        # <=, not <: a candidate further out may tie with the farthest one found and have a lower
        # index. The comparison is false once all blocks were searched (nan), also while squares
        # are still infinite.
        while _covered_square(query, cells, ring) <= squares[-1]:
            ring += 1
            _search_ring(query, cells, ring)


@kernel(inlined=True)
def _place(voxel: int, shape: Voxels) -> tuple[int, int, int]:
    """Return a voxel's indices along (z, y, x)."""
    row, x = divmod(voxel, shape[2])
    z, y = divmod(row, shape[1])
    return z, y, x


@kernel(inlined=True)
def _bound(
    voxel: int,
    stand_in: int,
    neighbours: Voxels,
    intensity: Floats,
    shape: Voxels,
    scale: Floats,
) -> float:
    """Return a squared distance within which a voxel has as many neighbours as the previous query.

    They are the neighbours of that one. If the voxel itself is among them, the previous query,
    `stand_in`, takes its place; or, if that is no candidate (-1), there is no bound.
    """
    z0, y0, x0 = _place(voxel, shape)
    farthest = 0.0
    for neighbour in neighbours:
        other = stand_in if neighbour == voxel else neighbour
        if other < 0:
            return np.inf
        z, y, x = _place(other, shape)
        # The operations of `_measure`, for the bound must not be smaller than what that gives.
        dz = (z - z0) * scale[0]
        dy = (y - y0) * scale[1]
        dx = (x - x0) * scale[2]
        dv = (intensity[other] - intensity[voxel]) * scale[3]
        farthest = max(farthest, dz * dz + dy * dy + dx * dx + dv * dv)
    return farthest


@kernel(inlined=True)
def _covered_square(query: _Query, cells: _CellIndex, ring: int) -> float:
    """Return the squared distance within which every candidate lies in the rings searched so far.

    It is the distance to the nearest face of the searched cube of blocks that has blocks beyond
    it; nan if there is none left.
    """
    nearest_face = np.inf
    for axis in range(3):
        below = query.block[axis] - ring
        if below > 0:
            step = (query.place[axis] - below * cells.block[axis] + 1) * cells.scale[axis]
            nearest_face = min(nearest_face, step * step)
        above = query.block[axis] + ring + 1
        if above < cells.counts[axis]:
            step = (above * cells.block[axis] - query.place[axis]) * cells.scale[axis]
            nearest_face = min(nearest_face, step * step)
    return nearest_face if nearest_face < np.inf else np.nan


@kernel(inlined=True)
def _search_ring(query: _Query, cells: _CellIndex, ring: int) -> None:
    """Search every block exactly `ring` blocks away along some axis.

    The squared distance to a block is added up axis by axis, so that whole planes and rows of
    blocks are skipped as soon as they are too far.
    """
    voxel, place, value, own, squares, found, measured = query
    shape, scale, block, bins, counts, starts, places, values, _, _ = cells
    z0, y0, x0 = own
    for z in range(max(0, z0 - ring), min(counts[0], z0 + ring + 1)):
        square_z = _gap_square(place[0], z, block[0], scale[0])
        if square_z > squares[-1]:
            continue
        for y in range(max(0, y0 - ring), min(counts[1], y0 + ring + 1)):
            square_zy = square_z + _gap_square(place[1], y, block[1], scale[1])
            if square_zy > squares[-1]:
                continue
            # Inside the shell only the two ends of a row are part of it.
            on_shell = max(abs(z - z0), abs(y - y0)) == ring
            for x in range(x0 - ring, x0 + ring + 1, 1 if on_shell else 2 * ring):
                if not 0 <= x < counts[2]:
                    continue
                square = square_zy + _gap_square(place[2], x, block[2], scale[2])
                if square > squares[-1]:
                    continue
                low, high = _bins_within(value, squares[-1], square, scale[3], bins)
                cell = ((z * counts[1] + y) * counts[2] + x) * bins
                first = starts[cell + low]
                count = starts[cell + high + 1] - first
                _measure(places, values, first, count, place, value, scale, measured)
                _insert_nearer(measured, first, count, places, shape, voxel, squares, found)


@kernel(inlined=True)
def _gap_square(position: float, block: int, side: int, pitch: float) -> float:
    """Return the squared distance from a position to a block along one axis."""
    below = block * side - position
    above = position - (block + 1) * side + 1
    step = max(0.0, max(below, above)) * pitch
    return step * step


@kernel(inlined=True)
def _bins_within(
    value: float, bound: float, square: float, intensity_weight: float, bins: int
) -> tuple[int, int]:
    """Return the first and last bin of a block that can hold a candidate within the bound.

    What the squared distance to the block leaves of the bound limits the intensity from both sides.

    Args:
        value: The query's intensity.
        bound: Squared distance of the farthest neighbour; may be infinite.
        square: Squared distance from the query to the block, at most the bound.
        intensity_weight: Distance between intensities 0 and 1.
        bins: Bins of a block.
    """
    if bound == np.inf:
        return 0, bins - 1
    reach = np.sqrt(bound - square + RELATIVE_ROUNDING * bound) / intensity_weight + BIN_SLACK
    low = max(0, int(np.floor((value - reach) * bins)))
    high = min(bins - 1, int((value + reach) * bins))
    return low, high


@kernel(inlined=True)
def _measure(
    places: Places,
    values: Floats,
    first: int,
    count: int,
    place: Places,
    value: float,
    scale: Floats,
    measured: Floats,
) -> None:
    """Write the squared distances of `count` members, in a loop that processes several at once.

    Whole voxels times the pitch, not differences of positions: equal distances stay equal. The
    indices are unsigned, as in `matting.solvers.window_laplacian._add_windows`.
    """
    z, y, x = place[0], place[1], place[2]
    pitch_z, pitch_y, pitch_x, weight = scale[0], scale[1], scale[2], scale[3]
    start = np.uint64(first)
    for n in range(np.uint64(count)):
        dz = (places[0, start + n] - z) * pitch_z
        dy = (places[1, start + n] - y) * pitch_y
        dx = (places[2, start + n] - x) * pitch_x
        dv = (values[start + n] - value) * weight
        measured[n] = dz * dz + dy * dy + dx * dx + dv * dv


@kernel(inlined=True)
def _insert_nearer(
    measured: Floats,
    first: int,
    count: int,
    places: Places,
    shape: Voxels,
    voxel: int,
    squares: Floats,
    found: Voxels,
) -> None:
    """Insert those of the measured members that are nearer than the farthest neighbour found.

    Insertion sort on (square, voxel): with ten neighbours or so nothing is faster.
    """
    last = len(squares) - 1
    for n in range(count):
        square = measured[n]
        if square > squares[last]:
            continue
        z, y, x = places[0, first + n], places[1, first + n], places[2, first + n]
        member = (int(z) * shape[1] + int(y)) * shape[2] + int(x)
        if member == voxel or (square == squares[last] and member > found[last]):
            continue
        at = last
        while at > 0 and (
            squares[at - 1] > square or (squares[at - 1] == square and found[at - 1] > member)
        ):
            squares[at] = squares[at - 1]
            found[at] = found[at - 1]
            at -= 1
        squares[at] = square
        found[at] = member


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
    shape = np.asarray(intensity.shape, np.int64)
    scale = np.append(metric.voxel_pitch, metric.intensity_weight)
    weights = np.empty(found.shape)
    _write_affinity(intensity.ravel(), queries, found, shape, scale, weights)
    return weights


@kernel
def _write_affinity(
    intensity: Floats, queries: Voxels, found: Voxels, shape: Voxels, scale: Floats, weights: Floats
) -> None:
    for q in range(len(queries)):
        z0, y0, x0 = _place(queries[q], shape)
        for n in range(found.shape[1]):
            voxel = found[q, n]
            z, y, x = _place(voxel, shape)
            difference = scale[3] * abs(intensity[voxel] - intensity[queries[q]])
            difference += scale[0] * abs(z - z0) + scale[1] * abs(y - y0) + scale[2] * abs(x - x0)
            weights[q, n] = max(0.0, 1.0 - difference / 4.0)

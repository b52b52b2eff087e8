"""The nearest voxels of a voxel in (intensity, position), exactly and with ties broken by voxel index.

Features and distance, with h the change of position from voxel to voxel along each axis:

    d(i, j)^2 = (intensity_weight (I_i - I_j))^2 + sum over axes (position_weight h (index_i - index_j))^2

Candidates are sorted into blocks of the lattice and, within a block, into bins of intensity. A query opens the blocks
round its own, ring by ring, in each only the bins that are near enough, and stops when no farther block can hold a
candidate as near as those it has. Positions enter as whole voxels, so that voxels equally far away tie exactly, and a
block or bin is passed over only when everything in it is strictly farther: the answer is the same in any order of
visits, also where thousands of candidates tie (air, clipped to one intensity).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from matting.jit import kernel

Floats = NDArray[np.float64]
Voxels = NDArray[np.int64]
Coordinates = NDArray[np.int32]
VOXELS_PER_CELL = 16.0
"""Candidates in a cell that is as long in intensity as in space; found by measuring, within a wide optimum."""
BINS_PER_CELL = 4
"""Bins into which such a cell is cut: a block's bins are opened as one stretch, so finer bins cost nothing."""
LARGEST_BLOCK = 64
"""Voxels along the longest side of a block at most."""
BINS_PER_CANDIDATE = 2
"""Bins of all blocks at most for each candidate, plus `SPARE_BINS`: the index stays in proportion to what it holds."""
SPARE_BINS = 4096
BIN_SLACK = 1e-12
"""The edges of bins are drawn this much nearer, since a value is put into its bin by a rounded product."""
ROUNDING = 1e-14
"""Share by which squared distances are taken to be off, where a difference of two of them decides."""


@dataclass(frozen=True, slots=True)
class Metric:
    """How far apart two voxels are."""

    intensity_weight: float
    """Distance between intensities 0 and 1."""
    steps: Floats
    """(3,): distance between neighbouring voxels along (z, y, x)."""


def nearest(
    intensity: Floats,
    candidates: NDArray[np.bool_],
    queries: Voxels,
    neighbours: int,
    metric: Metric,
) -> Voxels:
    """Find each query's nearest candidates, itself left out.

    Args:
        intensity: (z, y, x), 0..1.
        candidates: (z, y, x), where neighbours may be found.
        queries: (queries,), voxels in raster order.
        neighbours: How many are wanted.
        metric: The distance.

    Returns:
        (queries, neighbours) voxels, nearest first, equally near ones by index; fewer columns where there are fewer
        candidates than asked for.
    """
    itself = int(candidates.ravel()[queries].any())
    count = max(0, min(neighbours, int(candidates.sum()) - itself))
    found = np.empty((len(queries), count), np.int64)
    if found.size:
        _search(intensity.ravel(), queries, _sort_into_cells(intensity, candidates, metric), found)
    return found


class _Cells(NamedTuple):
    """Candidates, bin by bin of block by block; a tuple because compiled code takes no dataclass."""

    shape: Voxels
    """(3,): voxels along (z, y, x)."""
    intensity_weight: float
    """Distance between intensities 0 and 1."""
    steps: Floats
    """(3,): distance between neighbouring voxels along (z, y, x)."""
    block: Voxels
    """(3,): voxels of a block along (z, y, x)."""
    bins: int
    """Bins of intensity over 0..1."""
    counts: Voxels
    """(3,): blocks along (z, y, x)."""
    starts: Voxels
    """(blocks times bins + 1,): where the members of each bin of each block begin."""
    members: Voxels
    """(candidates,): voxels, ascending within each bin."""
    values: Floats
    """(candidates,): their intensities."""
    places: Coordinates
    """(candidates, 3): their indices along (z, y, x)."""
    empty: Coordinates
    """(blocks along z, y, x): rings of blocks around each block, itself the first, that hold no candidate."""


class _Query(NamedTuple):
    """Whose neighbours are sought, and those found so far."""

    voxel: int
    value: float
    """Its intensity."""
    own: Voxels
    """(3,): its indices along (z, y, x)."""
    home: Voxels
    """(3,): its block along (z, y, x)."""
    squares: Floats
    """(neighbours,): squared distances, ascending; infinite where none is held yet."""
    found: Voxels
    """(neighbours,): the voxels."""


def _sort_into_cells(intensity: Floats, candidates: NDArray[np.bool_], metric: Metric) -> _Cells:
    shape = np.asarray(intensity.shape, np.int64)
    voxels = np.flatnonzero(candidates).astype(np.int64, copy=False)
    block, bins = _cell_size(shape, len(voxels), metric)
    counts = -(-shape // block)
    starts, members = (
        np.zeros(int(counts.prod()) * bins + 1, np.int64),
        np.empty(len(voxels), np.int64),
    )
    values, places = np.empty(len(voxels)), np.empty((len(voxels), 3), np.int32)
    _count_sort(
        voxels, intensity.ravel(), shape, block, bins, counts, starts, members, values, places
    )
    vacant = (np.diff(starts[::bins]) == 0).reshape(counts)
    return _Cells(
        shape,
        float(metric.intensity_weight),
        metric.steps,
        block,
        bins,
        counts,
        starts,
        members,
        values,
        places,
        ndimage.distance_transform_cdt(vacant, "chessboard").astype(np.int32),
    )


def _cell_size(shape: Voxels, candidates: int, metric: Metric) -> tuple[Voxels, int]:
    """Choose the block so that a cell about as long in intensity as in space holds a few candidates; and the bins."""
    scale = float(np.cbrt(np.prod(metric.steps)))
    dense = VOXELS_PER_CELL * float(np.prod(shape.astype(np.float64))) / candidates
    edge = min(float(LARGEST_BLOCK), (dense * metric.intensity_weight / scale) ** 0.25)
    block = np.clip(np.round(edge * scale / metric.steps), 1, LARGEST_BLOCK).astype(np.int64)
    most = max(
        1, (BINS_PER_CANDIDATE * candidates + SPARE_BINS) // int((-(-shape // block)).prod())
    )
    return block, int(
        np.clip(round(BINS_PER_CELL * metric.intensity_weight / (edge * scale)), 1, most)
    )


@kernel
def _count_sort(
    voxels: Voxels,
    intensity: Floats,
    shape: Voxels,
    block: Voxels,
    bins: int,
    counts: Voxels,
    starts: Voxels,
    members: Voxels,
    values: Floats,
    places: Coordinates,
) -> None:
    """Count the candidates of each bin into `starts`, then put each into its place among `members`."""
    bin_of = np.empty(len(voxels), np.int64)
    for n in range(len(voxels)):
        row, x = divmod(voxels[n], shape[2])
        z, y = divmod(row, shape[1])
        cell = ((z // block[0]) * counts[1] + y // block[1]) * counts[2] + x // block[2]
        bin_of[n] = cell * bins + min(int(intensity[voxels[n]] * bins), bins - 1)
        starts[bin_of[n] + 1] += 1
    for one in range(len(starts) - 1):
        starts[one + 1] += starts[one]
    filled = starts[:-1].copy()
    for n in range(len(voxels)):
        at = filled[bin_of[n]]
        filled[bin_of[n]] += 1
        row, x = divmod(voxels[n], shape[2])
        z, y = divmod(row, shape[1])
        members[at], values[at] = voxels[n], intensity[voxels[n]]
        places[at, 0], places[at, 1], places[at, 2] = z, y, x


@kernel
def _search(intensity: Floats, queries: Voxels, cells: _Cells, found: Voxels) -> None:
    squares = np.empty(found.shape[1])
    own, home = np.empty(3, np.int64), np.empty(3, np.int64)
    for q in range(len(queries)):
        row, own[2] = divmod(queries[q], cells.shape[2])
        own[0], own[1] = divmod(row, cells.shape[1])
        home[:] = own // cells.block
        squares[:] = np.inf
        found[q, :] = -1
        query = _Query(queries[q], intensity[queries[q]], own, home, squares, found[q])
        ring = int(cells.empty[home[0], home[1], home[2]])
        _open_ring(query, cells, ring)
        # a candidate beyond the rings may tie with the farthest one held and have a lower index
        while _reached(query, cells, ring) <= squares[-1]:
            ring += 1
            _open_ring(query, cells, ring)


@kernel
def _reached(query: _Query, cells: _Cells, ring: int) -> float:
    """Squared distance below which every candidate lies in the rings opened so far; not a number once all do."""
    nearest_face = np.inf
    for axis in range(3):
        below = query.home[axis] - ring
        if below > 0:
            step = (query.own[axis] - below * cells.block[axis] + 1) * cells.steps[axis]
            nearest_face = min(nearest_face, step * step)
        above = query.home[axis] + ring + 1
        if above < cells.counts[axis]:
            step = (above * cells.block[axis] - query.own[axis]) * cells.steps[axis]
            nearest_face = min(nearest_face, step * step)
    return nearest_face if nearest_face < np.inf else np.nan


@kernel
def _open_ring(query: _Query, cells: _Cells, ring: int) -> None:
    """Look into every block exactly `ring` blocks away along some axis."""
    for z in range(max(0, query.home[0] - ring), min(cells.counts[0], query.home[0] + ring + 1)):
        square_z = _gap(query, cells, 0, z)
        if square_z > query.squares[-1]:
            continue
        for y in range(
            max(0, query.home[1] - ring), min(cells.counts[1], query.home[1] + ring + 1)
        ):
            square_zy = square_z + _gap(query, cells, 1, y)
            if square_zy > query.squares[-1]:
                continue
            on_shell = max(abs(z - query.home[0]), abs(y - query.home[1])) == ring
            for x in range(
                query.home[2] - ring, query.home[2] + ring + 1, 1 if on_shell else 2 * ring
            ):
                if 0 <= x < cells.counts[2]:
                    square = square_zy + _gap(query, cells, 2, x)
                    if square <= query.squares[-1]:
                        _open_block(
                            query,
                            cells,
                            square,
                            ((z * cells.counts[1] + y) * cells.counts[2] + x) * cells.bins,
                        )


@kernel
def _gap(query: _Query, cells: _Cells, axis: int, cell: int) -> float:
    """Squared distance from the query to the nearest voxel of a block along one axis."""
    first = cell * cells.block[axis]
    outside = max(0, max(first - query.own[axis], query.own[axis] - first - cells.block[axis] + 1))
    step: float = outside * cells.steps[axis]
    return step * step


@kernel
def _open_block(query: _Query, cells: _Cells, square: float, block: int) -> None:
    """Look into the bins of a block that hold intensities near enough, from the query's own outward."""
    home = min(int(query.value * cells.bins), cells.bins - 1)
    if query.squares[-1] < np.inf:
        room = query.squares[-1] - square + ROUNDING * query.squares[-1]
        reach = np.sqrt(room) / cells.intensity_weight + BIN_SLACK
        low = max(0, int(np.floor((query.value - reach) * cells.bins)))
        high = min(cells.bins - 1, int((query.value + reach) * cells.bins))
        _read_members(query, cells, cells.starts[block + low], cells.starts[block + high + 1])
        return
    for away in range(cells.bins):
        # nothing in these bins is nearer in intensity than the rim of those already read
        rim = cells.intensity_weight * max(0.0, (away - 1) / cells.bins - BIN_SLACK)
        if square + rim * rim > query.squares[-1]:
            break
        if home - away >= 0:
            _read_members(
                query,
                cells,
                cells.starts[block + home - away],
                cells.starts[block + home - away + 1],
            )
        if away > 0 and home + away < cells.bins:
            _read_members(
                query,
                cells,
                cells.starts[block + home + away],
                cells.starts[block + home + away + 1],
            )


@kernel
def _read_members(query: _Query, cells: _Cells, first: int, last: int) -> None:
    """Measure members and put those that are near into their place."""
    for n in range(first, last):
        dz = (cells.places[n, 0] - query.own[0]) * cells.steps[0]
        dy = (cells.places[n, 1] - query.own[1]) * cells.steps[1]
        dx = (cells.places[n, 2] - query.own[2]) * cells.steps[2]
        dv = cells.intensity_weight * (cells.values[n] - query.value)
        square = dz * dz + dy * dy + dx * dx + dv * dv
        voxel = cells.members[n]
        if square > query.squares[-1] or voxel == query.voxel:
            continue
        place = len(query.squares) - 1
        if square == query.squares[place] and voxel > query.found[place]:
            continue
        while place > 0 and (
            query.squares[place - 1] > square
            or (query.squares[place - 1] == square and query.found[place - 1] > voxel)
        ):
            query.squares[place] = query.squares[place - 1]
            query.found[place] = query.found[place - 1]
            place -= 1
        query.squares[place] = square
        query.found[place] = voxel


def affinity(intensity: Floats, queries: Voxels, found: Voxels, metric: Metric) -> Floats:
    """Give max(0, 1 - mean over the four features |f_i - f_j|) for each query and its neighbours.

    Args:
        intensity: (z, y, x), 0..1.
        queries: (queries,), voxels in raster order.
        found: (queries, neighbours), voxels.
        metric: The features' scales.

    Returns:
        (queries, neighbours), 0..1.
    """
    flat = intensity.ravel()
    apart = metric.intensity_weight * np.abs(flat[found] - flat[queries][:, None])
    there_by_axis = np.unravel_index(found, intensity.shape)
    here_by_axis = np.unravel_index(queries, intensity.shape)
    for there, here, step in zip(there_by_axis, here_by_axis, metric.steps, strict=True):
        apart += step * np.abs(there - here[:, None])
    return np.maximum(0.0, 1.0 - apart / 4.0)

"""Local models on windows of 3 x 3 x 3 voxels, and the Laplacian they give, without ever forming its matrix.

In a window w of n = 27 voxels, alpha is fitted by a line in intensity. With X = [I - m, 1], m the window's mean
intensity and M a symmetric 2 x 2 matrix that says how the line is fitted, the Laplacian is

    L = sum over windows of  Id - X M X^T

and its product with p needs two passes of sums over windows: (slope, level) = M X^T p for each window, then
p_i - slope (I_i - m) - level, summed over the windows that hold voxel i. Both passes first add the nine rows of
windows that lie side by side, which serves three windows at once and reads memory in order. Closed-form matting and
learning-based matting differ in M and in the choice of windows.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matting.coarse import Blocks, sum_windows
from matting.compiled import kernel
from matting.grid import Shape
from matting.region import WINDOW_REACH, Region, box_around

Floats = NDArray[np.float64]
Voxels = NDArray[np.int64]
WINDOW_SIZE = 27
"""Voxels of a window."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows of a region, on the smallest box that holds them."""

    shape: Shape
    """Voxels of the box along (z, y, x)."""
    offsets: Voxels
    """(27,): differences between the voxels of a window and its centre, in raster order."""
    intensity: Floats
    """(voxels of the box,)."""
    centres: Voxels
    """(windows,): the centre of each, as voxel of the box, ascending."""
    runs: Voxels
    """(runs + 1,): where runs of consecutive centres begin, and the end of the last: they are summed row by row."""
    mean: Floats
    """(windows,): mean intensity m."""
    variance: Floats
    """(windows,): population variance v of the intensity."""
    nodes: Voxels
    """(nodes,): the voxels that lie in any window, as voxels of the box: unknown ones first, each part ascending."""
    voxels: Voxels
    """(nodes,): the same as voxels of the region."""
    unknown: int
    """How many nodes are unknown."""


def windows_touching(region: Region) -> Windows:
    """Give the windows inside the region that hold at least one unknown voxel (METHODS: closed form)."""
    box = box_around(region.unknown, (WINDOW_REACH,) * 3)
    unknown = region.unknown[box]
    centres = np.zeros(unknown.shape, bool)
    centres[1:-1, 1:-1, 1:-1] = _spread(unknown)[1:-1, 1:-1, 1:-1]
    return _windows(region, box, np.flatnonzero(centres))


def windows_centred(region: Region) -> Windows:
    """Give the windows centred on unknown voxels; on the patch's border the nearest that lies inside.

    Without that shift an unknown voxel on the border could be in no window at all, and the system singular.
    """
    box = box_around(region.unknown, (WINDOW_REACH,) * 3)
    unknown = region.unknown[box]
    places = [np.clip(place, 1, size - 2) for place, size in zip(np.nonzero(unknown), unknown.shape, strict=True)]
    return _windows(region, box, np.unique(np.ravel_multi_index(places, unknown.shape)))


@dataclass(frozen=True, slots=True)
class WindowLaplacian:
    """The Laplacian of linear models on windows; a linear operator over their nodes."""

    windows: Windows
    fit: Floats
    """(3, windows): the entries M_00, M_01 and M_11 of each window's M."""
    size: int
    """The operator acts on this many leading nodes, the others held at 0."""
    held: Floats
    """(nodes,): in how many windows each voxel lies."""
    weight: Floats
    """(nodes,): the Laplacian's diagonal."""
    field: Floats
    """(4, voxels of the box): room for p and I p, 0 wherever no leading node is."""
    lines: Floats
    """(4, reach + voxels of the box + reach): room for slopes and levels, 0 wherever no window is centred.

    The rims are as long as the largest of the window's offsets, so that no reading needs a guard.
    """
    node_runs: Voxels
    """(runs + 1,): where runs of consecutive voxels begin among the leading nodes, and their end."""

    @property
    def voxels(self) -> Voxels:
        """(size,): the nodes as voxels of the region."""
        return self.windows.voxels[: self.size]

    @property
    def diagonal(self) -> Floats:
        """(size,): L_ii."""
        return self.weight[: self.size]

    def apply(self, p: Floats) -> Floats:
        """Multiply (size, columns) by L."""
        columns = p.shape[1]
        if columns == 2:
            return self._apply_pair(np.ascontiguousarray(p))
        pairs = [p[:, [first, min(first + 1, columns - 1)]] for first in range(0, columns, 2)]
        return np.concatenate([self._apply_pair(np.ascontiguousarray(pair)) for pair in pairs], axis=1)[:, :columns]

    def coarsen(self, blocks: Blocks) -> Any:
        """Give B^T L B with B the functions of the blocks on the unknown nodes."""
        w, size = self.windows, len(blocks.member)
        lines = sum_windows(blocks, w.centres, w.offsets, w.nodes[:size], w.intensity, w.mean, self.fit)
        return blocks.weigh(self.held[:size]) - lines

    def leading(self, size: int) -> "WindowLaplacian":
        """Give the block of the first `size` nodes."""
        return _with_room(self.windows, self.fit, size, self.held, self.weight)

    def _apply_pair(self, p: Floats) -> Floats:
        windows, rows, nodes = self.windows, self.windows.offsets[1::3], self.windows.nodes[: self.size]
        out = np.empty_like(p)
        _place(p, nodes, windows.intensity, self.field)
        _fit_lines(self.field, windows.centres, windows.runs, windows.mean, self.fit, rows, self.lines)
        _sum_misfits(p, nodes, self.node_runs, windows.intensity, self.held, rows, self.lines, out)
        return out


def window_laplacian(windows: Windows, fit: Floats) -> WindowLaplacian:
    """Build the operator from each window's M, given as (windows, 3): M_00, M_01, M_11."""
    voxels = windows.intensity.size
    diagonal, held = np.zeros(voxels), np.zeros(voxels)
    _sum_diagonal(windows.intensity, windows.centres, windows.mean, fit, windows.offsets, diagonal, held)
    return _with_room(
        windows, np.ascontiguousarray(fit.T), len(windows.nodes), held[windows.nodes], diagonal[windows.nodes]
    )


def _with_room(windows: Windows, fit: Floats, size: int, held: Floats, weight: Floats) -> WindowLaplacian:
    voxels = windows.intensity.size
    field, lines = np.zeros((4, voxels)), np.zeros((4, voxels + 2 * int(windows.offsets[-1])))
    return WindowLaplacian(windows, fit, size, held, weight, field, lines, _runs(windows.nodes[:size]))


def _runs(voxels: Voxels) -> Voxels:
    """Give where runs of consecutive voxels begin, and the end of the last."""
    begins = np.flatnonzero(np.diff(voxels) != 1) + 1
    return np.concatenate([np.zeros(1, np.int64), begins, np.array([len(voxels)])]).astype(np.int64)


def _windows(region: Region, box: tuple[slice, slice, slice], centres: Voxels) -> Windows:
    intensity = np.ascontiguousarray(region.intensity[box])
    unknown = region.unknown[box].ravel()
    inside = np.zeros(intensity.shape, bool)
    inside.ravel()[centres] = True
    touched = _spread(inside).ravel()
    nodes = np.concatenate([np.flatnonzero(unknown), np.flatnonzero(touched & ~unknown)])
    places = np.unravel_index(nodes, intensity.shape)
    voxels = np.ravel_multi_index([place + side.start for place, side in zip(places, box, strict=True)], region.shape)
    depth, height, width = intensity.shape
    shape = (depth, height, width)
    mean, variance = np.empty(len(centres)), np.empty(len(centres))
    offsets = _window_offsets(shape)
    _moments(intensity.ravel(), centres, offsets, mean, variance)
    unknowns = int(unknown.sum())
    voxels = voxels.astype(np.int64)
    return Windows(shape, offsets, intensity.ravel(), centres, _runs(centres), mean, variance, nodes, voxels, unknowns)


def _window_offsets(shape: Shape) -> Voxels:
    around = np.arange(-1, 2)
    planes, rows, columns = np.meshgrid(around, around, around, indexing="ij")
    return ((planes * shape[1] + rows) * shape[2] + columns).ravel().astype(np.int64)


def _spread(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Grow a mask by one voxel in all 26 directions."""
    grown = mask.copy()
    for axis in range(3):
        source = np.moveaxis(grown.copy(), axis, 0)
        target = np.moveaxis(grown, axis, 0)
        target[1:] |= source[:-1]
        target[:-1] |= source[1:]
    return grown


@kernel
def _moments(intensity: Floats, centres: Voxels, offsets: Voxels, mean: Floats, variance: Floats) -> None:
    for w in range(len(centres)):
        total = 0.0
        for k in range(WINDOW_SIZE):
            total += intensity[centres[w] + offsets[k]]
        mean[w] = total / WINDOW_SIZE
        spread = 0.0
        for k in range(WINDOW_SIZE):
            deviation = intensity[centres[w] + offsets[k]] - mean[w]
            spread += deviation * deviation
        variance[w] = spread / WINDOW_SIZE


@kernel
def _sum_diagonal(
    intensity: Floats, centres: Voxels, mean: Floats, fit: Floats, offsets: Voxels, diagonal: Floats, held: Floats
) -> None:
    for w in range(len(centres)):
        for k in range(WINDOW_SIZE):
            voxel = centres[w] + offsets[k]
            deviation = intensity[voxel] - mean[w]
            diagonal[voxel] += 1.0 - (fit[w, 0] * deviation * deviation + 2.0 * fit[w, 1] * deviation + fit[w, 2])
            held[voxel] += 1.0


@kernel
def _place(p: Floats, nodes: Voxels, intensity: Floats, field: Floats) -> None:
    for n in range(len(nodes)):
        voxel = nodes[n]
        field[0, voxel] = p[n, 0]
        field[1, voxel] = p[n, 1]
        field[2, voxel] = intensity[voxel] * p[n, 0]
        field[3, voxel] = intensity[voxel] * p[n, 1]


@kernel
def _add_rows(values: Floats, first: int, rows: Voxels, out: Floats, count: int) -> None:
    """Sum the nine rows of the windows along a run, `count` + 2 voxels from one before `first` on.

    Unsigned places spare a check for negative ones at each reading, without which the loop runs four voxels at once.
    """
    start = np.uint64(first - 1 + rows[0])
    r1, r2, r3 = np.uint64(rows[1] - rows[0]), np.uint64(rows[2] - rows[0]), np.uint64(rows[3] - rows[0])
    r4, r5, r6 = np.uint64(rows[4] - rows[0]), np.uint64(rows[5] - rows[0]), np.uint64(rows[6] - rows[0])
    r7, r8 = np.uint64(rows[7] - rows[0]), np.uint64(rows[8] - rows[0])
    for k in range(np.uint64(count + 2)):
        n = start + k
        top = values[n] + values[n + r1] + values[n + r2]
        middle = values[n + r3] + values[n + r4] + values[n + r5]
        out[k] = top + middle + (values[n + r6] + values[n + r7] + values[n + r8])


@kernel
def _add_three(values: Floats, count: int) -> None:
    """Replace each of `count` values by its sum with the next two."""
    one, two = np.uint64(1), np.uint64(2)
    for k in range(np.uint64(count)):
        values[k] += values[k + one] + values[k + two]


@kernel
def _fit_lines(
    field: Floats, centres: Voxels, runs: Voxels, mean: Floats, fit: Floats, rows: Voxels, lines: Floats
) -> None:
    sums = np.empty((4, len(centres) + 2))
    total0, total1, slant0, slant1 = sums[0], sums[1], sums[2], sums[3]
    slopes0, slopes1, levels0, levels1 = lines[0], lines[1], lines[2], lines[3]
    m00, m01, m11 = fit[0], fit[1], fit[2]
    for run in range(len(runs) - 1):
        first, count = runs[run], runs[run + 1] - runs[run]
        for part in range(4):
            _add_rows(field[part], centres[first], rows, sums[part], count)
            _add_three(sums[part], count)
        start, shift = np.uint64(first), np.uint64(rows[8] + 1 + centres[first])
        for k in range(np.uint64(count)):
            w, place = start + k, shift + k
            sum0, sum1 = total0[k], total1[k]
            skew0, skew1 = slant0[k] - mean[w] * sum0, slant1[k] - mean[w] * sum1
            slope0, slope1 = m00[w] * skew0 + m01[w] * sum0, m00[w] * skew1 + m01[w] * sum1
            slopes0[place], slopes1[place] = slope0, slope1
            levels0[place] = m01[w] * skew0 + m11[w] * sum0 - slope0 * mean[w]
            levels1[place] = m01[w] * skew1 + m11[w] * sum1 - slope1 * mean[w]


@kernel
def _sum_misfits(
    p: Floats, nodes: Voxels, runs: Voxels, intensity: Floats, held: Floats, rows: Voxels, lines: Floats, out: Floats
) -> None:
    # beyond the end of a row the reading meets the box's border, where no window is centred
    sums = np.empty((4, len(nodes) + 2))
    slope0, slope1, level0, level1 = sums[0], sums[1], sums[2], sums[3]
    for run in range(len(runs) - 1):
        first, count = runs[run], runs[run + 1] - runs[run]
        for part in range(4):
            _add_rows(lines[part], rows[8] + 1 + nodes[first], rows, sums[part], count)
            _add_three(sums[part], count)
        start, voxel = np.uint64(first), np.uint64(nodes[first])
        for k in range(np.uint64(count)):
            n, value = start + k, intensity[voxel + k]
            out[n, 0] = held[n] * p[n, 0] - slope0[k] * value - level0[k]
            out[n, 1] = held[n] * p[n, 1] - slope1[k] * value - level1[k]

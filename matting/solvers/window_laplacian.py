"""Local models on windows of 3 x 3 x 3 voxels, and the Laplacian they give, without ever forming its matrix.

In a window w of n = 27 voxels, alpha is fitted by a line in two channels: the intensity I, and J, the mean intensity
around the voxel less its own (0 everywhere where no reach is given: a line in intensity alone). A scanner blurs; a line
in both can undo some of that. With X = [I - m_I, J - m_J, 1], m the channels' means over the window, M a symmetric
3 x 3 matrix that says how the line is fitted and c how much the window counts, the Laplacian is

    L = sum over windows of  c Id - X M X^T

and its product with p needs two passes of sums over windows: (slopes, level) = M X^T p for each window, then
c p_i - slopes (I_i - m_I, J_i - m_J) - level, summed over the windows that hold voxel i. Both passes first add the nine
rows of windows that lie side by side, which serves three windows at once and reads memory in order. Closed-form matting
and learning-based matting differ in M and in the choice of windows.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from matting.geometry.box import Box, box_around
from matting.geometry.grid import Shape
from matting.jit import kernel
from matting.solvers.coarse_correction import CoarseBasis, sum_windows
from matting.solvers.region import WINDOW_REACH, SolveDomain, reach_voxels

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
    channels: Floats
    """(2, voxels of the box): I and J."""
    centres: Voxels
    """(windows,): the centre of each, as voxel of the box, ascending."""
    runs: Voxels
    """(runs + 1,): where runs of consecutive centres begin, and the end of the last: they are summed row by row."""
    mean: Floats
    """(2, windows): means of I and J."""
    covariance: Floats
    """(3, windows): population variance of I, covariance of I and J, variance of J."""
    nodes: Voxels
    """(nodes,): the voxels that lie in any window, as voxels of the box: unknown ones first, each part ascending."""
    voxels: Voxels
    """(nodes,): the same as voxels of the region."""
    unknown: int
    """How many nodes are unknown."""

    @property
    def unknown_channels(self) -> Floats:
        """(1 or 2, unknown): the channels of the unknown voxels, without J where it is 0 everywhere."""
        return self.channels[: 1 + int(self.channels[1].any()), self.nodes[: self.unknown]]


def windows_touching(region: SolveDomain, mean_reach_mm: float = 0.0) -> Windows:
    """Give the windows inside the region that hold at least one unknown voxel.

    Args:
        region: Where to look.
        mean_reach_mm: How far the mean of the second channel reaches, mm; 0 makes that channel 0.
    """
    box = box_around(region.unknown, (WINDOW_REACH,) * 3)
    unknown = region.unknown[box]
    centres = np.zeros(unknown.shape, bool)
    centres[1:-1, 1:-1, 1:-1] = _spread(unknown)[1:-1, 1:-1, 1:-1]
    return _windows(region, box, np.flatnonzero(centres), mean_reach_mm)


def windows_centred(region: SolveDomain, mean_reach_mm: float = 0.0) -> Windows:
    """Give the windows centred on unknown voxels; on the patch's border the nearest that lies inside.

    Arguments as `windows_touching`.

    Without that shift an unknown voxel on the border could be in no window at all, and the system singular.
    """
    box = box_around(region.unknown, (WINDOW_REACH,) * 3)
    unknown = region.unknown[box]
    places = [
        np.clip(place, 1, size - 2)
        for place, size in zip(np.nonzero(unknown), unknown.shape, strict=True)
    ]
    return _windows(
        region, box, np.unique(np.ravel_multi_index(places, unknown.shape)), mean_reach_mm
    )


@dataclass(frozen=True, slots=True)
class WindowLaplacian:
    """The Laplacian of linear models on windows; a linear operator over their nodes."""

    windows: Windows
    fit: Floats
    """(6, windows): the entries M_00, M_01, M_02, M_11, M_12 and M_22 of each window's M."""
    size: int
    """The operator acts on this many leading nodes, the others held at 0."""
    held: Floats
    """(nodes,): how much the windows count that hold each voxel, in all."""
    weight: Floats
    """(nodes,): the Laplacian's diagonal."""
    field: Floats
    """(6, voxels of the box): room for p, I p and J p of two columns, 0 wherever no leading node is."""
    lines: Floats
    """(6, reach + voxels of the box + reach): room for slopes and levels of two columns, 0 where no window is.

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
        pairs = [np.ascontiguousarray(p[:, first : first + 2]) for first in range(0, columns, 2)]
        parts = [self._apply(pair) for pair in pairs]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def coarsen(self, blocks: CoarseBasis) -> Any:
        """Give B^T L B with B the functions of the blocks on the unknown nodes."""
        w, size = self.windows, len(blocks.member)
        lines = sum_windows(
            blocks, w.centres, w.offsets, w.nodes[:size], w.channels, w.mean, self.fit
        )
        return blocks.weigh(self.held[:size]) - lines

    def leading(self, size: int) -> "WindowLaplacian":
        """Give the block of the first `size` nodes."""
        return _with_room(self.windows, self.fit, size, self.held, self.weight, self.lines)

    def _apply(self, p: Floats) -> Floats:
        """Multiply one column or two; a column takes three rows of the room."""
        windows, rows, nodes = (
            self.windows,
            self.windows.offsets[1::3],
            self.windows.nodes[: self.size],
        )
        field, lines, out = (
            self.field[: 3 * p.shape[1]],
            self.lines[: 3 * p.shape[1]],
            np.empty_like(p),
        )
        _place(p, nodes, windows.channels, field)
        _fit_lines(field, windows.centres, windows.runs, windows.mean, self.fit, rows, lines)
        _sum_misfits(p, nodes, self.node_runs, windows.channels, self.held, rows, lines, out)
        return out


def window_weight(windows: Windows, trusted_variance: float | None) -> Floats:
    """Give how much each window counts, c = t / (v + t) with v the variance of its intensity; 1 without t.

    Where intensity varies most, lesion, vessel and lung meet in one window, and no line fits all three.
    """
    if trusted_variance is None:
        return np.ones(len(windows.centres))
    count: Floats = trusted_variance / (windows.covariance[0] + trusted_variance)
    return count


def ridge_fit(windows: Windows, ridge: float, count: Floats) -> Floats:
    """Give M = c (diag(n cov_w + ridge Id, n))^-1 of each window, (6, windows): a line by least squares.

    The ridge weighs on the slopes only.
    """
    v00, v01, v11 = WINDOW_SIZE * windows.covariance
    a, b, d = v00 + ridge, v01, v11 + ridge
    scale = count / (a * d - b * b)
    none = np.zeros_like(scale)
    return np.stack([d * scale, -b * scale, none, a * scale, none, count / WINDOW_SIZE])


def window_laplacian(windows: Windows, fit: Floats, count: Floats) -> WindowLaplacian:
    """Build the operator.

    Args:
        windows: The windows.
        fit: (6, windows), the entries M_00, M_01, M_02, M_11, M_12 and M_22 of each window's M.
        count: (windows,), how much each window counts, c.
    """
    voxels = windows.channels.shape[1]
    diagonal, held = np.zeros(voxels), np.zeros(voxels)
    _sum_diagonal(
        windows.channels, windows.centres, windows.mean, fit, count, windows.offsets, diagonal, held
    )
    return _with_room(
        windows, fit, len(windows.nodes), held[windows.nodes], diagonal[windows.nodes]
    )


def _with_room(
    windows: Windows,
    fit: Floats,
    size: int,
    held: Floats,
    weight: Floats,
    lines: Floats | None = None,
) -> WindowLaplacian:
    """Give the operator on `size` leading nodes; `lines` may be another one's of the same windows."""
    voxels = windows.channels.shape[1]
    if lines is None:
        lines = np.zeros((6, voxels + 2 * int(windows.offsets[-1])))
    return WindowLaplacian(
        windows, fit, size, held, weight, np.zeros((6, voxels)), lines, _runs(windows.nodes[:size])
    )


def _runs(voxels: Voxels) -> Voxels:
    """Give where runs of consecutive voxels begin, and the end of the last."""
    begins = np.flatnonzero(np.diff(voxels) != 1) + 1
    return np.concatenate([np.zeros(1, np.int64), begins, np.array([len(voxels)])]).astype(np.int64)


def _windows(region: SolveDomain, box: Box, centres: Voxels, mean_reach_mm: float) -> Windows:
    channels = _channels(region, box, mean_reach_mm)
    unknown = region.unknown[box].ravel()
    depth, height, width = (side.stop - side.start for side in box)
    shape = (depth, height, width)
    inside = np.zeros(shape, bool)
    inside.ravel()[centres] = True
    touched = _spread(inside).ravel()
    nodes = np.concatenate([np.flatnonzero(unknown), np.flatnonzero(touched & ~unknown)])
    places = np.unravel_index(nodes, shape)
    voxels = np.ravel_multi_index(
        [place + side.start for place, side in zip(places, box, strict=True)], region.shape
    )
    mean, covariance = np.empty((2, len(centres))), np.empty((3, len(centres)))
    offsets = _window_offsets(shape)
    _moments(channels, centres, offsets, mean, covariance)
    unknowns = int(unknown.sum())
    voxels = voxels.astype(np.int64)
    return Windows(
        shape, offsets, channels, centres, _runs(centres), mean, covariance, nodes, voxels, unknowns
    )


def _channels(region: SolveDomain, box: Box, mean_reach_mm: float) -> Floats:
    """Give I and J, (2, voxels of the box)."""
    intensity = region.intensity[box]
    channels = np.zeros((2, intensity.size))
    channels[0] = intensity.ravel()
    reach = reach_voxels(mean_reach_mm, region.spacing_mm)
    if any(reach):
        # summed over the same voxels, so to the same bytes, however far the region reaches
        around, inner = [], []
        for side, far, inset, size in zip(
            box, reach, region.inset, region.surroundings.shape, strict=True
        ):
            first, last = side.start + inset.start, side.stop + inset.start
            around.append(slice(max(0, first - far), min(size, last + far)))
            inner.append(slice(first - around[-1].start, last - around[-1].start))
        size = [2 * far + 1 for far in reach]
        mean = ndimage.uniform_filter(region.surroundings[tuple(around)], size, mode="nearest")
        channels[1] = (mean[tuple(inner)] - intensity).ravel()
    return channels


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
def _moments(
    channels: Floats, centres: Voxels, offsets: Voxels, mean: Floats, covariance: Floats
) -> None:
    intensity, detail = channels[0], channels[1]
    for w in range(len(centres)):
        total0, total1 = 0.0, 0.0
        for k in range(WINDOW_SIZE):
            total0 += intensity[centres[w] + offsets[k]]
            total1 += detail[centres[w] + offsets[k]]
        mean0, mean1 = total0 / WINDOW_SIZE, total1 / WINDOW_SIZE
        spread00, spread01, spread11 = 0.0, 0.0, 0.0
        for k in range(WINDOW_SIZE):
            apart0 = intensity[centres[w] + offsets[k]] - mean0
            apart1 = detail[centres[w] + offsets[k]] - mean1
            spread00 += apart0 * apart0
            spread01 += apart0 * apart1
            spread11 += apart1 * apart1
        mean[0, w], mean[1, w] = mean0, mean1
        covariance[0, w] = spread00 / WINDOW_SIZE
        covariance[1, w] = spread01 / WINDOW_SIZE
        covariance[2, w] = spread11 / WINDOW_SIZE


@kernel
def _sum_diagonal(
    channels: Floats,
    centres: Voxels,
    mean: Floats,
    fit: Floats,
    count: Floats,
    offsets: Voxels,
    diagonal: Floats,
    held: Floats,
) -> None:
    for w in range(len(centres)):
        for k in range(WINDOW_SIZE):
            voxel = centres[w] + offsets[k]
            a, b = channels[0, voxel] - mean[0, w], channels[1, voxel] - mean[1, w]
            along = a * (fit[0, w] * a + 2.0 * (fit[1, w] * b + fit[2, w])) + b * (
                fit[3, w] * b + 2.0 * fit[4, w]
            )
            diagonal[voxel] += count[w] - along - fit[5, w]
            held[voxel] += count[w]


@kernel
def _place(p: Floats, nodes: Voxels, channels: Floats, field: Floats) -> None:
    for column in range(p.shape[1]):
        plain, slant0, slant1 = field[3 * column], field[3 * column + 1], field[3 * column + 2]
        for n in range(len(nodes)):
            voxel, value = nodes[n], p[n, column]
            plain[voxel] = value
            slant0[voxel] = channels[0, voxel] * value
            slant1[voxel] = channels[1, voxel] * value


@kernel
def _add_rows(values: Floats, first: int, rows: Voxels, out: Floats, count: int) -> None:
    """Sum the nine rows of the windows along a run, `count` + 2 voxels from one before `first` on.

    Unsigned places spare a check for negative ones at each reading, without which the loop runs four voxels at once.
    """
    start = np.uint64(first - 1 + rows[0])
    r1, r2, r3 = (
        np.uint64(rows[1] - rows[0]),
        np.uint64(rows[2] - rows[0]),
        np.uint64(rows[3] - rows[0]),
    )
    r4, r5, r6 = (
        np.uint64(rows[4] - rows[0]),
        np.uint64(rows[5] - rows[0]),
        np.uint64(rows[6] - rows[0]),
    )
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
    field: Floats,
    centres: Voxels,
    runs: Voxels,
    mean: Floats,
    fit: Floats,
    rows: Voxels,
    lines: Floats,
) -> None:
    sums = np.empty((3, len(centres) + 2))
    for run in range(len(runs) - 1):
        first, count = runs[run], runs[run + 1] - runs[run]
        for column in range(0, len(field), 3):
            for part in range(3):
                _add_rows(field[column + part], centres[first], rows, sums[part], count)
                _add_three(sums[part], count)
            place = rows[8] + 1 + centres[first]
            slopes0, slopes1, levels = lines[column], lines[column + 1], lines[column + 2]
            _fit_run(
                sums[0], sums[1], sums[2], first, count, mean, fit, slopes0, slopes1, levels, place
            )


@kernel
def _fit_run(
    total: Floats,
    slant0: Floats,
    slant1: Floats,
    first: int,
    count: int,
    mean: Floats,
    fit: Floats,
    slopes0: Floats,
    slopes1: Floats,
    levels: Floats,
    place: int,
) -> None:
    """(slopes, level) = M X^T p along a run, the level taken back to where both channels are 0."""
    mean0, mean1 = mean[0], mean[1]
    m00, m01, m02, m11, m12, m22 = fit[0], fit[1], fit[2], fit[3], fit[4], fit[5]
    start, shift = np.uint64(first), np.uint64(place)
    for k in range(np.uint64(count)):
        w, at = start + k, shift + k
        level = total[k]
        skew0, skew1 = slant0[k] - mean0[w] * level, slant1[k] - mean1[w] * level
        slope0 = m00[w] * skew0 + m01[w] * skew1 + m02[w] * level
        slope1 = m01[w] * skew0 + m11[w] * skew1 + m12[w] * level
        slopes0[at], slopes1[at] = slope0, slope1
        levels[at] = (
            m02[w] * skew0 + m12[w] * skew1 + m22[w] * level - slope0 * mean0[w] - slope1 * mean1[w]
        )


@kernel
def _sum_misfits(
    p: Floats,
    nodes: Voxels,
    runs: Voxels,
    channels: Floats,
    held: Floats,
    rows: Voxels,
    lines: Floats,
    out: Floats,
) -> None:
    # beyond the end of a row the reading meets the box's border, where no window is centred
    sums = np.empty((3, len(nodes) + 2))
    slope0, slope1, level = sums[0], sums[1], sums[2]
    intensity, detail = channels[0], channels[1]
    for run in range(len(runs) - 1):
        first, count = runs[run], runs[run + 1] - runs[run]
        start, voxel = np.uint64(first), np.uint64(nodes[first])
        for column in range(p.shape[1]):
            for part in range(3):
                _add_rows(
                    lines[3 * column + part], rows[8] + 1 + nodes[first], rows, sums[part], count
                )
                _add_three(sums[part], count)
            for k in range(np.uint64(count)):
                n = start + k
                line = slope0[k] * intensity[voxel + k] + slope1[k] * detail[voxel + k] + level[k]
                out[n, column] = held[n] * p[n, column] - line

"""The Laplacian of local linear models on windows of 3 x 3 x 3 voxels, without its matrix.

In a window w of n = 27 voxels alpha is fitted by a linear function of two channels: the intensity
I, and J, the mean intensity around the voxel minus its own intensity (0 everywhere if no reach is
given, which leaves a function of the intensity alone). A scanner blurs, and a function of both
channels can undo part of the blur. With

    X = [I - m_I, J - m_J, 1]    (n x 3), m_I and m_J the channels' means over the window
    M                            symmetric 3 x 3 matrix that defines the fit
    c                            weight of the window

the Laplacian is

    L = sum over windows of  c Id - X M X^T                                                     (1)

and its product with p takes two passes of sums over windows:

    (slope_I, slope_J, level) = M X^T p                                     for each window     (2)
    (L p)_i = sum over windows holding i of
              c p_i - slope_I (I_i - m_I) - slope_J (J_i - m_J) - level     for each voxel      (3)

Closed-form and learning-based matting differ in M and in the choice of windows.

How it is computed

Both passes are sums over the 27 voxels of a window, taken for every window. Neighbouring windows
share most of their voxels, so each sum is split: first the nine rows of a window are added at every
position along x, then three neighbouring positions (`_add_windows`). Each nine-row sum serves three
windows, and memory is read in order. Windows and nodes are therefore visited in runs of consecutive
voxels along x. All numbers of a voxel, up to three for each column of p, lie side by side, so that
one loop adds up all of them.

The order of additions is fixed by these loops and does not depend on the size of the box or the
number of threads. Products are the same to the last bit wherever they are computed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from matting.geometry.box import Box, box_around
from matting.geometry.grid import Shape
from matting.jit import kernel
from matting.solvers.coarse_correction import CoarseBasis, sum_windows
from matting.solvers.solve_domain import WINDOW_REACH, SolveDomain, reach_voxels

Floats = NDArray[np.float64]
Voxels = NDArray[np.int64]
WINDOW_SIZE = 27
"""Voxels of a window."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows of a solve domain, on the smallest box that holds them."""

    shape: Shape
    """Voxels of the box along (z, y, x)."""
    offsets: Voxels
    """(27,): flat index of each voxel of a window minus that of its centre, in raster order."""
    channels: Floats
    """(2, voxels of the box): I and J."""
    centres: Voxels
    """(windows,): flat index in the box of each centre, ascending."""
    runs: Voxels
    """(runs + 1,): positions in `centres` at which runs of consecutive centres begin, and the end
    of the last."""
    mean: Floats
    """(2, windows): means of I and J."""
    covariance: Floats
    """(3, windows): population variance of I, covariance of I and J, variance of J."""
    nodes: Voxels
    """(nodes,): flat index in the box of each voxel that lies in any window: unknown ones first,
    each part ascending."""
    voxels: Voxels
    """(nodes,): the same voxels as flat indices in the solve domain."""
    unknown: int
    """Number of unknown nodes."""
    used_channels: int
    """2, or 1 if J is 0 everywhere."""

    @property
    def unknown_channels(self) -> Floats:
        """The channels of the unknown voxels, (1 or 2, unknown).

        Without J if it is 0 everywhere.
        """
        return self.channels[: self.used_channels, self.nodes[: self.unknown]]


def find_touching_windows(domain: SolveDomain, mean_reach_mm: float = 0.0) -> Windows:
    """Return the windows inside the domain that hold at least one unknown voxel.

    Args:
        domain: The voxels to solve and their surroundings.
        mean_reach_mm: Reach in mm of the mean in the second channel, 0 or more; 0 sets that channel
            to 0.

    Returns:
        The windows, in raster order of their centres.
    """
    box = box_around(domain.unknown, (WINDOW_REACH,) * 3)
    unknown = domain.unknown[box]
    centres = np.zeros(unknown.shape, bool)
    centres[1:-1, 1:-1, 1:-1] = _dilate(unknown)[1:-1, 1:-1, 1:-1]
    return _windows(domain, box, np.flatnonzero(centres), mean_reach_mm)


def find_centred_windows(domain: SolveDomain, mean_reach_mm: float = 0.0) -> Windows:
    """Return the windows centred on unknown voxels.

    At the border of the patch the nearest window inside it is taken instead.
    Without that shift an unknown voxel on the border could be in no window at all, and the system
    would be singular.

    Args:
        domain: The voxels to solve and their surroundings.
        mean_reach_mm: Reach in mm of the mean in the second channel, 0 or more; 0 sets that channel
            to 0.

    Returns:
        The windows, in raster order of their centres.
    """
    box = box_around(domain.unknown, (WINDOW_REACH,) * 3)
    unknown = domain.unknown[box]
    indices = [
        np.clip(index, 1, size - 2)
        for index, size in zip(np.nonzero(unknown), unknown.shape, strict=True)
    ]
    centres = np.unique(np.ravel_multi_index(indices, unknown.shape))
    return _windows(domain, box, centres, mean_reach_mm)


@dataclass(frozen=True, slots=True)
class WindowLaplacian:
    """The Laplacian of Eq. (1) as a linear operator over the nodes of its windows.

    It holds no scratch memory: `multiplier` allocates a workspace for each caller, so that several
    threads may use one operator, or an operator and its leading block, at the same time.
    """

    windows: Windows
    fit: Floats
    """(6, windows): the entries M_00, M_01, M_02, M_11, M_12 and M_22 of each window's M."""
    size: int
    """The operator acts on this many leading nodes; p is 0 on the others."""
    coverage: Floats
    """(nodes,): sum of the weights c of the windows that hold each node."""
    full_diagonal: Floats
    """(nodes,): L_ii of all nodes."""
    node_runs: Voxels
    """(runs + 1,): positions at which runs of consecutive voxels begin among the leading nodes, and
    their end."""

    @property
    def voxels(self) -> Voxels:
        """(size,): the nodes as flat indices in the solve domain."""
        return self.windows.voxels[: self.size]

    @property
    def diagonal(self) -> Floats:
        """(size,): L_ii."""
        return self.full_diagonal[: self.size]

    def apply(self, p: Floats) -> Floats:
        """Multiply (size, columns) by L."""
        return self.multiplier()(p)

    def multiplier(self) -> Callable[[Floats], Floats]:
        """Return a function that multiplies (size, columns) by L, with a workspace of its own.

        Use one for each thread. Allocating the workspace once a solve, not once a product, saves
        clearing it.
        """
        workspaces: dict[int, _Workspace] = {}

        def multiply(p: Floats) -> Floats:
            # The kernels take one column or two at once, so that what they read of I and J serves
            # both.
            parts = []
            for first in range(0, p.shape[1], 2):
                part = np.ascontiguousarray(p[:, first : first + 2])
                columns = part.shape[1]
                if columns not in workspaces:
                    workspaces[columns] = _new_workspace(self.windows, columns)
                parts.append(_multiply(self, part, workspaces[columns]))
            return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

        return multiply

    def coarsen(self, basis: CoarseBasis) -> Any:
        """Return B^T L B, scipy.sparse.csr_matrix, with B the coarse basis on the unknown nodes.

        The first part of Eq. (1) is diagonal and gives B^T diag(coverage) B.
        """
        windows = self.windows
        size = len(basis.block_of)
        fitted = sum_windows(
            basis,
            windows.centres,
            windows.offsets,
            windows.nodes[:size],
            windows.channels[: windows.used_channels],
            windows.mean,
            self.fit,
        )
        return basis.weighted_gram(self.coverage[:size]) - fitted

    def leading(self, size: int) -> "WindowLaplacian":
        """Return the block of the first `size` nodes; all but the runs is shared."""
        node_runs = _find_runs(self.windows.nodes[:size])
        return WindowLaplacian(
            self.windows, self.fit, size, self.coverage, self.full_diagonal, node_runs
        )


@dataclass(frozen=True, slots=True)
class _Workspace:
    """Volumes between the two passes of a product; the numbers of a voxel lie side by side."""

    scattered: Floats
    """(voxels of the box, parts, columns): p, I p and J p; 0 wherever there is no leading node.

    Every product writes the same voxels, so the zeros stay and need no clearing.
    """
    models: Floats
    """(margin + voxels of the box + margin, parts, columns): level and slopes at the window's
    centre, else 0.

    The margins are as long as the largest window offset, so that no reading needs a bounds check.
    """


def _new_workspace(windows: Windows, columns: int) -> _Workspace:
    voxels = windows.channels.shape[1]
    margin = int(windows.offsets[-1])
    parts = 1 + windows.used_channels
    scattered = np.zeros((voxels, parts, columns))
    models = np.zeros((voxels + 2 * margin, parts, columns))
    return _Workspace(scattered, models)


def _multiply(operator: WindowLaplacian, p: Floats, workspace: _Workspace) -> Floats:
    """Multiply one column or two by L: Eq. (2), then Eq. (3)."""
    windows = operator.windows
    nodes = windows.nodes[: operator.size]
    # The offset of the middle voxel of each of the nine rows of a window.
    rows = windows.offsets[1::3]
    out = np.empty_like(p)
    # The lengths of tuples are known when a kernel is compiled, and its short loops are unrolled.
    columns = (0,) * p.shape[1]
    used = windows.channels[: windows.used_channels]
    channels = tuple(used)
    _scatter(p, nodes, channels, columns, workspace.scattered)
    _fit_windows(
        workspace.scattered.ravel(),
        windows.centres,
        windows.runs,
        windows.mean,
        operator.fit,
        rows,
        channels,
        columns,
        workspace.models,
    )
    _sum_misfits(
        p,
        nodes,
        operator.node_runs,
        channels,
        columns,
        operator.coverage,
        rows,
        workspace.models.ravel(),
        out,
    )
    return out


def window_weights(windows: Windows, trusted_variance: float | None) -> Floats:
    """Return the weight of each window, c = t / (v + t) with v the variance of its intensity.

    Where intensity varies most, lesion, vessel and lung meet in one window and no linear model fits
    all three.

    Args:
        windows: The windows.
        trusted_variance: t, the variance at which a window counts half, above 0; None weighs all
            windows alike.

    Returns:
        (windows,), in 0..1.
    """
    if trusted_variance is None:
        return np.ones(len(windows.centres))
    weights: Floats = trusted_variance / (windows.covariance[0] + trusted_variance)
    return weights


def ridge_fit(windows: Windows, ridge: float, weights: Floats) -> Floats:
    """Return M = c diag(n V + ridge Id, n)^-1 of each window.

    This is least squares with a ridge on the slopes only. X^T X is block diagonal because its first
    two columns have mean 0: n V for the slopes, V the channels' covariance, and n for the level.
    The 2 x 2 block is inverted by cofactors; the ridge keeps its determinant above 0.

    Args:
        windows: The windows.
        ridge: Above 0; more makes alpha follow the intensity less.
        weights: (windows,), c.

    Returns:
        (6, windows): M_00, M_01, M_02, M_11, M_12, M_22.
    """
    v00, v01, v11 = WINDOW_SIZE * windows.covariance
    a = v00 + ridge
    b = v01
    d = v11 + ridge
    scale = weights / (a * d - b * b)
    zero = np.zeros_like(scale)
    return np.stack([d * scale, -b * scale, zero, a * scale, zero, weights / WINDOW_SIZE])


def window_laplacian(windows: Windows, fit: Floats, weights: Floats) -> WindowLaplacian:
    """Build the operator of Eq. (1).

    Args:
        windows: The windows.
        fit: (6, windows), the entries M_00, M_01, M_02, M_11, M_12 and M_22 of each window's M.
        weights: (windows,), c.

    Returns:
        The operator over all nodes of the windows.
    """
    voxels = windows.channels.shape[1]
    diagonal = np.zeros(voxels)
    coverage = np.zeros(voxels)
    _sum_diagonal(
        windows.channels,
        windows.centres,
        windows.mean,
        fit,
        weights,
        windows.offsets,
        diagonal,
        coverage,
    )
    nodes = windows.nodes
    return WindowLaplacian(
        windows, fit, len(nodes), coverage[nodes], diagonal[nodes], _find_runs(nodes)
    )


def _find_runs(voxels: Voxels) -> Voxels:
    """Return the positions at which runs of consecutive voxels begin, and the end of the last."""
    begins = np.flatnonzero(np.diff(voxels) != 1) + 1
    return np.concatenate([np.zeros(1, np.int64), begins, np.array([len(voxels)])]).astype(np.int64)


def _windows(domain: SolveDomain, box: Box, centres: Voxels, mean_reach_mm: float) -> Windows:
    channels = _channels(domain, box, mean_reach_mm)
    unknown = domain.unknown[box].ravel()
    depth, height, width = (side.stop - side.start for side in box)
    shape = (depth, height, width)
    is_centre = np.zeros(shape, bool)
    is_centre.ravel()[centres] = True
    touched = _dilate(is_centre).ravel()
    nodes = np.concatenate([np.flatnonzero(unknown), np.flatnonzero(touched & ~unknown)])
    indices = np.unravel_index(nodes, shape)
    voxels = np.ravel_multi_index(
        [index + side.start for index, side in zip(indices, box, strict=True)], domain.shape
    )
    mean = np.empty((2, len(centres)))
    covariance = np.empty((3, len(centres)))
    offsets = _window_offsets(shape)
    _moments(channels, centres, offsets, mean, covariance)
    return Windows(
        shape,
        offsets,
        channels,
        centres,
        _find_runs(centres),
        mean,
        covariance,
        nodes,
        voxels.astype(np.int64),
        int(unknown.sum()),
        1 + int(channels[1].any()),
    )


def _channels(domain: SolveDomain, box: Box, mean_reach_mm: float) -> Floats:
    """Return I and J, (2, voxels of the box)."""
    intensity = domain.intensity[box]
    channels = np.zeros((2, intensity.size))
    channels[0] = intensity.ravel()
    reach = reach_voxels(mean_reach_mm, domain.spacing_mm)
    if any(reach):
        # The filter runs over the same voxels however far the domain extends: a running sum over
        # more of them would round differently and change the last bits of J.
        around = []
        inner = []
        for side, far, inset, size in zip(
            box, reach, domain.inset, domain.surroundings.shape, strict=True
        ):
            first = side.start + inset.start
            last = side.stop + inset.start
            around.append(slice(max(0, first - far), min(size, last + far)))
            inner.append(slice(first - around[-1].start, last - around[-1].start))
        size = [2 * far + 1 for far in reach]
        mean = ndimage.uniform_filter(domain.surroundings[tuple(around)], size, mode="nearest")
        channels[1] = (mean[tuple(inner)] - intensity).ravel()
    return channels


def _window_offsets(shape: Shape) -> Voxels:
    around = np.arange(-1, 2)
    planes, rows, columns = np.meshgrid(around, around, around, indexing="ij")
    return ((planes * shape[1] + rows) * shape[2] + columns).ravel().astype(np.int64)


def _dilate(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Grow a mask by one voxel in all 26 directions.

    Axis by axis, since the structuring element is a cube.
    """
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
    """Compute the means and population covariances of both channels in each window.

    Two passes, not E[I^2] - E[I]^2: in a flat window the difference of two large sums would be
    rounding errors only, and could be negative.
    """
    intensity = channels[0]
    detail = channels[1]
    for w in range(len(centres)):
        total0 = 0.0
        total1 = 0.0
        for k in range(WINDOW_SIZE):
            total0 += intensity[centres[w] + offsets[k]]
            total1 += detail[centres[w] + offsets[k]]
        mean0 = total0 / WINDOW_SIZE
        mean1 = total1 / WINDOW_SIZE
        square00 = 0.0
        square01 = 0.0
        square11 = 0.0
        for k in range(WINDOW_SIZE):
            centred0 = intensity[centres[w] + offsets[k]] - mean0
            centred1 = detail[centres[w] + offsets[k]] - mean1
            square00 += centred0 * centred0
            square01 += centred0 * centred1
            square11 += centred1 * centred1
        mean[0, w] = mean0
        mean[1, w] = mean1
        covariance[0, w] = square00 / WINDOW_SIZE
        covariance[1, w] = square01 / WINDOW_SIZE
        covariance[2, w] = square11 / WINDOW_SIZE


@kernel
def _sum_diagonal(
    channels: Floats,
    centres: Voxels,
    mean: Floats,
    fit: Floats,
    weights: Floats,
    offsets: Voxels,
    diagonal: Floats,
    coverage: Floats,
) -> None:
    """Add up L_ii = sum of c - x_i M x_i^T (Eq.

    1), x_i = (a, b, 1) a row of X, and the sum of c.
    """
    for w in range(len(centres)):
        for k in range(WINDOW_SIZE):
            voxel = centres[w] + offsets[k]
            a = channels[0, voxel] - mean[0, w]
            b = channels[1, voxel] - mean[1, w]
            # x M x^T without M_22, grouped so that M_00 and M_11 each meet their square last
            fitted = a * (fit[0, w] * a + 2.0 * (fit[1, w] * b + fit[2, w])) + b * (
                fit[3, w] * b + 2.0 * fit[4, w]
            )
            diagonal[voxel] += weights[w] - fitted - fit[5, w]
            coverage[voxel] += weights[w]


# In the kernels below `channels` is a tuple with I, or I and J where J is not 0, and `columns` a
# tuple of one or two zeros, of which only the length counts.


@kernel
def _scatter(
    p: Floats,
    nodes: Voxels,
    channels: tuple[Floats, ...],
    columns: tuple[int, ...],
    scattered: Floats,
) -> None:
    """Put p, I p and J p of each column at the places of their nodes in the box."""
    for n in range(len(nodes)):
        voxel = nodes[n]
        for column in range(len(columns)):
            scattered[voxel, 0, column] = p[n, column]
            scattered[voxel, 1, column] = channels[0][voxel] * p[n, column]
            if len(channels) == 2:
                scattered[voxel, 2, column] = channels[-1][voxel] * p[n, column]


@kernel
def _add_windows(
    values: Floats, first: int, rows: Voxels, width: int, count: int, nine: Floats, sums: Floats
) -> None:
    """Add up the windows along a run of `count` positions, `width` numbers each.

    First the nine rows, from one position before the run to one after it; then three neighbouring
    positions. The numbers of all positions are one stretch of memory, so both loops are long. The
    indices are unsigned. With signed ones numba checks each for a negative value (Python's
    indexing from the end), and that branch keeps the loop from being vectorised.
    """
    start = np.uint64((first - 1 + rows[0]) * width)
    r1 = np.uint64((rows[1] - rows[0]) * width)
    r2 = np.uint64((rows[2] - rows[0]) * width)
    r3 = np.uint64((rows[3] - rows[0]) * width)
    r4 = np.uint64((rows[4] - rows[0]) * width)
    r5 = np.uint64((rows[5] - rows[0]) * width)
    r6 = np.uint64((rows[6] - rows[0]) * width)
    r7 = np.uint64((rows[7] - rows[0]) * width)
    r8 = np.uint64((rows[8] - rows[0]) * width)
    for k in range(np.uint64((count + 2) * width)):
        n = start + k
        top = values[n] + values[n + r1] + values[n + r2]
        middle = values[n + r3] + values[n + r4] + values[n + r5]
        nine[k] = top + middle + (values[n + r6] + values[n + r7] + values[n + r8])
    one = np.uint64(width)
    two = np.uint64(2 * width)
    for k in range(np.uint64(count * width)):
        sums[k] = nine[k] + (nine[k + one] + nine[k + two])


@kernel
def _fit_windows(
    scattered: Floats,
    centres: Voxels,
    runs: Voxels,
    mean: Floats,
    fit: Floats,
    rows: Voxels,
    channels: tuple[Floats, ...],
    columns: tuple[int, ...],
    models: Floats,
) -> None:
    """Compute level and slopes of every window, Eq. (2), run by run.

    A run is short enough for its sums to stay in the processor's cache until they are read.

    X^T p follows from the plain sums: sum (I - m) p = sum I p - m sum p. The level stored is that
    at I = J = 0, not at the window's mean: the second pass can then add up slopes and levels of
    different windows before it multiplies by the voxel's own channels.
    """
    width = (1 + len(channels)) * len(columns)
    nine = np.empty(width * (len(centres) + 2))
    sums = np.empty((len(centres), 1 + len(channels), len(columns)))
    # rows[8] + 1 is the largest window offset, the length of the margin in front of the box.
    margin = rows[8] + 1
    for run in range(len(runs) - 1):
        first = runs[run]
        count = runs[run + 1] - first
        _add_windows(scattered, centres[first], rows, width, count, nine, sums.ravel())
        for k in range(count):
            w = first + k
            at = margin + centres[first] + k
            for column in range(len(columns)):
                total = sums[k, 0, column]
                moment0 = sums[k, 1, column] - mean[0, w] * total
                slope0 = fit[0, w] * moment0 + fit[2, w] * total
                level = fit[2, w] * moment0 + fit[5, w] * total
                if len(channels) == 2:
                    moment1 = sums[k, 2, column] - mean[1, w] * total
                    slope0 += fit[1, w] * moment1
                    slope1 = fit[1, w] * moment0 + fit[3, w] * moment1 + fit[4, w] * total
                    level += fit[4, w] * moment1 - slope1 * mean[1, w]
                    models[at, 2, column] = slope1
                models[at, 0, column] = level - slope0 * mean[0, w]
                models[at, 1, column] = slope0


@kernel
def _sum_misfits(
    p: Floats,
    nodes: Voxels,
    runs: Voxels,
    channels: tuple[Floats, ...],
    columns: tuple[int, ...],
    coverage: Floats,
    rows: Voxels,
    models: Floats,
    out: Floats,
) -> None:
    """Compute L p at every node, Eq. (3): coverage p minus the sum of the models there.

    Window sums wrap around at the end of an image row. What they meet there is the border of the
    box, where no window is centred and the models are 0.
    """
    width = (1 + len(channels)) * len(columns)
    nine = np.empty(width * (len(nodes) + 2))
    sums = np.empty((len(nodes), 1 + len(channels), len(columns)))
    for run in range(len(runs) - 1):
        first = runs[run]
        count = runs[run + 1] - first
        place = rows[8] + 1 + nodes[first]
        _add_windows(models, place, rows, width, count, nine, sums.ravel())
        for k in range(count):
            n = first + k
            voxel = nodes[first] + k
            for column in range(len(columns)):
                fitted = sums[k, 0, column] + sums[k, 1, column] * channels[0][voxel]
                if len(channels) == 2:
                    fitted += sums[k, 2, column] * channels[-1][voxel]
                out[n, column] = coverage[n] * p[n, column] - fitted

"""Unknown voxels that resemble known ones count as known: two ways of trimming a trimap.

Papers  by edges    E. Shahrian, D. Rajan, B. Price, S. Cohen, Improving Image Matting Using
                    Comprehensive Sampling Sets, CVPR 2013, doi:10.1109/CVPR.2013.88
        by patches  Y. Aksoy, T. O. Aydin, M. Pollefeys, Designing Effective Inter-Pixel Information
                    Flow for Natural Image Matting, CVPR 2017, doi:10.1109/CVPR.2017.32
        Both from the papers' formulas alone.

By edges, an unknown voxel p becomes foreground if a known foreground voxel q has

    D(p, q) < EDGE_REACH   and   255 |I_p - I_q| <= EDGE_REACH - D(p, q)                         (1)

D in voxels; background likewise. By patches, with N_p the normal distribution of the intensities in
the 3 x 3 x 3 voxels around p, and b_F the least Bhattacharyya distance

    B(N_p, N_q) = (m_p - m_q)^2 / (4 (v_p + v_q)) + ln((v_p + v_q) / (2 sqrt(v_p v_q))) / 2      (2)

to the patches of known foreground (b_B: background), p becomes foreground if b_F < SIMILAR and
b_B > DIFFERENT, and background if b_B < SIMILAR and b_F > DIFFERENT.

Symbols  I: intensity    m, v: a patch's `mean` and `variance`    D: Euclidean distance

Ours     Three dimensions and one channel; D counts voxels of the finest spacing, so that a thick
         slice is as many as it is long. A voxel that (1) makes both foreground and background stays
         unknown. The variance of rounding to 8 bits is added to v: photographs have it, and a patch
         of clipped air would have none. Nearest patches by mean are those of Eq. (2)'s first term
         alone; among equal means the nearest in space are taken.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from matting.jit import kernel
from matting.solvers.knn_search import FeatureMetric, nearest_neighbours
from matting.solvers.solve_domain import SolveDomain

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
EDGE_REACH = 9.0
"""The paper's thresholds E_thr, in voxels, and C_thr, in levels of an 8-bit image."""
LEVELS = 255.0
"""Levels of an 8-bit image, in which the papers measure intensity."""
PATCHES = 10
"""Known patches nearest in mean whose Bhattacharyya distance is computed."""
SIMILAR = 0.25
"""Bhattacharyya distance below which patches match (Aksoy 2017)."""
DIFFERENT = 0.9
"""Bhattacharyya distance above which patches do not match (Aksoy 2017)."""
ROUNDING_VARIANCE = 1.0 / (12.0 * LEVELS**2)
"""Variance of rounding to 8-bit levels, which are 1 / 255 apart: spacing^2 / 12."""
TIE_PITCH = 1e-3 / LEVELS
"""What a voxel's distance counts in the search by mean: it orders equal means and no others."""


class KnownRegions(NamedTuple):
    """What counts as known, (z, y, x) each."""

    foreground: Mask
    background: Mask


def trim_by_edges(domain: SolveDomain) -> KnownRegions:
    """Add to the known voxels of a domain the unknown ones of Eq. (1)."""
    spacing = np.asarray(domain.spacing_mm) / min(domain.spacing_mm)
    reach = (EDGE_REACH / spacing).astype(np.int64)
    axes = [np.arange(-far, far + 1) for far in reach]
    offsets = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    distance = np.sqrt(((offsets * spacing) ** 2).sum(axis=1))
    order = np.argsort(distance, kind="stable")
    order = order[distance[order] < EDGE_REACH]
    # 1 foreground, 2 background: as bits, so that one number holds what a voxel is near.
    labels = np.ascontiguousarray(domain.foreground + 2 * domain.background, np.int8)
    near = np.zeros(domain.shape, np.int8)
    _near_known(domain.intensity, labels, offsets[order], distance[order], near)
    return KnownRegions(domain.foreground | (near == 1), domain.background | (near == 2))


@kernel
def _near_known(
    intensity: Floats,
    labels: NDArray[np.int8],
    offsets: NDArray[np.int64],
    distance: Floats,
    near: NDArray[np.int8],
) -> None:
    """Write the labels of known voxels that Eq. (1) holds for; offsets come nearest first."""
    depth, height, width = intensity.shape
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                if labels[z, y, x] != 0:
                    continue
                for n in range(len(distance)):
                    i = z + offsets[n, 0]
                    j = y + offsets[n, 1]
                    k = x + offsets[n, 2]
                    if 0 <= i < depth and 0 <= j < height and 0 <= k < width:
                        apart = LEVELS * abs(intensity[i, j, k] - intensity[z, y, x])
                        if labels[i, j, k] != 0 and apart <= EDGE_REACH - distance[n]:
                            near[z, y, x] |= labels[i, j, k]
                            if near[z, y, x] == 3:
                                break


def trim_by_patches(domain: SolveDomain, known: KnownRegions) -> KnownRegions:
    """Add to known voxels the unknown ones whose patch matches one side alone, Eq. (2).

    Args:
        domain: The voxels and their intensities; a patch on its border repeats border voxels.
        known: What counts as known so far.

    Returns:
        What counts as known after it.
    """
    mean, variance = _patch_moments(domain.intensity)
    unknown = np.flatnonzero(~(known.foreground | known.background))
    to_foreground, to_background = (
        _least_distance(mean, variance, side, unknown) for side in known
    )
    foreground, background = (side.copy() for side in known)
    foreground.ravel()[unknown] = (to_foreground < SIMILAR) & (to_background > DIFFERENT)
    background.ravel()[unknown] = (to_background < SIMILAR) & (to_foreground > DIFFERENT)
    return KnownRegions(foreground, background)


def _patch_moments(intensity: Floats) -> tuple[Floats, Floats]:
    """Return mean and variance of the 3 x 3 x 3 voxels around each voxel."""
    around = np.lib.stride_tricks.sliding_window_view(np.pad(intensity, 1, "edge"), (3, 3, 3))
    places = list(np.ndindex(3, 3, 3))
    mean = sum((around[..., z, y, x] for z, y, x in places), np.zeros(intensity.shape)) / 27.0
    squares = ((around[..., z, y, x] - mean) ** 2 for z, y, x in places)
    variance = sum(squares, np.zeros(intensity.shape)) / 27.0
    return mean, variance + ROUNDING_VARIANCE


def _least_distance(
    mean: Floats, variance: Floats, side: Mask, unknown: NDArray[np.int64]
) -> Floats:
    """Return the least Bhattacharyya distance of unknown voxels' patches to those of one side."""
    # Rounding may carry a mean of ones beyond 1, where the search has no bin.
    metric = FeatureMetric(1.0, np.full(3, TIE_PITCH))
    found = nearest_neighbours(np.minimum(mean, 1.0), side, unknown, PATCHES, metric)
    apart = (mean.ravel()[found] - mean.ravel()[unknown][:, None]) ** 2
    here, there = variance.ravel()[unknown][:, None], variance.ravel()[found]
    both = here + there
    distance = apart / (4.0 * both) + np.log(both / (2.0 * np.sqrt(here * there))) / 2.0
    return np.asarray(distance.min(axis=1))

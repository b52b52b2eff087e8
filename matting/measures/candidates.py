"""Metrics of the candidate mattes of a nodule without a ground truth.

        cross_entropy         mean of -(m log a + (1 - m) log(1 - a)) over the readers' union
                              dilated by NEAR_MM; m is the readers' mean mask (nats)
        compositing_residual  root mean square of I - (a F + (1 - a) B) over the unknown voxels
                              (intensity)
        slice_roughness       mean |second derivative of a| across slices over that within slices,
                              over the unknown voxels (ratio)
        mass_outside          sum of a outside the readers' union / sum of a (share)
        clipped               largest distance of the solution from 0..1 (opacity)

Low values are good. F and B, the intensities of lesion and surroundings, are assumed to be smooth:
constant within a box that extends SMOOTHNESS_MM to every side, so that I is a linear function of a
there, fitted by least squares. None of these metrics is the error; the first two decide the
automatic pick (`matting.targets.rank`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from matting.geometry.box import box_around
from matting.geometry.grid import Vector
from matting.solvers.conjugate_gradient import Solution

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
NEAR_MM = 5.0
"""Distance from the readers' union within which agreement with the readers is measured."""
SMOOTHNESS_MM = 3.0
"""Lesion and surroundings are assumed to have one intensity each within this distance."""
MIN_VARIANCE = 1e-6
"""Variance of alpha below which a neighbourhood determines one intensity only."""
PROBABILITY_MARGIN = 1e-3
"""Alpha is clipped this far from 0 and 1 in the cross-entropy, which would be infinite there."""
TIED = 0.005
"""Mean difference below which two candidates are tied: a reviewer need not look at both."""


@dataclass(frozen=True, slots=True)
class CandidateMetrics:
    """Metrics of a converged candidate; see the module's table."""

    method: str
    cross_entropy: float
    compositing_residual: float
    slice_roughness: float
    mass_outside: float
    clipped: float


@dataclass(frozen=True, slots=True)
class Pair:
    """The difference between two candidates."""

    first: str
    second: str
    difference: float
    """Mean |a_first - a_second| over the unknown voxels."""
    tied: bool
    """True below TIED."""


def candidate_metrics(
    solutions: Mapping[str, Solution],
    intensity: Floats,
    unknown: Mask,
    readers: Mask,
    *,
    spacing_mm: Vector,
) -> list[CandidateMetrics]:
    """Compute the metrics of every candidate that converged.

    Args:
        solutions: The mattes by method.
        intensity: (z, y, x), 0..1.
        unknown: (z, y, x), the voxels that were solved.
        readers: (readers, z, y, x), what each reader marked; at least one voxel.
        spacing_mm: Voxel spacing along (z, y, x), above 0.

    Returns:
        The metrics, in the order of the solutions.
    """
    reach = np.ceil((NEAR_MM + SMOOTHNESS_MM) / np.asarray(spacing_mm)).astype(int).tolist()
    box = box_around(unknown | readers.any(axis=0), (reach[0], reach[1], reach[2]))
    union = readers[:, *box].any(axis=0)
    mean_mask = readers[:, *box].mean(axis=0)
    near = ndimage.distance_transform_edt(~union, sampling=spacing_mm) <= NEAR_MM
    compositing = _Compositing(intensity[box], unknown[box], spacing_mm)
    metrics = []
    for method, solution in solutions.items():
        if solution.converged:
            alpha = solution.alpha[box]
            metrics.append(
                CandidateMetrics(
                    method=method,
                    cross_entropy=_cross_entropy(alpha[near], mean_mask[near]),
                    compositing_residual=compositing.residual(alpha),
                    slice_roughness=_slice_roughness(alpha, unknown[box], spacing_mm),
                    mass_outside=_share(float(alpha[~union].sum()), float(alpha.sum())),
                    clipped=solution.clipped,
                )
            )
    return metrics


def pairwise_differences(solutions: Mapping[str, Solution], unknown: Mask) -> list[Pair]:
    """Return the differences of all pairs of converged candidates over the unknown voxels."""
    alphas = {
        method: solution.alpha[unknown]
        for method, solution in solutions.items()
        if solution.converged
    }
    pairs = []
    for first, second in combinations(alphas, 2):
        difference = float(np.abs(alphas[first] - alphas[second]).mean()) if unknown.any() else 0.0
        pairs.append(Pair(first, second, difference, difference < TIED))
    return pairs


def _cross_entropy(alpha: Floats, mean_mask: Floats) -> float:
    safe = np.clip(alpha, PROBABILITY_MARGIN, 1.0 - PROBABILITY_MARGIN)
    return float(-(mean_mask * np.log(safe) + (1.0 - mean_mask) * np.log(1.0 - safe)).mean())


class _Compositing:
    """I and its local means, which all candidates of a nodule share."""

    def __init__(self, intensity: Floats, unknown: Mask, spacing_mm: Vector) -> None:
        self.size = tuple(2 * round(SMOOTHNESS_MM / spacing) + 1 for spacing in spacing_mm)
        self.intensity = intensity
        self.unknown = unknown
        self.average = self._smooth(intensity)

    def residual(self, alpha: Floats) -> float:
        """Return the root mean square of I - (a F + (1 - a) B) over the unknown voxels."""
        if not self.unknown.any():
            return 0.0
        mean = self._smooth(alpha)
        spread = np.maximum(self._smooth(alpha * alpha) - mean * mean, 0.0)
        contrast = (self._smooth(alpha * self.intensity) - mean * self.average) / (
            spread + MIN_VARIANCE
        )
        misfit = (self.intensity - self.average - contrast * (alpha - mean))[self.unknown]
        return float(np.sqrt((misfit**2).mean()))

    def _smooth(self, values: Floats) -> Floats:
        return np.asarray(ndimage.uniform_filter(values, self.size))


def _slice_roughness(alpha: Floats, unknown: Mask, spacing_mm: Vector) -> float:
    across, *within = (
        _mean_second_difference(alpha, unknown, axis) / spacing_mm[axis] ** 2 for axis in range(3)
    )
    return _share(across, float(np.mean(within)))


def _mean_second_difference(alpha: Floats, unknown: Mask, axis: int) -> float:
    """Return the mean |a_(i-1) - 2 a_i + a_(i+1)| along an axis.

    It runs over the unknown voxels that have both neighbours.
    """
    differences = np.abs(np.diff(alpha, n=2, axis=axis))
    inside = np.moveaxis(np.moveaxis(unknown, axis, 0)[1:-1], 0, axis)
    return float(differences[inside].mean()) if inside.any() else 0.0


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0

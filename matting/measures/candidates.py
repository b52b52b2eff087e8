"""What can be said about the candidate mattes of a nodule when nobody knows the true one.

        figure                formula                                                               unit
        cross_entropy         mean of -(m log a + (1 - m) log(1 - a)) over the readers' union       nats
                              grown by REACH_MM; m is the readers' mean mask
        compositing_residual  root mean square of I - (a F + (1 - a) B) over the unknown voxels     intensity
        slice_roughness       mean |second derivative of a| across slices over that within slices,  ratio
                              over the unknown voxels
        mass_outside          sum of a outside the readers' union / sum of a                        share
        clipped               how far the solve left 0..1 at worst                                  opacity

Low is good in all of them. F and B, the colours of lesion and surroundings, are smooth: constant
within a box that reaches SMOOTHNESS_MM to every side, so that I is a line in a there, fitted by
least squares. None of the figures is the error; together they order the candidates for whoever has
to choose, and `rank` chooses where nobody does.
"""

from collections.abc import Mapping, Sequence
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
REACH_MM = 5.0
"""Agreement with the readers is measured this far beyond their union."""
SMOOTHNESS_MM = 3.0
"""Lesion and surroundings have one colour each within this reach."""
FLAT = 1e-6
"""Variance of alpha below which a neighbourhood shows one colour only."""
CERTAINTY = 1e-3
"""Alpha is kept this far from 0 and 1 in the cross-entropy, which is infinite at a wrong certainty.
"""
TIED = 0.005
"""Candidates whose mattes differ by less than this on average are tied: a reviewer need not look at
both."""


@dataclass(frozen=True, slots=True)
class CandidateMetrics:
    """One converged candidate's figures; see the module's table."""

    method: str
    cross_entropy: float
    compositing_residual: float
    slice_roughness: float
    mass_outside: float
    clipped: float


@dataclass(frozen=True, slots=True)
class Pair:
    """How far two candidates are apart."""

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
    """Measure every candidate that converged, in the order given.

    Args:
        solutions: The mattes by method.
        intensity: (z, y, x), 0..1.
        unknown: (z, y, x), the voxels that were solved.
        readers: (readers, z, y, x), what each reader marked; at least one voxel.
        spacing_mm: Voxel spacing along (z, y, x).
    """
    reach = np.ceil((REACH_MM + SMOOTHNESS_MM) / np.asarray(spacing_mm)).astype(int).tolist()
    box = box_around(unknown | readers.any(axis=0), (reach[0], reach[1], reach[2]))
    union, mean_mask = readers[:, *box].any(axis=0), readers[:, *box].mean(axis=0)
    near = ndimage.distance_transform_edt(~union, sampling=spacing_mm) <= REACH_MM
    compositing = _Compositing(intensity[box], unknown[box], spacing_mm)
    figures = []
    for method, solution in solutions.items():
        if solution.converged:
            alpha = solution.alpha[box]
            figures.append(
                CandidateMetrics(
                    method=method,
                    cross_entropy=_cross_entropy(alpha[near], mean_mask[near]),
                    compositing_residual=compositing.residual(alpha),
                    slice_roughness=_slice_roughness(alpha, unknown[box], spacing_mm),
                    mass_outside=_share(float(alpha[~union].sum()), float(alpha.sum())),
                    clipped=solution.clipped,
                )
            )
    return figures


def pairwise_differences(solutions: Mapping[str, Solution], unknown: Mask) -> list[Pair]:
    """Compare all pairs of converged candidates over the unknown voxels (z, y, x)."""
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


def rank(figures: Sequence[CandidateMetrics]) -> list[str]:
    """Order candidates best first: the automatic pick is the first.

    Agreement with the readers decides, then the compositing residual, then the order given. The
    other figures warn but do not rank: on simulated nodules with known mattes they favour
    candidates that are too small or too blurred, and mixing them in made the pick worse.
    """
    return [
        f.method for f in sorted(figures, key=lambda f: (f.cross_entropy, f.compositing_residual))
    ]


def _cross_entropy(alpha: Floats, mean_mask: Floats) -> float:
    safe = np.clip(alpha, CERTAINTY, 1.0 - CERTAINTY)
    return float(-(mean_mask * np.log(safe) + (1.0 - mean_mask) * np.log(1.0 - safe)).mean())


class _Compositing:
    """Holds what all candidates of a nodule share: I, its local averages and the box they are taken in."""

    def __init__(self, intensity: Floats, unknown: Mask, spacing_mm: Vector) -> None:
        self.size = tuple(2 * round(SMOOTHNESS_MM / spacing) + 1 for spacing in spacing_mm)
        self.intensity, self.unknown = intensity, unknown
        self.average = self._smooth(intensity)

    def residual(self, alpha: Floats) -> float:
        """Give the root mean square of I - (a F + (1 - a) B) over the unknown voxels, 0 where there are none."""
        if not self.unknown.any():
            return 0.0
        mean = self._smooth(alpha)
        spread = np.maximum(self._smooth(alpha * alpha) - mean * mean, 0.0)
        contrast = (self._smooth(alpha * self.intensity) - mean * self.average) / (spread + FLAT)
        misfit = (self.intensity - self.average - contrast * (alpha - mean))[self.unknown]
        return float(np.sqrt((misfit**2).mean()))

    def _smooth(self, values: Floats) -> Floats:
        return np.asarray(ndimage.uniform_filter(values, self.size))


def _slice_roughness(alpha: Floats, unknown: Mask, spacing_mm: Vector) -> float:
    across, *within = (_bending(alpha, unknown, axis) / spacing_mm[axis] ** 2 for axis in range(3))
    return _share(across, float(np.mean(within)))


def _bending(alpha: Floats, unknown: Mask, axis: int) -> float:
    """Mean |a_(i-1) - 2 a_i + a_(i+1)| along an axis over unknown voxels that have both neighbours."""
    bends = np.abs(np.diff(alpha, n=2, axis=axis))
    inside = np.moveaxis(np.moveaxis(unknown, axis, 0)[1:-1], 0, axis)
    return float(bends[inside].mean()) if inside.any() else 0.0


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0

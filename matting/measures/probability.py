"""Measures of a matte as the probability that a reader marks a voxel, and paired intervals."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

BINS = 10
"""Bins of equal width in which calibration is counted."""
CLIP = 0.02
"""Least and, subtracted from 1, largest probability in the log loss, so that a mask has one."""


@dataclass(frozen=True, slots=True)
class ProbabilityErrors:
    """How well probabilities in 0..1 foretell a mask."""

    brier: float
    """Mean square of the difference, 0..1."""
    log_loss: float
    """Mean negative log likelihood, in nats; probabilities are clipped to 0.02..0.98."""
    voxels: NDArray[np.int64]
    """(10,) by bin of probability."""
    expected: NDArray[np.float64]
    """(10,) sum of the probabilities, by bin."""
    marked: NDArray[np.int64]
    """(10,) voxels that the mask has, by bin."""


def probability_errors(probability: ArrayLike, marked: ArrayLike) -> ProbabilityErrors:
    """Compare probabilities with a mask.

    Args:
        probability: (n,) in 0..1.
        marked: (n,) bool.
    """
    values, truth = np.asarray(probability, np.float64), np.asarray(marked, bool)
    clipped = np.clip(values, CLIP, 1 - CLIP)
    places = np.minimum((values * BINS).astype(np.int64), BINS - 1)
    return ProbabilityErrors(
        brier=float(np.square(values - truth).mean()),
        log_loss=float(-np.log(np.where(truth, clipped, 1 - clipped)).mean()),
        voxels=np.bincount(places, minlength=BINS),
        expected=np.bincount(places, values, BINS).astype(np.float64),
        marked=np.bincount(places[truth], minlength=BINS),
    )


def calibration_error(voxels: ArrayLike, expected: ArrayLike, marked: ArrayLike) -> float:
    """Return the mean distance of probability and frequency over bins, weighted by voxels, 0..1."""
    distance = np.abs(np.asarray(expected, np.float64) - np.asarray(marked, np.float64))
    return float(distance.sum() / np.sum(voxels))


def relative_difference(
    ours: ArrayLike, theirs: ArrayLike, patients: ArrayLike, *, draws: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """Estimate by how much the mean of `ours` differs from that of `theirs`, as a share of it.

    Args:
        ours: (n,) errors, paired with `theirs`.
        theirs: (n,) errors, above 0 on average.
        patients: (n,) the patient of each; patients are drawn, not nodules.
        draws: Number of draws of patients with replacement.
        seed: Of the draws.

    Returns:
        The difference, e.g. -0.1 for an error lower by 10 %, and the ends of its 95 % interval.
    """
    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    _, owner = np.unique(np.asarray(patients), return_inverse=True)
    sums = np.stack([np.bincount(owner, values) for values in (a, b)])
    drawn = np.random.default_rng(seed).integers(0, sums.shape[1], (draws, sums.shape[1]))
    first, second = sums[:, drawn].sum(axis=2)
    low, high = np.quantile(first / second - 1, (0.025, 0.975))
    return float(a.mean() / b.mean() - 1), float(low), float(high)

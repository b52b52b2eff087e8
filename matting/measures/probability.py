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
    """(10,) by bin of probability; of several readers, once for each."""
    expected: NDArray[np.float64]
    """(10,) sum of the probabilities, by bin."""
    marked: NDArray[np.int64]
    """(10,) voxels that the mask has, by bin; of several readers, the sum over their masks."""


def probability_errors(
    probability: ArrayLike, marked: ArrayLike, readers: int = 1
) -> ProbabilityErrors:
    """Compare probabilities with a mask, or with the masks of several readers at once.

    Args:
        probability: (n,) in 0..1.
        marked: (n,) bool, or by how many of the readers each voxel was marked.
        readers: Number of readers; each counts as a mask of its own.
    """
    values, marks = np.asarray(probability, np.float64), np.asarray(marked).astype(np.int64)
    share = marks / readers
    clipped = np.clip(values, CLIP, 1 - CLIP)
    places = np.minimum((values * BINS).astype(np.int64), BINS - 1)
    squares = share * np.square(values - 1) + (1 - share) * np.square(values)
    losses = share * np.log(clipped) + (1 - share) * np.log(1 - clipped)
    return ProbabilityErrors(
        brier=float(squares.mean()),
        log_loss=float(-losses.mean()),
        voxels=readers * np.bincount(places, minlength=BINS),
        expected=readers * np.bincount(places, values, BINS).astype(np.float64),
        marked=np.rint(np.bincount(places, marks, BINS)).astype(np.int64),
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


def mean_intervals(
    values: ArrayLike, patients: ArrayLike, *, draws: int = 2000, seed: int = 0
) -> NDArray[np.float64]:
    """Return means over nodules with their 95 % intervals.

    Args:
        values: (n, m), m measures of n nodules; NaN where a nodule has no value.
        patients: (n,) the patient of each; patients are drawn, not nodules.
        draws: Number of draws of patients with replacement.
        seed: Of the draws.

    Returns:
        (3, m), mean and ends of the interval; NaN for a mean of nothing, and for the interval
        of a single patient.
    """
    table = np.asarray(values, np.float64)
    _, owner = np.unique(np.asarray(patients), return_inverse=True)
    number = int(owner.max()) + 1
    has = ~np.isnan(table)
    sums, counts = np.zeros((2, number, table.shape[1]))
    np.add.at(sums, owner, np.where(has, table, 0))
    np.add.at(counts, owner, has)
    drawn = np.random.default_rng(seed).integers(0, number, (draws, number))
    weights = np.stack([np.bincount(one, minlength=number) for one in drawn]).astype(np.float64)
    result = np.full((3, table.shape[1]), np.nan)
    for column in range(table.shape[1]):
        total, count = sums[:, column], counts[:, column]
        if not count.any():
            continue
        result[0, column] = total.sum() / count.sum()
        if np.count_nonzero(count) > 1:
            # A draw may lack every patient who has a value.
            found = weights @ count > 0
            means = (weights @ total)[found] / (weights @ count)[found]
            result[1:, column] = np.quantile(means, (0.025, 0.975))
    return result

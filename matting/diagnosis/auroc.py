"""The area under the ROC curve and its interval, for nodules that come in patients and scores that come in folds.

The area is the share of (malignant, benign) pairs that the scores put in the right order; equal scores count half.
Scores of different models have no common scale, so only nodules that the same model scored are held against each
other. Several runs over the same nodules (seeds) are averaged pair by pair.

The variance is DeLong's (DeLong, DeLong & Clarke-Pearson 1988), and where a patient has several nodules Obuchowski's
(1997): patients are independent, their nodules are not. With one nodule a patient the two are the same. The interval
is normal on the scale of log odds, so it stays within 0..1. It speaks of other patients, not of other trainings.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from matting.errors import InputError


@dataclass(frozen=True, slots=True)
class Auroc:
    """An area under the ROC curve, 0..1, with its interval."""

    value: float
    low: float
    high: float
    deviation: float
    """Standard error."""


@dataclass(frozen=True, slots=True)
class _Components:
    """What an area is made of: the mean placement of each nodule among those of the other kind."""

    value: float
    malignant: NDArray[np.float64]
    """By patient: sum over its malignant nodules of placement less `value`."""
    benign: NDArray[np.float64]
    counts: tuple[int, int]
    """Malignant and benign nodules."""
    patients: tuple[int, int]
    """Patients who have any of them."""


def auroc(
    scores: ArrayLike,
    malignant: ArrayLike,
    patients: ArrayLike | None = None,
    folds: ArrayLike | None = None,
    *,
    confidence: float = 0.95,
) -> Auroc:
    """Estimate the area under the ROC curve.

    Args:
        scores: (n,), or (runs, n) for several runs over the same nodules; more means malignant.
        malignant: (n,) bool.
        patients: (n,) whose nodule each is; None: everybody has one.
        folds: Shape of `scores`: which model of its run scored a nodule; None: one model.
        confidence: Of the interval, e.g. 0.95.

    Raises:
        InputError: There are fewer than two nodules of a kind, no model scored both kinds, or a score is no number.
    """
    parts = _components(scores, malignant, patients, folds)
    deviation = math.sqrt(_variance(parts, parts))
    return _interval(parts.value, deviation, confidence)


def auroc_difference(
    first: ArrayLike,
    second: ArrayLike,
    malignant: ArrayLike,
    patients: ArrayLike | None = None,
    folds: ArrayLike | None = None,
    *,
    confidence: float = 0.95,
) -> tuple[float, float, float]:
    """Estimate how much larger the area of `first` is than that of `second` on the same nodules.

    Args:
        first: As `auroc` takes scores.
        second: The same shape, or (n,).
        malignant: (n,) bool.
        patients: (n,) whose nodule each is.
        folds: Shape of `first`; of both.
        confidence: Of the interval.

    Returns:
        The difference and the ends of its interval, from the paired variance.
    """
    a, b = (_components(scores, malignant, patients, folds) for scores in (first, second))
    variance = _variance(a, a) + _variance(b, b) - 2 * _variance(a, b)
    reach = NormalDist().inv_cdf((1 + confidence) / 2) * math.sqrt(max(variance, 0.0))
    difference = a.value - b.value
    return difference, difference - reach, difference + reach


def _components(
    scores: ArrayLike, malignant: ArrayLike, patients: ArrayLike | None, folds: ArrayLike | None
) -> _Components:
    marks, given = np.asarray(malignant, bool), np.atleast_2d(np.asarray(scores, np.float64))
    _check(given, marks)
    runs, models = np.broadcast_arrays(given, np.zeros(1) if folds is None else np.asarray(folds))
    right = np.zeros((int(marks.sum()), int((~marks).sum())))
    pairs = np.zeros_like(right)
    for run, model in zip(runs, models, strict=True):
        above = run[marks][:, None] - run[~marks][None, :]
        comparable = model[marks][:, None] == model[~marks][None, :]
        right += comparable * (0.5 + 0.5 * np.sign(above))
        pairs += comparable
    if not pairs.any():
        raise InputError(
            "no two nodules can be compared",
            got="malignant and benign nodules in different folds",
            expected="both kinds in a fold",
            remedy="Use fewer folds.",
        )
    value = float(right.sum() / pairs.sum())
    # Weighted by how many pairs a nodule is part of; with one fold these are plainly its placement less the mean.
    excess = right - value * pairs
    of_malignant = excess.sum(axis=1) * len(right) / pairs.sum()
    of_benign = excess.sum(axis=0) * right.shape[1] / pairs.sum()
    places = (
        np.arange(len(marks))
        if patients is None
        else np.unique(np.asarray(patients), return_inverse=True)[1]
    )
    sums = [
        np.bincount(places[kind], part, minlength=int(places.max()) + 1).astype(np.float64)
        for kind, part in ((marks, of_malignant), (~marks, of_benign))
    ]
    present = (len(np.unique(places[marks])), len(np.unique(places[~marks])))
    return _Components(value, sums[0], sums[1], right.shape, present)


def _variance(a: _Components, b: _Components) -> float:
    """Give the covariance of two areas over the same nodules: Obuchowski's sums over patients."""
    (malignant, benign), (with_malignant, with_benign) = a.counts, a.patients
    everybody = len(a.malignant)
    own = _unbiased(with_malignant) * float(a.malignant @ b.malignant) / malignant**2
    other = _unbiased(with_benign) * float(a.benign @ b.benign) / benign**2
    both = float(a.malignant @ b.benign + a.benign @ b.malignant)
    return own + other + _unbiased(everybody) * both / (malignant * benign)


def _unbiased(clusters: int) -> float:
    return clusters / max(clusters - 1, 1)


def _interval(value: float, deviation: float, confidence: float) -> Auroc:
    if not 0 < value < 1:
        return Auroc(value, value, value, deviation)
    odds = math.log(value / (1 - value))
    reach = NormalDist().inv_cdf((1 + confidence) / 2) * deviation / (value * (1 - value))
    low, high = (1 / (1 + math.exp(-(odds + sign * reach))) for sign in (-1, 1))
    return Auroc(value, low, high, deviation)


def _check(runs: NDArray[np.float64], marks: NDArray[np.bool_]) -> None:
    if runs.shape[1:] != marks.shape:
        raise InputError(
            "scores and labels do not fit",
            got=f"{runs.shape[1:]} and {marks.shape}",
            expected="one of each for every nodule",
            remedy="Give both in the same order.",
        )
    kinds = int(marks.sum()), int((~marks).sum())
    if min(kinds) < 2:
        raise InputError(
            "there is no area under a curve of one kind",
            got=f"{kinds[0]} malignant and {kinds[1]} benign nodules",
            expected="two or more of both",
            remedy="Add nodules of the other kind.",
        )
    if not np.isfinite(runs).all():
        raise InputError(
            "a score is no number",
            got=f"{int((~np.isfinite(runs)).sum())} of them",
            expected="none",
            remedy="See why.",
        )

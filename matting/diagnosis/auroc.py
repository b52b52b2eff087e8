"""The area under the ROC curve and its confidence interval, for nodules clustered by patient.

The area is the share of (malignant, benign) pairs that the scores order correctly; equal scores
count half. Scores of different models have no common scale, so only nodules that were scored by the
same model (fold) are compared. Several runs over the same nodules (seeds) are averaged pair by
pair.

The variance is DeLong's (DeLong, DeLong & Clarke-Pearson 1988), or, if a patient has several
nodules, Obuchowski's (1997): patients are independent, their nodules are not. With one nodule per
patient the two are equal. The interval is normal on the scale of log odds, so it stays within 0..1.
It covers the choice of patients, not that of trainings.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from matting.errors import InputError


@dataclass(frozen=True, slots=True)
class Auroc:
    """An area under the ROC curve, 0..1, with its confidence interval."""

    value: float
    low: float
    high: float
    deviation: float
    """Standard error."""


@dataclass(frozen=True, slots=True)
class _Components:
    """Components of an area: the mean placement of each nodule among those of the other kind."""

    value: float
    malignant: NDArray[np.float64]
    """By patient: sum over the malignant nodules of placement minus `value`."""
    benign: NDArray[np.float64]
    counts: tuple[int, int]
    """Malignant and benign nodules."""
    patients: tuple[int, int]
    """Patients with malignant and with benign nodules."""


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
        scores: (n,), or (runs, n) for several runs over the same nodules; higher means malignant.
        malignant: (n,) bool.
        patients: (n,) the patient of each nodule; None if each has one nodule.
        folds: Shape of `scores`: the model of its run that scored a nodule; None for one model.
        confidence: Confidence level of the interval, in 0..1.

    Returns:
        The area and its interval.

    Raises:
        InputError: There are fewer than two nodules of a kind, no model scored both kinds, or a
            score is not finite.
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
    """Estimate the area of `first` minus that of `second` on the same nodules.

    Args:
        first: As `auroc` takes scores.
        second: The same shape, or (n,).
        malignant: (n,) bool.
        patients: (n,) the patient of each nodule; None if each has one nodule.
        folds: Shape of `first`: the model that scored a nodule, in both.
        confidence: Confidence level of the interval, in 0..1.

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
    labels = np.asarray(malignant, bool)
    given = np.atleast_2d(np.asarray(scores, np.float64))
    _check(given, labels)
    runs, models = np.broadcast_arrays(given, np.zeros(1) if folds is None else np.asarray(folds))
    concordant = np.zeros((int(labels.sum()), int((~labels).sum())))
    pairs = np.zeros_like(concordant)
    for run, model in zip(runs, models, strict=True):
        above = run[labels][:, None] - run[~labels][None, :]
        comparable = model[labels][:, None] == model[~labels][None, :]
        concordant += comparable * (0.5 + 0.5 * np.sign(above))
        pairs += comparable
    if not pairs.any():
        raise InputError(
            "no two nodules can be compared",
            got="malignant and benign nodules in different folds",
            expected="both kinds in a fold",
            remedy="Use fewer folds.",
        )
    value = float(concordant.sum() / pairs.sum())
    # Weighted by the pairs that a nodule is part of; with one fold this is its placement minus the
    # mean.
    excess = concordant - value * pairs
    of_malignant = excess.sum(axis=1) * len(concordant) / pairs.sum()
    of_benign = excess.sum(axis=0) * concordant.shape[1] / pairs.sum()
    places = (
        np.arange(len(labels))
        if patients is None
        else np.unique(np.asarray(patients), return_inverse=True)[1]
    )
    sums = [
        np.bincount(places[kind], part, minlength=int(places.max()) + 1).astype(np.float64)
        for kind, part in ((labels, of_malignant), (~labels, of_benign))
    ]
    present = (len(np.unique(places[labels])), len(np.unique(places[~labels])))
    return _Components(value, sums[0], sums[1], concordant.shape, present)


def _variance(a: _Components, b: _Components) -> float:
    """Return the covariance of two areas over the same nodules: Obuchowski's sums over patients."""
    malignant, benign = a.counts
    with_malignant, with_benign = a.patients
    patients = len(a.malignant)
    own = _unbiased(with_malignant) * float(a.malignant @ b.malignant) / malignant**2
    other = _unbiased(with_benign) * float(a.benign @ b.benign) / benign**2
    both = float(a.malignant @ b.benign + a.benign @ b.malignant)
    return own + other + _unbiased(patients) * both / (malignant * benign)


def _unbiased(clusters: int) -> float:
    return clusters / max(clusters - 1, 1)


def _interval(value: float, deviation: float, confidence: float) -> Auroc:
    if not 0 < value < 1:
        return Auroc(value, value, value, deviation)
    odds = math.log(value / (1 - value))
    reach = NormalDist().inv_cdf((1 + confidence) / 2) * deviation / (value * (1 - value))
    low, high = (1 / (1 + math.exp(-(odds + sign * reach))) for sign in (-1, 1))
    return Auroc(value, low, high, deviation)


def _check(runs: NDArray[np.float64], labels: NDArray[np.bool_]) -> None:
    if runs.shape[1:] != labels.shape:
        raise InputError(
            "scores and labels do not fit",
            got=f"{runs.shape[1:]} and {labels.shape}",
            expected="one of each for every nodule",
            remedy="Give both in the same order.",
        )
    kinds = int(labels.sum()), int((~labels).sum())
    if min(kinds) < 2:
        raise InputError(
            "there is no area under a curve of one kind",
            got=f"{kinds[0]} malignant and {kinds[1]} benign nodules",
            expected="two or more of both",
            remedy="Add nodules of the other kind.",
        )
    if not np.isfinite(runs).all():
        raise InputError(
            "a score is not finite",
            got=f"{int((~np.isfinite(runs)).sum())} of them",
            expected="none",
            remedy="Check the classifier's training.",
        )

"""Agreement of raters and confidence of shares: kappa, Wilson interval, bootstrap.

        statistic      formula                                                        source
        Cohen's kappa  (p - e) / (1 - e); p: observed agreement, e: agreement        Cohen 1960
                       expected by chance from the raters' marginals
        Fleiss' kappa  the same with p and e over all pairs of n raters               Fleiss 1971
        Wilson         (s + z^2/2 +- z sqrt(s (k - s)/k + z^2/4)) / (k + z^2)         Wilson 1927

1 is perfect agreement, 0 agreement by chance. Where all raters always choose the same option, kappa
is not defined (None). Intervals come from a bootstrap over patients, since nodules of one patient
are not independent.
"""

import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist

import numpy as np

LEVEL = 0.95
"""Confidence level of the intervals."""
REPLICATES = 2000
"""Replicates of the bootstrap."""
_Z = NormalDist().inv_cdf(0.5 + LEVEL / 2)

Ratings = Sequence[Sequence[Hashable]]
"""For each nodule the choices of all raters, always in the same order of raters."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its confidence interval; None where it is not defined."""

    value: float | None
    low: float | None
    high: float | None
    nodules: int
    """Number of nodules it was computed from."""


def cohen_kappa(ratings: Ratings) -> float | None:
    """Compute Cohen's kappa of two raters; None where it is not defined."""
    if not ratings:
        return None
    count = len(ratings)
    observed = sum(first == second for first, second in ratings) / count
    marginals = [Counter(answers) for answers in zip(*ratings, strict=True)]
    expected = (
        sum(marginals[0][answer] * marginals[1][answer] for answer in marginals[0]) / count**2
    )
    return None if math.isclose(expected, 1.0) else (observed - expected) / (1.0 - expected)


def fleiss_kappa(ratings: Ratings) -> float | None:
    """Compute Fleiss' kappa of any number of raters from two on; None where it is not defined."""
    if not ratings or len(ratings[0]) < 2:
        return None
    raters = len(ratings[0])
    pairs = math.comb(raters, 2)
    observed = sum(
        sum(math.comb(n, 2) for n in Counter(row).values()) / pairs for row in ratings
    ) / len(ratings)
    given = Counter(answer for row in ratings for answer in row)
    expected = sum((n / (raters * len(ratings))) ** 2 for n in given.values())
    return None if math.isclose(expected, 1.0) else (observed - expected) / (1.0 - expected)


def wilson(successes: int, trials: int) -> Estimate:
    """Return a share with its Wilson interval, which is within 0..1 and never empty."""
    if trials == 0:
        return Estimate(None, None, None, 0)
    middle = successes + _Z**2 / 2
    half = _Z * math.sqrt(successes * (trials - successes) / trials + _Z**2 / 4)
    low = (middle - half) / (trials + _Z**2)
    high = (middle + half) / (trials + _Z**2)
    return Estimate(successes / trials, max(low, 0.0), min(high, 1.0), trials)


def bootstrap_interval(
    statistic: Callable[[Ratings], float | None],
    ratings: Ratings,
    patients: Sequence[str],
    *,
    seed: int,
    replicates: int = REPLICATES,
) -> Estimate:
    """Return a statistic with its percentile interval (bootstrap over patients).

    Args:
        statistic: For example `cohen_kappa`; replicates for which it is not defined are ignored.
        ratings: For each nodule the choices of all raters.
        patients: For each nodule its patient.
        seed: Of the bootstrap.
        replicates: Number of bootstrap replicates.
    """
    groups: dict[str, list[Sequence[Hashable]]] = {}
    for row, patient in zip(ratings, patients, strict=True):
        groups.setdefault(patient, []).append(row)
    clusters = list(groups.values())
    value = statistic(ratings)
    if value is None or len(clusters) < 2:
        return Estimate(value, None, None, len(ratings))
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, len(clusters), (replicates, len(clusters)))
    redrawn = (statistic([row for place in draw for row in clusters[place]]) for draw in draws)
    defined = [one for one in redrawn if one is not None]
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(defined, (tail, 1 - tail)) if defined else (math.nan, math.nan)
    return Estimate(value, float(low), float(high), len(ratings))


def pairwise_kappas(
    answers: Mapping[str, Mapping[str, Hashable]], patient_of: Mapping[str, str], *, seed: int
) -> dict[tuple[str, str], Estimate]:
    """Return Cohen's kappa of each pair of raters on the nodules that both decided.

    Args:
        answers: Choices by rater, then by nodule.
        patient_of: Patients by nodule.
        seed: Of the bootstrap.
    """
    found = {}
    for first, second in combinations(sorted(answers), 2):
        both = sorted(answers[first].keys() & answers[second].keys())
        ratings = [(answers[first][nodule], answers[second][nodule]) for nodule in both]
        found[first, second] = bootstrap_interval(
            cohen_kappa, ratings, [patient_of[n] for n in both], seed=seed
        )
    return found


def joint_kappa(
    answers: Mapping[str, Mapping[str, Hashable]], patient_of: Mapping[str, str], *, seed: int
) -> Estimate:
    """Return Fleiss' kappa over the nodules that every rater decided.

    Arguments as in `pairwise_kappas`.
    """
    shared = (
        sorted(set.intersection(*(set(by_nodule) for by_nodule in answers.values())))
        if answers
        else []
    )
    ratings = [tuple(answers[rater][nodule] for rater in sorted(answers)) for nodule in shared]
    return bootstrap_interval(fleiss_kappa, ratings, [patient_of[n] for n in shared], seed=seed)

"""How far raters agree, and how sure a share is: kappa, Wilson's interval and the bootstrap.

        figure         formula                                                        source
        Cohen's kappa  (p - e) / (1 - e); p: share of equal answers, e: share that    Cohen 1960
                       two raters with these habits would share by chance
        Fleiss' kappa  the same with p and e over all pairs of n raters               Fleiss 1971
        Wilson         (s + z^2/2 +- z sqrt(s (k - s)/k + z^2/4)) / (k + z^2)         Wilson 1927

1 is perfect agreement, 0 what chance gives. Where everybody gives one and the same answer throughout, chance explains
everything and kappa is not defined: None. Intervals come from drawing whole patients anew, with replacement, since the
nodules of one patient are seen alike.
"""

import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist

import numpy as np

LEVEL = 0.95
"""How often an interval should hold the truth."""
REPLICATES = 2000
"""Draws of the bootstrap."""
_Z = NormalDist().inv_cdf(0.5 + LEVEL / 2)

Ratings = Sequence[Sequence[Hashable]]
"""Per nodule the answers of all raters, always in the same order of raters."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its interval; None where it is not defined."""

    value: float | None
    low: float | None
    high: float | None
    nodules: int
    """How many nodules it rests on."""


def cohen_kappa(ratings: Ratings) -> float | None:
    """Compute Cohen's kappa of two raters; None where it is not defined."""
    if not ratings:
        return None
    count = len(ratings)
    observed = sum(first == second for first, second in ratings) / count
    habits = [Counter(answers) for answers in zip(*ratings, strict=True)]
    expected = sum(habits[0][answer] * habits[1][answer] for answer in habits[0]) / count**2
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
    """Give a share with Wilson's interval, which stays within 0..1 and is never empty."""
    if trials == 0:
        return Estimate(None, None, None, 0)
    middle = successes + _Z**2 / 2
    half = _Z * math.sqrt(successes * (trials - successes) / trials + _Z**2 / 4)
    low, high = (middle - half) / (trials + _Z**2), (middle + half) / (trials + _Z**2)
    return Estimate(successes / trials, max(low, 0.0), min(high, 1.0), trials)


def with_interval(
    statistic: Callable[[Ratings], float | None],
    ratings: Ratings,
    patients: Sequence[str],
    *,
    seed: int,
    replicates: int = REPLICATES,
) -> Estimate:
    """Give a figure with its percentile interval from drawing patients anew.

    Args:
        statistic: Such as `cohen_kappa`; draws for which it is not defined are left out.
        ratings: Per nodule the answers of all raters.
        patients: Per nodule whose it is.
        seed: Decides the draws.
        replicates: How many draws.
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
    defined = [figure for figure in redrawn if figure is not None]
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(defined, (tail, 1 - tail)) if defined else (math.nan, math.nan)
    return Estimate(value, float(low), float(high), len(ratings))


def pairwise_kappas(
    answers: Mapping[str, Mapping[str, Hashable]], patient_of: Mapping[str, str], *, seed: int
) -> dict[tuple[str, str], Estimate]:
    """Compare every two raters on the nodules that both answered.

    Args:
        answers: By rater, then by nodule.
        patient_of: By nodule.
        seed: Decides the bootstrap's draws.
    """
    found = {}
    for first, second in combinations(sorted(answers), 2):
        both = sorted(answers[first].keys() & answers[second].keys())
        ratings = [(answers[first][nodule], answers[second][nodule]) for nodule in both]
        found[first, second] = with_interval(
            cohen_kappa, ratings, [patient_of[n] for n in both], seed=seed
        )
    return found


def joint_kappa(
    answers: Mapping[str, Mapping[str, Hashable]], patient_of: Mapping[str, str], *, seed: int
) -> Estimate:
    """Give Fleiss' kappa over the nodules that every rater answered; arguments as in `pairwise_kappas`."""
    shared = (
        sorted(set.intersection(*(set(by_nodule) for by_nodule in answers.values())))
        if answers
        else []
    )
    ratings = [tuple(answers[rater][nodule] for rater in sorted(answers)) for nodule in shared]
    return with_interval(fleiss_kappa, ratings, [patient_of[n] for n in shared], seed=seed)

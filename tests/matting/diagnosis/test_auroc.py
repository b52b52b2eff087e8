"""AUROC and its interval against plain twins."""

import math

import numpy as np
import pytest

from matting.diagnosis.auroc import auroc, auroc_difference
from matting.errors import InputError


def plain_area(scores, malignant):
    """Return the share of ordered pairs, one by one."""
    pairs = [
        (a, b)
        for a, mark in zip(scores, malignant, strict=True)
        if mark
        for b, m in zip(scores, malignant, strict=True)
        if not m
    ]
    return sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs) / len(pairs)


def midranks(values):
    """Return ranks from 1 up; equal values share the mean of theirs."""
    return [sum(w < v for w in values) + (sum(w == v for w in values) + 1) / 2 for v in values]


def delong_variance(scores, malignant):
    """DeLong's variance from mid-ranks, as Sun & Xu (2014) compute it."""
    x, y = (
        [s for s, m in zip(scores, malignant, strict=True) if m],
        [s for s, m in zip(scores, malignant, strict=True) if not m],
    )
    both = midranks(x + y)
    v10 = [(t - r) / len(y) for t, r in zip(both[: len(x)], midranks(x), strict=True)]
    v01 = [1 - (t - r) / len(x) for t, r in zip(both[len(x) :], midranks(y), strict=True)]
    return np.var(v10, ddof=1) / len(x) + np.var(v01, ddof=1) / len(y)


def drawn(seed, n=30, ties=False):
    rng = np.random.default_rng(seed)
    malignant = rng.permutation(np.arange(n) < n // 3)
    scores = rng.normal(size=n) + malignant
    return (scores.round(0) if ties else scores), malignant


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_area_and_variance_are_those_of_plain_references(seed, ties):
    scores, malignant = drawn(seed, ties=ties)
    found = auroc(scores, malignant)
    assert found.value == pytest.approx(plain_area(scores, malignant), abs=1e-12)
    assert found.deviation == pytest.approx(
        math.sqrt(delong_variance(list(scores), list(malignant))), rel=1e-9
    )
    assert found.low < found.value < found.high


@pytest.mark.parametrize(
    ("scores", "area"),
    [
        ([1, 2, 3, 4], 1.0),
        ([4, 3, 2, 1], 0.0),
        ([5, 5, 5, 5], 0.5),
        ([1, 3, 3, 4], 0.875),
        ([1, 3, 2, 4], 0.75),
    ],
)
def test_hand_cases(scores, area):
    assert auroc(scores, [False, False, True, True]).value == area


def test_the_interval_of_clustered_nodules_is_that_of_drawing_patients_anew():
    rng = np.random.default_rng(5)
    patients = np.repeat(np.arange(120), rng.integers(1, 5, 120))
    shift, ill = rng.normal(size=120), rng.random(120) < 0.5
    malignant = np.where(rng.random(len(patients)) < 0.15, ~ill[patients], ill[patients])
    scores = shift[patients] + 0.5 * rng.normal(size=len(patients)) + 1.2 * malignant
    found = auroc(scores, malignant, patients)
    members = [np.flatnonzero(patients == patient) for patient in range(120)]
    areas = []
    for _ in range(400):
        places = np.concatenate([members[p] for p in rng.integers(0, 120, 120)])
        x, y = scores[places][malignant[places]], scores[places][~malignant[places]]
        areas.append((np.searchsorted(np.sort(y), x) / len(y)).mean())
    assert found.deviation == pytest.approx(np.std(areas), rel=0.12)
    # Taking nodules of a patient for independent would be too sure of itself.
    assert found.deviation > 1.15 * auroc(scores, malignant).deviation


def test_only_scores_of_one_model_are_compared():
    scores, malignant = drawn(1, 40)
    folds = np.arange(40) % 2
    plain = auroc(scores, malignant, folds=folds).value
    assert auroc(scores + 100 * folds, malignant, folds=folds).value == plain
    assert auroc(scores + 100 * folds, malignant).value != plain
    sizes = [malignant[folds == f].sum() * (~malignant[folds == f]).sum() for f in (0, 1)]
    areas = [plain_area(scores[folds == f], malignant[folds == f]) for f in (0, 1)]
    assert plain == pytest.approx(np.average(areas, weights=sizes), abs=1e-12)


def test_runs_over_the_same_nodules_are_averaged_and_make_the_interval_no_shorter():
    scores, malignant = drawn(2, 60)
    one = auroc(scores, malignant)
    same = auroc([scores, scores, scores], malignant)
    assert (same.value, same.deviation) == pytest.approx((one.value, one.deviation), abs=1e-12)
    other = drawn(3, 60)[0]
    both = auroc([scores, other], malignant)
    assert both.value == pytest.approx((one.value + auroc(other, malignant).value) / 2, abs=1e-12)


def test_a_difference_is_paired():
    scores, malignant = drawn(4, 80)
    worse = scores + 0.3 * np.random.default_rng(0).normal(size=80)
    difference, low, high = auroc_difference(scores, worse, malignant)
    assert difference == pytest.approx(
        auroc(scores, malignant).value - auroc(worse, malignant).value, abs=1e-12
    )
    unpaired = math.hypot(auroc(scores, malignant).deviation, auroc(worse, malignant).deviation)
    assert low < difference < high
    assert high - low < 2 * 1.96 * 0.7 * unpaired
    assert auroc_difference(scores, scores, malignant) == pytest.approx((0, 0, 0), abs=1e-7)
    # Volume has no runs; it is held against each of those that have.
    runs, folds = np.stack([scores, worse]), np.stack([np.arange(80) % 2, np.arange(80) % 4 // 2])
    assert auroc_difference(runs, scores, malignant, folds=folds)[0] < 0.1


@pytest.mark.parametrize(
    ("scores", "malignant", "what"),
    [
        ([1, 2, 3], [True, True, True], "one kind"),
        ([1, 2, 3], [True, False, False], "one kind"),
        ([1, 2, math.nan, 4], [True, False, True, False], "not finite"),
        ([1, 2, 3], [True, False, True, False], "do not fit"),
    ],
)
def test_what_has_no_area_is_refused(scores, malignant, what):
    with pytest.raises(InputError, match=what):
        auroc(scores, malignant)


def test_kinds_that_never_share_a_fold_are_refused():
    with pytest.raises(InputError, match="no two nodules"):
        auroc([1, 2, 3, 4], [True, True, False, False], folds=[0, 0, 1, 1])

import math
import random

import pytest

from qc.studies.agreement import (
    bootstrap_interval,
    cohen_kappa,
    fleiss_kappa,
    joint_kappa,
    pairwise_kappas,
    wilson,
)


def pairs(*counts):
    """Ratings of two raters from how often each pair of answers occurred."""
    return [answers for answers, count in counts for _ in range(count)]


def test_cohens_kappa_is_that_of_the_textbook_table():
    # 50 grants, two readers: 20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no; p = 0.7, e = 0.5*0.6 +
    # 0.5*0.4 = 0.5
    ratings = pairs((("y", "y"), 20), (("y", "n"), 5), (("n", "y"), 10), (("n", "n"), 15))
    assert cohen_kappa(ratings) == pytest.approx(0.4)


def test_fleiss_kappa_is_that_of_the_published_example():
    # Fleiss' worked table of ten subjects, fourteen raters and five categories: kappa 0.210
    table = [
        (0, 0, 0, 0, 14), (0, 2, 6, 4, 2), (0, 0, 3, 5, 6), (0, 3, 9, 2, 0), (2, 2, 8, 1, 1),
        (7, 7, 0, 0, 0), (3, 2, 6, 3, 0), (2, 5, 3, 2, 2), (6, 5, 2, 1, 0), (0, 2, 2, 3, 7),
    ]  # fmt: skip
    ratings = [[answer for answer, count in enumerate(row) for _ in range(count)] for row in table]
    assert fleiss_kappa(ratings) == pytest.approx(0.20993, abs=1e-5)


@pytest.mark.parametrize("kappa", [cohen_kappa, fleiss_kappa])
def test_kappa_is_1_in_agreement_and_not_defined_without_choice(kappa):
    assert kappa([("a", "a"), ("b", "b")]) == pytest.approx(1.0)
    assert kappa([("a", "a"), ("a", "a")]) is None
    assert kappa([]) is None


def test_kappa_of_opposites_is_minus_1():
    assert cohen_kappa([("a", "b"), ("b", "a")]) == pytest.approx(-1.0)


def test_wilson_is_that_of_the_formula():
    share = wilson(8, 10)
    # Brown, Cai & DasGupta's usual example: 8 of 10 gives 0.4902 to 0.9433
    assert (share.value, share.nodules) == (0.8, 10)
    assert (share.low, share.high) == (
        pytest.approx(0.4902, abs=1e-4),
        pytest.approx(0.9433, abs=1e-4),
    )


@pytest.mark.parametrize(("successes", "low", "high"), [(0, 0.0, 0.2775), (10, 0.7225, 1.0)])
def test_wilson_stays_within_0_and_1_and_is_never_empty(successes, low, high):
    share = wilson(successes, 10)
    assert (share.low, share.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))
    assert wilson(0, 0).value is None


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    # Answers agree with a chance of 0.7 beyond what chance gives, so the true kappa is 0.7
    held = 0
    for trial in range(60):
        rng = random.Random(trial)
        ratings = []
        for _ in range(80):
            first = rng.choice("abcd")
            ratings.append((first, first if rng.random() < 0.7 else rng.choice("abcd")))
        kappa = bootstrap_interval(
            cohen_kappa, ratings, [str(n) for n in range(80)], seed=trial, replicates=200
        )
        held += kappa.low <= 0.7 <= kappa.high
    assert 52 <= held <= 60


def test_patients_with_many_nodules_widen_the_interval():
    ratings = [("a", "a"), ("b", "b"), ("a", "b"), ("b", "b")] * 10
    alone = bootstrap_interval(cohen_kappa, ratings, [str(n) for n in range(40)], seed=3)
    together = bootstrap_interval(cohen_kappa, ratings, [str(n % 4) for n in range(40)], seed=3)
    assert together.value == alone.value
    assert together.high - together.low > alone.high - alone.low
    assert bootstrap_interval(cohen_kappa, ratings, [str(n) for n in range(40)], seed=3) == alone
    assert bootstrap_interval(cohen_kappa, ratings, ["one"] * 40, seed=3).low is None


def test_raters_are_compared_on_the_nodules_that_they_share():
    answers = {
        "ann": {"1": "a", "2": "b", "3": "a"},
        "bob": {"1": "a", "2": "b"},
        "eve": {"2": "b", "3": "b"},
    }
    patients = {"1": "p", "2": "q", "3": "r"}
    found = pairwise_kappas(answers, patients, seed=1)
    assert {pair: kappa.nodules for pair, kappa in found.items()} == {
        ("ann", "bob"): 2, ("ann", "eve"): 2, ("bob", "eve"): 1,
    }  # fmt: skip
    assert found["ann", "bob"].value == pytest.approx(1.0)
    joint = joint_kappa(answers, patients, seed=1)
    assert joint.nodules == 1
    assert joint.value is None
    assert math.isclose(
        joint_kappa({k: v for k, v in answers.items() if k != "eve"}, patients, seed=1).value, 1.0
    )

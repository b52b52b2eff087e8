from itertools import count

import pytest

from matting.errors import InputError
from storage.recipe import ReviewSettings, load_recipe
from storage.records import Verdict
from storage.reviews.consensus import find_consensus
from storage.reviews.verdicts import in_order

FIRST = ReviewSettings()
MAJORITY = ReviewSettings(rule="majority", reviewers=2)
JUDGE = ReviewSettings(rule="adjudicator", reviewers=2, adjudicator="judge")
seconds = count(1)


def verdict_of(reviewer, choice="cf", digest="d", **more):
    verdict = more.pop("verdict", "discard" if choice == "discard" else "choose")
    method = choice if verdict == "choose" else None
    place = next(seconds)
    defaults = {
        "decided_at": f"2026-01-01T00:{place // 60:02d}:{place % 60:02d}+00:00",
        "id": f"{place:032x}",
    }
    return Verdict(
        "P-1",
        digest,
        verdict,
        method,
        reviewer,
        more.pop("automatic", False),
        **{**defaults, **more},
    )


def choice_of(rule, *verdicts):
    verdict = find_consensus(verdicts, "d", rule).verdict
    return verdict and verdict.choice


def test_without_verdicts_there_is_no_consensus():
    for rule in (FIRST, MAJORITY, JUDGE):
        assert choice_of(rule) is None
        assert not find_consensus([], "d", rule).is_disputed


def test_the_earliest_verdict_counts_and_may_be_changed():
    assert choice_of(FIRST, verdict_of("ann", "cf"), verdict_of("bob", "lb")) == "cf"
    assert (
        choice_of(
            FIRST, verdict_of("ann", "cf"), verdict_of("bob", "lb"), verdict_of("ann", "discard")
        )
        == "discard"
    )
    assert find_consensus(
        [verdict_of("ann", "cf"), verdict_of("bob", "lb")], "d", FIRST
    ).is_disputed


def test_a_majority_needs_enough_people_and_more_than_half_of_them():
    assert choice_of(MAJORITY, verdict_of("ann", "cf")) is None
    assert choice_of(MAJORITY, verdict_of("ann", "cf"), verdict_of("bob", "cf")) == "cf"
    assert choice_of(MAJORITY, verdict_of("ann", "cf"), verdict_of("bob", "lb")) is None
    assert (
        choice_of(
            MAJORITY, verdict_of("ann", "cf"), verdict_of("bob", "lb"), verdict_of("eve", "lb")
        )
        == "lb"
    )
    assert choice_of(MAJORITY, verdict_of("ann", "cf"), verdict_of("ann", "cf")) is None


def test_the_adjudicator_settles_what_others_dispute():
    assert choice_of(JUDGE, verdict_of("ann", "cf")) is None
    assert choice_of(JUDGE, verdict_of("ann", "cf"), verdict_of("bob", "cf")) == "cf"
    assert choice_of(JUDGE, verdict_of("ann", "cf"), verdict_of("bob", "lb")) is None
    assert (
        choice_of(
            JUDGE, verdict_of("ann", "cf"), verdict_of("bob", "lb"), verdict_of("judge", "if")
        )
        == "if"
    )


def test_an_automatic_pick_counts_until_a_person_chooses():
    pick = verdict_of("auto", "knn", automatic=True)
    assert choice_of(FIRST, pick) == "knn"
    assert choice_of(FIRST, pick, verdict_of("ann", "cf")) == "cf"
    assert choice_of(MAJORITY, pick, verdict_of("ann", "cf")) is None


def test_the_latest_automatic_pick_counts():
    first = verdict_of("auto", "knn", automatic=True)
    second = verdict_of("auto", "lb", automatic=True)
    assert choice_of(FIRST, first, second) == "lb"


def test_a_verdict_on_another_case_is_stale_until_it_is_given_again():
    old = verdict_of("ann", "cf", digest="before")
    consensus = find_consensus(
        [old, verdict_of("auto", "knn", digest="before", automatic=True)], "d", FIRST
    )
    assert (consensus.verdict, consensus.stale) == (None, (old,))
    assert find_consensus([old, verdict_of("ann", "lb")], "d", FIRST).stale == ()


def test_an_undo_restores_the_verdict_before_and_affects_nobody_else():
    first, second = verdict_of("ann", "cf"), verdict_of("ann", "lb")
    undo = verdict_of("ann", verdict="undo", undoes=second.id)
    assert choice_of(FIRST, first, second, undo) == "cf"
    assert choice_of(FIRST, first, verdict_of("ann", verdict="undo", undoes=first.id)) is None
    assert choice_of(FIRST, first, verdict_of("bob", verdict="undo", undoes=first.id)) == "cf"


def test_a_flag_settles_nothing_and_can_be_taken_back():
    flag = verdict_of("ann", verdict="flag", note="rim?")
    assert choice_of(FIRST, flag) is None
    assert find_consensus([flag], "d", FIRST).flags == (flag,)
    assert (
        find_consensus([flag, verdict_of("ann", verdict="undo", undoes=flag.id)], "d", FIRST).flags
        == ()
    )
    assert choice_of(FIRST, verdict_of("bob", "lb"), flag) == "lb"


def test_a_verdict_that_was_stored_twice_counts_once():
    verdict = verdict_of("ann", "cf")
    assert in_order([verdict, verdict]) == [verdict]


@pytest.mark.parametrize(
    "review", ["{rule: adjudicator}", "{rule: majority, adjudicator: ann}", "{rule: loudest}"]
)
def test_a_rule_that_cannot_work_is_refused(tmp_path, review):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"review: {review}\n")
    with pytest.raises(InputError, match=r"adjudicator|loudest"):
        load_recipe(path)


def test_the_review_does_not_change_what_is_computed(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("review: {rule: majority, reviewers: 3}\n")
    assert load_recipe(path).content_key() == load_recipe().content_key()

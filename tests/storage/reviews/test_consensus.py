from itertools import count

import pytest

from matting.errors import InputError
from storage.recipe import ReviewSettings, load_recipe
from storage.reviews.consensus import find_consensus
from storage.reviews.verdicts import Verdict, in_order

FIRST = ReviewSettings()
MAJORITY = ReviewSettings(rule="majority", reviewers=2)
JUDGE = ReviewSettings(rule="adjudicator", reviewers=2, adjudicator="judge")
seconds = count(1)


def said(reviewer, answer="cf", digest="d", **more):
    verdict = more.pop("verdict", "discard" if answer == "discard" else "choose")
    method = answer if verdict == "choose" else None
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


def answer_of(rule, *decisions):
    decision = find_consensus(decisions, "d", rule).decision
    return decision and decision.answer


def test_nothing_said_decides_nothing():
    for rule in (FIRST, MAJORITY, JUDGE):
        assert answer_of(rule) is None
        assert not find_consensus([], "d", rule).is_disputed


def test_the_first_to_speak_counts_and_may_change_their_mind():
    assert answer_of(FIRST, said("ann", "cf"), said("bob", "lb")) == "cf"
    assert (
        answer_of(FIRST, said("ann", "cf"), said("bob", "lb"), said("ann", "discard")) == "discard"
    )
    assert find_consensus([said("ann", "cf"), said("bob", "lb")], "d", FIRST).is_disputed


def test_a_majority_needs_enough_people_and_more_than_half_of_them():
    assert answer_of(MAJORITY, said("ann", "cf")) is None
    assert answer_of(MAJORITY, said("ann", "cf"), said("bob", "cf")) == "cf"
    assert answer_of(MAJORITY, said("ann", "cf"), said("bob", "lb")) is None
    assert answer_of(MAJORITY, said("ann", "cf"), said("bob", "lb"), said("eve", "lb")) == "lb"
    assert answer_of(MAJORITY, said("ann", "cf"), said("ann", "cf")) is None


def test_the_adjudicator_settles_what_others_dispute():
    assert answer_of(JUDGE, said("ann", "cf")) is None
    assert answer_of(JUDGE, said("ann", "cf"), said("bob", "cf")) == "cf"
    assert answer_of(JUDGE, said("ann", "cf"), said("bob", "lb")) is None
    assert answer_of(JUDGE, said("ann", "cf"), said("bob", "lb"), said("judge", "if")) == "if"


def test_a_rules_pick_counts_until_a_person_speaks():
    pick = said("auto", "knn", automatic=True)
    assert answer_of(FIRST, pick) == "knn"
    assert answer_of(FIRST, pick, said("ann", "cf")) == "cf"
    assert answer_of(MAJORITY, pick, said("ann", "cf")) is None


def test_what_was_said_of_another_case_is_stale_until_said_again():
    old = said("ann", "cf", digest="before")
    stand = find_consensus([old, said("auto", "knn", digest="before", automatic=True)], "d", FIRST)
    assert (stand.decision, stand.stale) == (None, (old,))
    assert find_consensus([old, said("ann", "lb")], "d", FIRST).stale == ()


def test_an_undo_brings_back_what_was_said_before_and_concerns_nobody_else():
    first, second = said("ann", "cf"), said("ann", "lb")
    undo = said("ann", verdict="undo", undoes=second.id)
    assert answer_of(FIRST, first, second, undo) == "cf"
    assert answer_of(FIRST, first, said("ann", verdict="undo", undoes=first.id)) is None
    assert answer_of(FIRST, first, said("bob", verdict="undo", undoes=first.id)) == "cf"


def test_a_flag_decides_nothing_and_can_be_taken_back():
    flag = said("ann", verdict="flag", note="rim?")
    assert answer_of(FIRST, flag) is None
    assert find_consensus([flag], "d", FIRST).flags == (flag,)
    assert (
        find_consensus([flag, said("ann", verdict="undo", undoes=flag.id)], "d", FIRST).flags == ()
    )
    assert answer_of(FIRST, said("bob", "lb"), flag) == "lb"


def test_a_verdict_that_was_stored_twice_counts_once():
    verdict = said("ann", "cf")
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
    assert load_recipe(path).deciding() == load_recipe().deciding()

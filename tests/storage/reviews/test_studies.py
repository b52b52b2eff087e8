from datetime import timedelta

import pytest

from matting.errors import InputError
from storage.cases.outcomes import read_outcomes
from storage.maintenance.gc import find_garbage
from storage.recipe import Recipe
from storage.records import Verdict
from storage.reviews.studies import create_study, list_studies, plan_study, raters_of, read_study
from storage.reviews.verdicts import record_verdict
from tests.reviewable import add_nodule, reviewable_store


@pytest.fixture
def decided(tmp_path):
    store = reviewable_store(tmp_path / "store", 5)
    for outcome in read_outcomes(store):
        verdict, method = ("discard", None) if outcome.nodule_id == "P-5-a5" else ("choose", "lb")
        record_verdict(
            store, Verdict(outcome.nodule_id, outcome.digest, verdict, method, "ann", False)
        )
    return store


def plan(store, nodules=3, seed=5, **more):
    return plan_study(
        store, more.pop("name", "s"), nodules=nodules, raters=2, seed=seed, recipe=Recipe(), **more
    )


def test_the_draw_is_random_repeatable_and_of_chosen_mattes_only(decided):
    whole = plan(decided, 4)
    assert [item.nodule_id for item in whole.items] == ["P-1-a1", "P-2-a2", "P-3-a3", "P-4-a4"]
    assert plan(decided).items == plan(decided).items
    assert (
        len(
            {tuple(item.nodule_id for item in plan(decided, seed=seed).items) for seed in range(20)}
        )
        > 1
    )
    item = whole.items[0]
    assert item.options == ("reader-1", "reader-2", "reader-3", "reader-4", "matte")
    assert (item.method, item.synthetic) == ("lb", True)


def test_a_plan_is_written_once_and_read_back_the_same(decided):
    study = plan(decided)
    create_study(decided, study)
    assert read_study(decided, "s") == study
    assert list_studies(decided) == ["s"]
    with pytest.raises(InputError, match="written only once"):
        create_study(decided, plan(decided, seed=6))


@pytest.mark.parametrize(
    ("more", "message"),
    [({"nodules": 5}, "got 4 with a chosen matte"), ({"name": "a/b"}, "invalid name of a study")],
)
def test_what_cannot_be_a_study_is_refused(decided, more, message):
    with pytest.raises(InputError, match=message):
        plan(decided, **more)


@pytest.mark.parametrize("name", ["none", "../s", ""])
def test_a_study_that_there_is_not_is_refused(decided, name):
    with pytest.raises(InputError, match="there is no such study"):
        read_study(decided, name)


def test_the_first_to_choose_are_in():
    assert raters_of(["bob", "ann", "bob", "eve"], 2) == ("bob", "ann")


def test_a_studys_verdicts_decide_no_release(decided):
    before = sorted(decided.list_prefix("decisions"))
    item = plan(decided).items[0]
    record_verdict(
        decided, Verdict(item.nodule_id, item.digest, "choose", "matte", "eve", False, study="s")
    )
    assert sorted(decided.list_prefix("decisions")) == before
    assert len(list(decided.list_prefix(f"studies/s/verdicts/{item.nodule_id}"))) == 1


def test_a_case_that_a_study_shows_is_no_garbage(decided):
    study = plan(decided, 1)
    create_study(decided, study)
    shown = study.items[0]
    for outcome in list(read_outcomes(decided)):
        add_nodule(decided, outcome.nodule_id, digest="e" * 64)
    decided.delete(list(decided.list_prefix("decisions")))  # they keep cases too
    orphans = {case.nodule_id for case in find_garbage(decided, timedelta()).orphans}
    assert orphans == {f"P-{n}-a{n}" for n in range(1, 6)} - {shown.nodule_id}

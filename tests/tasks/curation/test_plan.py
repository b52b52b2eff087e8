import os
from dataclasses import replace

import pytest

import tasks.curation.plan
from flows.curate import curate_nodule
from storage.cases.case import ALGORITHM_VERSION
from storage.cases.outcomes import find_outcome, write_outcome
from storage.recipe import Recipe
from storage.records import Outcome
from storage.sources.base import Exclusion
from tasks.curation.inventory import take_inventory
from tasks.curation.plan import (
    LARGEST_PATCH_VOXELS,
    LARGEST_UNKNOWN_VOXELS,
    TYPICAL_BYTES,
    exclude,
    expected_peak_bytes,
    make_plan,
    plan_nodule,
)


def reasons(store, order):
    return {
        choice.nodule.id: (choice.compute, choice.reason)
        for choice in make_plan(store, order, take_inventory(order, None)).choices
    }


def test_all_is_new_without_a_store(order):
    plan = make_plan(None, order, take_inventory(order, None))
    assert [nodule.id for nodule in plan.to_compute] == ["n1", "n2"]
    assert plan.expected_bytes == 2 * TYPICAL_BYTES
    assert plan.going_by == 0
    assert plan.expected_peak_bytes == expected_peak_bytes(
        LARGEST_PATCH_VOXELS, LARGEST_UNKNOWN_VOXELS
    )


def test_what_is_done_is_kept(store, curated):
    assert set(reasons(store, curated).values()) == {
        (False, "done: same source, recipe and algorithm")
    }


def test_an_expectation_goes_by_what_is_there(store, curated):
    plan = make_plan(store, replace(curated, recipe=Recipe()), take_inventory(curated, None))
    assert plan.going_by == 2
    sizes = [find_outcome(store, name).stored_bytes for name in ("n1", "n2")]
    assert plan.expected_bytes == sum(sizes)
    outcomes = [find_outcome(store, name) for name in ("n1", "n2")]
    assert all(outcome.patch_voxels > outcome.unknown_voxels > 0 for outcome in outcomes)
    assert plan.expected_peak_bytes == max(
        expected_peak_bytes(o.patch_voxels, o.unknown_voxels) for o in outcomes
    )


def test_no_memory_is_expected_where_nothing_is_to_be_done(store, curated):
    assert make_plan(store, curated, take_inventory(curated, None)).expected_peak_bytes == 0


def test_a_changed_recipe_is_named_to_the_value(store, curated):
    changed = replace(
        curated,
        recipe=Recipe.model_validate(
            {"crop": {"in_plane_voxels": 24}, "trimap": {"dilation_mm": 2}}
        ),
    )
    assert reasons(store, changed)["n1"] == (
        True,
        "the recipe changed: trimap.dilation_mm 1.5 -> 2.0",
    )


def test_a_recipe_changed_only_in_how_it_runs_changes_nothing(store, curated):
    renamed = curated.recipe.model_copy(update={"name": "other"})
    assert reasons(store, replace(curated, recipe=renamed))["n1"][0] is False


def test_changed_files_are_noticed_and_the_same_bytes_are_not_computed_again(store, curated, table):
    os.utime(table.parent / "n1.image.nii.gz", ns=(1, 1))
    assert reasons(store, curated) == {
        "n1": (True, "the source's files or annotations changed"),
        "n2": (False, "done: same source, recipe and algorithm"),
    }
    nodule = take_inventory(curated, None).nodules[0]
    assert curate_nodule(nodule, curated).computed is False
    assert reasons(store, curated)["n1"][0] is False


def test_another_algorithm_recomputes(store, curated, monkeypatch):
    monkeypatch.setattr("tasks.curation.context.ALGORITHM_VERSION", 99)
    monkeypatch.setattr(tasks.curation.plan, "ALGORITHM_VERSION", 99)
    assert reasons(store, curated)["n1"] == (
        True,
        f"the algorithm changed: version {ALGORITHM_VERSION} -> 99",
    )


def test_a_lost_case_is_computed_again(store, curated):
    digest = find_outcome(store, "n1").digest
    store.delete([f"cases/n1/{digest}.done"])
    assert reasons(store, curated)["n1"] == (True, "the store has lost its case")


def test_refusals_stand_and_failures_are_tried_again(store, curated):
    before = find_outcome(store, "n1")
    write_outcome(store, replace(before, state="refused", stage="trimap", reason="empty"))
    assert reasons(store, curated)["n1"] == (
        False,
        "refused before, and nothing changed since: empty",
    )
    write_outcome(store, replace(before, state="failed", stage="solve", reason="MemoryError"))
    assert reasons(store, curated)["n1"] == (True, "failed before at stage solve: MemoryError")


def test_decide_knows_a_nodule_that_was_never_seen(store, order):
    nodule = take_inventory(order, None).nodules[0]
    assert plan_nodule(store, order, nodule, None).reason == "new: the store has no outcome of it"


def test_what_is_left_out_is_recorded_once(store, monkeypatch):
    left_out = (Exclusion("x1", "P", "1 reader, 4 asked"),)
    exclude(store, left_out)
    assert find_outcome(store, "x1") == Outcome("x1", "P", "refused", "select", "1 reader, 4 asked")
    monkeypatch.setattr(
        tasks.curation.plan, "write_outcome", lambda *_: pytest.fail("written twice")
    )
    exclude(store, left_out)

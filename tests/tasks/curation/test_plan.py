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
    TYPICAL_BYTES,
    expected_peak_bytes,
    expected_wall_s,
    make_plan,
    plan_nodule,
    record_exclusions,
)
from tests.phantoms import ball_patch, write_table
from tests.tasks.conftest import carry_out


def reasons(store, job):
    return {
        action.nodule.id: (action.compute, action.reason)
        for action in make_plan(store, job, take_inventory(job, None)).actions
    }


def test_all_is_new_without_a_store(job):
    plan = make_plan(None, job, take_inventory(job, None))
    assert [nodule.id for nodule in plan.to_compute] == ["n1", "n2"]
    assert plan.expected_bytes == 2 * TYPICAL_BYTES
    assert plan.finished_nodules == 0
    # 560 MB for the process, and the larger of 150 B x 4.5 M and 30 B x 4.5 M + 4500 B x 0.15 M
    assert plan.expected_peak_bytes == 1_370_000_000


def test_finished_nodules_are_not_computed_again(store, curated):
    assert set(reasons(store, curated).values()) == {
        (False, "up to date: same source, recipe and algorithm")
    }


def test_an_expectation_goes_by_what_is_there(store, curated):
    plan = make_plan(store, replace(curated, recipe=Recipe()), take_inventory(curated, None))
    assert plan.finished_nodules == 2
    sizes = [find_outcome(store, name).stored_bytes for name in ("n1", "n2")]
    assert plan.expected_bytes == sum(sizes)
    outcomes = [find_outcome(store, name) for name in ("n1", "n2")]
    assert all(outcome.patch_voxels > outcome.unknown_voxels > 0 for outcome in outcomes)
    peaks = [
        max(150 * o.patch_voxels, 30 * o.patch_voxels + 4500 * o.unknown_voxels) for o in outcomes
    ]
    assert plan.expected_peak_bytes == 560_000_000 + max(peaks)


@pytest.mark.parametrize(
    ("patch_voxels", "unknown_voxels", "expected"),
    [
        (1_000_000, 1_000, 710_000_000),  # preprocessing: 150 MB; the solvers: 34.5 MB
        (1_000_000, 100_000, 1_040_000_000),  # preprocessing: 150 MB; the solvers: 30 + 450 MB
    ],
)
def test_the_memory_of_a_nodule_is_that_of_its_largest_step(patch_voxels, unknown_voxels, expected):
    assert expected_peak_bytes(patch_voxels, unknown_voxels) == expected


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


def test_changed_files_are_noticed_and_the_same_bytes_are_not_computed_again(store, job, table):
    carry_out(job)
    os.utime(table.parent / "n1.image.nii.gz", ns=(1, 1))
    assert reasons(store, job) == {
        "n1": (True, "the source's files or annotations changed"),
        "n2": (False, "up to date: same source, recipe and algorithm"),
    }
    nodule = take_inventory(job, None).nodules[0]
    assert curate_nodule(nodule, job).computed is False
    assert reasons(store, job)["n1"][0] is False


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
    assert reasons(store, curated)["n1"] == (True, "its case is missing from the store")


def test_refusals_stand_and_failures_are_tried_again(store, curated):
    before = find_outcome(store, "n1")
    write_outcome(store, replace(before, state="refused", stage="trimap", reason="empty"))
    assert reasons(store, curated)["n1"] == (
        False,
        "invalid input, unchanged since: empty",
    )
    write_outcome(store, replace(before, state="failed", stage="solve", reason="MemoryError"))
    assert reasons(store, curated)["n1"] == (
        True,
        "failed at stage solve in an earlier run: MemoryError",
    )


def test_a_nodule_without_an_outcome_is_new(store, job):
    nodule = take_inventory(job, None).nodules[0]
    assert plan_nodule(store, job, nodule, None).reason == "new: not in this store"


def test_exclusions_are_recorded_once(store, monkeypatch):
    exclusions = (Exclusion("x1", "P", "1 reader, 4 asked"),)
    record_exclusions(store, exclusions)
    assert find_outcome(store, "x1") == Outcome("x1", "P", "refused", "select", "1 reader, 4 asked")
    monkeypatch.setattr(
        tasks.curation.plan, "write_outcome", lambda *_: pytest.fail("written twice")
    )
    record_exclusions(store, exclusions)


@pytest.mark.parametrize(
    ("workers", "compiled", "wall_s"), [(1, True, 28), (2, True, 18), (8, True, 18), (2, False, 38)]
)
def test_a_run_is_expected_to_take_its_work_shared_by_workers_and_a_start(
    store, tmp_path, curated, monkeypatch, workers, compiled, wall_s
):
    monkeypatch.setattr(tasks.curation.plan, "is_compiled", lambda: compiled)
    table = write_table(tmp_path, {"x1": ball_patch(), "x2": ball_patch()})
    job = replace(curated, source=replace(curated.source, location=str(table)))
    plan = replace(make_plan(store, job, take_inventory(job, None)), expected_seconds=20.0)
    assert len(plan.to_compute) == 2
    assert expected_wall_s(plan, workers) == wall_s


def test_one_slow_nodule_among_many_is_expected_again(store, tmp_path, curated):
    names = ("n1", "n2", "n3")
    table = write_table(tmp_path, {name: ball_patch() for name in names})
    job = replace(curated, source=replace(curated.source, location=str(table)), recipe=Recipe())
    done = find_outcome(store, "n1")
    for name, seconds in zip(names, (1.0, 1.0, 10.0), strict=True):
        write_outcome(store, replace(done, nodule_id=name, seconds={"solve": seconds}))
    assert make_plan(store, job, take_inventory(job, None)).expected_seconds == pytest.approx(12)

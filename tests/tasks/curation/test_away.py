"""A source that is away: what is stored stays, and the words say so."""

import os
from dataclasses import replace
from pathlib import Path
from unittest.mock import ANY

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import storage.sources.table
from flows.curate import curate_nodule, plan_nodules
from matting.errors import InputError
from storage.cases.outcomes import find_outcome
from storage.errors import UnavailableError
from storage.maintenance.gc import find_garbage
from storage.recipe import Recipe
from storage.sources.base import Exclusion, Inventory, first_unreachable
from storage.sources.errors import SourceUnreachableError
from storage.sources.registry import SourceSpec, check_reachable
from storage.store import open_store
from tasks.curation.context import CurationJob
from tasks.curation.inventory import take_inventory
from tasks.curation.plan import make_plan, record_exclusions
from tests.phantoms import ball_patch, write_table


def run(job):
    """Carry out a run in this process, as the flow does; returns the outcomes that it computed."""
    plan = plan_nodules.fn(job, None, None, None)
    return {nodule.id: curate_nodule(nodule, job) for nodule in plan.to_compute}, plan


def outcomes(store):
    return {key: store.get(key) for key in store.list_prefix("outcomes")}


def hide(path: Path) -> None:
    path.rename(path.with_name(f"hidden-{path.name}"))


def show(path: Path) -> None:
    path.with_name(f"hidden-{path.name}").rename(path)


def empty(folder: Path) -> None:
    hide(folder)
    folder.mkdir()


def hide_images(folder: Path) -> None:
    """Unmount a share beside the table that holds the volumes."""
    for path in folder.glob("*.nii.gz"):
        hide(path)


def forbid(folder: Path) -> None:
    (folder / "table.csv").rename(folder / "hidden-table.csv")
    os.symlink(folder / "table.csv", folder / "table.csv")  # opening it fails, also for root


AWAY = {"unmounted": hide, "emptied": empty, "volumes": hide_images, "forbidden": forbid}


@pytest.fixture
def folder(table):
    hide_name = table.parent / "table.csv"
    if table != hide_name:
        table.rename(hide_name)
    return table.parent


@pytest.fixture
def curated_job(folder, job):
    there = replace(job, source=SourceSpec("files", str(folder / "table.csv")))
    assert {outcome.state for outcome in run(there)[0].values()} == {"done"}
    return there


@pytest.mark.parametrize("kind", AWAY)
def test_a_source_that_is_away_is_named_and_nothing_is_touched(kind, curated_job, folder, store):
    before = outcomes(store)
    changed = Recipe.model_validate({"crop": {"in_plane_voxels": 22}})
    AWAY[kind](folder)
    for job in (curated_job, replace(curated_job, recipe=changed)):
        with pytest.raises(SourceUnreachableError, match=" reachable") as caught:
            run(job)
        assert "what is stored was not touched" in caught.value.remedy
    assert outcomes(store) == before
    assert find_garbage(store).orphans == ()


@pytest.mark.parametrize("kind", AWAY)
def test_a_source_that_goes_away_after_planning_touches_no_finished_case(
    kind, curated_job, folder, store
):
    before = {name: find_outcome(store, name) for name in ("n1", "n2")}
    found = take_inventory(curated_job, None).nodules
    AWAY[kind](folder)
    for nodule in found:
        outcome = curate_nodule(nodule, curated_job)
        assert (outcome.state, outcome.digest) == ("done", before[nodule.id].digest)
        assert outcome.note.startswith("source not reachable since 20")
        stored = find_outcome(store, nodule.id)
        if kind == "volumes":  # the table is there, so each nodule says that its own files are not
            assert stored == replace(before[nodule.id], computed=False, unreachable_since=ANY)
        else:
            assert stored == before[nodule.id]


def test_one_nodule_without_its_files_stays_done_until_they_are_back(curated_job, folder, store):
    before = find_outcome(store, "n1")
    hide(folder / "n1.image.nii.gz")
    computed, plan = run(curated_job)
    assert computed == {}
    (kept,) = plan.kept_without_source
    assert "the file of column `image`: No such file" in kept.reason
    noted = find_outcome(store, "n1")
    assert (noted.state, noted.digest, noted.inputs) == ("done", before.digest, before.inputs)
    assert noted.note in kept.reason
    run(curated_job)
    assert find_outcome(store, "n1") == noted, "the first absence counts"
    show(folder / "n1.image.nii.gz")
    computed, plan = run(curated_job)
    assert (computed, plan.kept_without_source) == ({}, ())
    assert find_outcome(store, "n1") == replace(before, computed=False)


def test_a_new_nodule_without_its_files_is_refused_and_computed_when_they_are_there(
    job, table, store
):
    hide(table.parent / "n1.image.nii.gz")
    outcome = run(job)[0]["n1"]
    assert outcome.state in {"refused", "failed"}
    assert "is not there" in outcome.reason
    show(table.parent / "n1.image.nii.gz")
    assert run(job)[0]["n1"].state == "done"


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (OSError(5, "Input/output error"), "done"),
        (OSError("not a gzipped file"), "failed"),
        (UnavailableError("503"), "failed"),
    ],
)
def test_a_file_that_opens_and_cannot_be_read_leaves_a_done_nodule_done(
    error, state, curated_job, folder, store, monkeypatch
):
    def failing(*_):
        try:
            raise error
        except OSError as cause:
            raise RuntimeError("ITK: cannot read") from cause

    before = find_outcome(store, "n1")
    nodule = take_inventory(curated_job, None).nodules[0]
    monkeypatch.setattr(storage.sources.table, "read_volume", failing)
    outcome = curate_nodule(nodule, curated_job)
    assert outcome.state == state
    assert find_outcome(store, "n1").last_done.digest == before.digest


@pytest.mark.parametrize(
    "error",
    [
        OSError(5, "Input/output error"),
        OSError(116, "Stale file handle"),
        PermissionError(13, "Permission denied"),
        RuntimeError("ITK: cannot read"),
        InputError("the CT cannot be read", got="x", expected="y", remedy="Z."),
    ],
)
def test_whatever_a_library_raises_while_files_are_away_leaves_a_done_nodule_done(
    error, curated_job, folder, store, monkeypatch
):
    def failing(*_):
        hide(folder / "n1.image.nii.gz")
        raise error

    before = find_outcome(store, "n1")
    nodule = take_inventory(curated_job, None).nodules[0]
    monkeypatch.setattr(storage.sources.table, "read_volume", failing)
    outcome = curate_nodule(nodule, curated_job)
    assert (outcome.state, outcome.digest) == ("done", before.digest)
    assert find_outcome(store, "n1") == outcome


def test_a_new_nodule_whose_files_cannot_be_opened_is_tried_again(job, store, table, monkeypatch):
    """Permissions come back without another size or time of the file."""

    def failing(path, _):
        raise InputError("the CT cannot be read", got=path, expected="a file", remedy="Fix it.")

    def forbidden(paths):
        return f"{next(iter(paths))}: Permission denied"

    nodule = take_inventory(job, None).nodules[0]
    with monkeypatch.context() as patched:
        patched.setattr(storage.sources.table, "read_volume", failing)
        patched.setattr(storage.sources.table, "first_unreachable", forbidden)
        assert curate_nodule(nodule, job).state == "failed"
    assert run(job)[0]["n1"].state == "done"


def test_bad_input_after_a_finished_case_is_refused_and_the_case_is_remembered(
    curated_job, folder, store
):
    before = find_outcome(store, "n1")
    bad = ball_patch()
    bad.readers[1] = False
    write_table(folder, {"n1": bad, "n2": ball_patch(seed=3)})
    outcome = run(curated_job)[0]["n1"]
    assert (outcome.state, outcome.finished.digest) == ("refused", before.digest)
    assert find_garbage(store).orphans == ()


def test_a_store_that_does_not_answer_meanwhile_is_a_failure(curated_job, folder, monkeypatch):
    def failing(*_):
        raise UnavailableError("503")

    nodule = take_inventory(curated_job, None).nodules[0]
    hide(folder / "n1.image.nii.gz")
    monkeypatch.setattr("tasks.curation.context.find_outcome", failing)
    outcome = curate_nodule(nodule, curated_job)
    assert (outcome.state, outcome.transient) == ("failed", True)


def test_a_scan_without_slices_leaves_its_finished_nodules_done(curated_job, store):
    nodules = take_inventory(curated_job, None).nodules
    inventory = Inventory(nodules[1:], (Exclusion("scan1", "P", "no slices"),), nodules[:1])
    plan = make_plan(store, curated_job, inventory)
    assert [action.nodule.id for action in plan.kept_without_source] == ["n1"]
    with pytest.raises(SourceUnreachableError, match="no nodule of the source is reachable"):
        make_plan(store, curated_job, Inventory((), (), nodules))
    with pytest.raises(SourceUnreachableError, match=r"2 nodules of .* the first is n1"):
        make_plan(None, curated_job, Inventory((), (), nodules))
    assert make_plan(store, curated_job, Inventory((), (), ())).actions == ()


def test_a_finished_nodule_that_the_recipe_excludes_is_recorded_once(curated_job, store):
    exclusions = (Exclusion("n1", "P-n1", "4 readers, 3 asked"),)
    record_exclusions(store, exclusions)
    written = os.stat(f"{store.url}/outcomes/n1.json").st_mtime_ns
    assert find_outcome(store, "n1").finished.state == "done"
    record_exclusions(store, exclusions)
    assert os.stat(f"{store.url}/outcomes/n1.json").st_mtime_ns == written


def test_an_empty_folder_of_patients_is_away_and_a_wrong_one_is_wrong(tmp_path):
    with pytest.raises(SourceUnreachableError, match="an empty folder"):
        check_reachable(SourceSpec("lidc", str(tmp_path)))
    (tmp_path / "notes.txt").touch()
    check_reachable(SourceSpec("lidc", str(tmp_path)))
    with pytest.raises(SourceUnreachableError, match="Not a directory"):
        check_reachable(SourceSpec("lidc", str(tmp_path / "notes.txt")))


def test_the_first_file_that_cannot_be_opened_is_named(tmp_path):
    (tmp_path / "there").touch()
    assert first_unreachable([tmp_path, tmp_path / "there"]) == ""
    assert first_unreachable([tmp_path / "there", tmp_path / "gone"]).endswith(
        "gone: No such file or directory"
    )


events = st.lists(st.sampled_from(["n1", "n2", "all", "run"]), max_size=8)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with a table and a store in which both nodules are done."""
    folder = tmp_path_factory.mktemp("away")
    (folder / "scans").mkdir()
    table = write_table(folder / "scans", {"n1": ball_patch(), "n2": ball_patch(seed=3)})
    job = CurationJob(
        SourceSpec("files", str(table)),
        open_store(str(folder / "store"), create=True).url,
        Recipe.model_validate({"crop": {"in_plane_voxels": 24}}),
    )
    run(job)
    return folder, job


@given(events)
@settings(max_examples=40, deadline=None)
def test_in_any_order_of_absences_and_runs_what_was_done_stays_done(prepared, sequence):
    folder, job = prepared
    store = open_store(job.store_url)
    digests = {name: find_outcome(store, name).digest for name in ("n1", "n2")}
    paths = {n: folder / "scans" / f"{n}.image.nii.gz" for n in ("n1", "n2")}
    paths["all"] = folder / "scans"
    hidden = set()
    try:
        for event in (*sequence, "run"):
            if event == "run":
                try:
                    run(job)
                except SourceUnreachableError:
                    assert "all" in hidden or {"n1", "n2"} <= hidden
                found = {name: find_outcome(store, name) for name in digests}
                assert {n: (o.state, o.digest) for n, o in found.items()} == {
                    n: ("done", digest) for n, digest in digests.items()
                }
            elif event in hidden:
                if event == "all" or "all" not in hidden:
                    show(paths[event])
                    hidden.discard(event)
            elif "all" not in hidden:
                hide(paths[event])
                hidden.add(event)
    finally:
        for event in sorted(hidden):
            show(paths[event])
    run(job)
    assert all(find_outcome(store, name).note == "" for name in digests)

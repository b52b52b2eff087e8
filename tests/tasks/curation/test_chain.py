from dataclasses import replace

import numpy as np
import pytest

import tasks.curation.context
import tasks.curation.write
from flows.curate import curate_nodule
from matting import METHODS
from matting.targets import TARGETS
from storage.cases.case import read_case
from storage.cases.outcomes import find_outcome
from storage.errors import UnavailableError, WriteError
from storage.sources.registry import SourceSpec
from tasks.curation.context import nodule_context
from tasks.curation.inventory import take_inventory
from tasks.curation.preprocess import read_scan
from tests.phantoms import ball_patch, write_table


def nodules(job):
    return {nodule.id: nodule for nodule in take_inventory(job, None).nodules}


def test_a_nodule_goes_the_whole_way(job, store):
    outcome = curate_nodule(nodules(job)["n1"], job)
    assert (outcome.state, outcome.stage, outcome.reason) == ("done", "write", "")
    assert outcome.computed
    assert list(outcome.seconds) == [
        "scan",
        "crop",
        "resample",
        "trimap",
        "solve",
        "judge",
        "write",
    ]
    assert find_outcome(store, "n1") == outcome
    case = read_case(store, "n1", outcome.digest)
    assert case.methods == METHODS
    assert case.grid.spacing_mm == (0.5, 0.5, 0.5)
    labels = case.array("labels/trimap/0")
    assert (labels == 128).sum() == outcome.unknown_voxels == case.facts.trimap.unknown_voxels
    for name in METHODS:
        alpha = case.alpha(name)
        assert case.facts.reports[name].converged
        assert alpha.min() >= 0
        assert alpha.max() <= 1
        assert (alpha[labels == 0] == 0).all()
        if not name.endswith("+"):
            assert (alpha[labels == 255] == 1).all()
    assert set(case.facts.scores.ranking_for("opacity")) == set(METHODS[:4])
    assert set(case.facts.scores.ranking_for("density")) == set(METHODS[4:])
    assert case.facts.form == outcome.form == "paper"
    assert outcome.stored_bytes > 1000


def test_the_matte_lies_where_the_lesion_lies(job, store):
    outcome = curate_nodule(nodules(job)["n1"], job)
    case, patch = read_case(store, "n1", outcome.digest), ball_patch()
    truth = patch.grid.to_patient((np.array(patch.grid.shape) - 1) / 2)
    alpha = case.alpha("cf")
    centroid = (np.argwhere(alpha > 0).T * alpha[alpha > 0]).sum(axis=1) / alpha.sum()
    assert np.abs(case.grid.to_patient(centroid) - truth).max() < 0.5


def test_a_second_time_nothing_is_computed(job, store):
    nodule = nodules(job)["n1"]
    first = curate_nodule(nodule, job)
    bytes_before = {key: store.get(key) for key in store.list_prefix("cases")}
    second = curate_nodule(nodule, job)
    assert (second.state, second.computed, second.digest) == ("done", False, first.digest)
    assert (second.seconds, second.stored_bytes) == (first.seconds, first.stored_bytes)
    assert {key: store.get(key) for key in store.list_prefix("cases")} == bytes_before


def test_order_does_not_matter(job, tmp_path):
    from storage.store import open_store

    contents = []
    for name, sequence in (("forth", ["n1", "n2"]), ("back", ["n2", "n1"])):
        there = open_store(str(tmp_path / name), create=True)
        for key in sequence:
            curate_nodule(nodules(job)[key], replace(job, store_url=there.url))
        contents.append({key: there.get(key) for key in there.list_prefix("cases")})
    assert contents[0] == contents[1]
    assert len(contents[0]) > 40


def test_an_unfit_nodule_is_refused_alone(job, store, table):
    bad = ball_patch()
    bad.readers[1] = np.roll(bad.readers[0], 12, axis=1)
    write_table(table.parent, {"n1": bad, "n2": ball_patch()})
    found = nodules(job)
    refused, done = (curate_nodule(found[name], job) for name in ("n1", "n2"))
    assert (refused.state, refused.stage) == ("refused", "trimap")
    assert "share no voxel: got an empty intersection" in refused.reason
    assert find_outcome(store, "n1") == refused
    assert done.state == "done"
    assert not any(key.startswith("cases/n1") for key in store.list_prefix("cases"))


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (UnavailableError("503"), True),
        (WriteError("full"), False),
        (MemoryError("much"), False),
        (TimeoutError("slow"), True),
    ],
)
def test_a_failure_is_recorded_with_whether_it_may_pass(job, store, monkeypatch, error, transient):
    def failing(*_):
        raise error

    monkeypatch.setattr(tasks.curation.write, "write_case", failing)
    outcome = curate_nodule(nodules(job)["n1"], job)
    assert (outcome.state, outcome.stage, outcome.transient) == ("failed", "write", transient)
    assert type(error).__name__ in outcome.reason
    assert find_outcome(store, "n1") == outcome


def test_a_source_that_disappears_is_a_failure_that_the_store_does_not_hear_of(job, store):
    nodule = nodules(job)["n1"]
    outcome = curate_nodule(nodule, replace(job, source=SourceSpec("files", "nowhere.csv")))
    assert (outcome.state, outcome.stage) == ("failed", "scan")
    assert "nowhere.csv" in outcome.reason
    assert find_outcome(store, "n1") is None


def test_a_store_that_takes_no_outcome_costs_no_crash(job, monkeypatch):
    def failing(*_):
        raise WriteError("disk full")

    monkeypatch.setattr(tasks.curation.context, "write_outcome", failing)
    outcome = curate_nodule(nodules(job)["n1"], job)
    assert (outcome.state, outcome.transient) == ("failed", False)
    assert "disk full" in outcome.reason


def test_known_alpha_gives_errors_against_it(job, table, store):
    import SimpleITK as sitk

    from storage.sources.table import FilesSource

    patch = ball_patch()
    image = sitk.GetImageFromArray(patch.known_alpha)
    image.SetSpacing(patch.grid.spacing_mm[::-1])
    image.SetOrigin(patch.grid.origin_lps_mm)
    sitk.WriteImage(image, str(table.parent / "truth.nii.gz"))
    lines = table.read_text().splitlines()
    table.write_text(f"{lines[0]},known_alpha\n{lines[1]},truth.nii.gz\n")
    outcome = curate_nodule(FilesSource(table).inventory(readers=4).nodules[0], job)
    assert outcome.synthetic
    case = read_case(store, "n1", outcome.digest)
    assert case.facts.synthetic
    assert set(case.facts.errors) == {*METHODS, "readers_mean", "best_reader", "hu_linear"}
    known, region = case.array("known_alpha"), case.array("labels/trimap/0") == 128
    expected = np.abs(case.alpha("lb") - known)[region].mean()
    assert case.facts.errors["lb"] == pytest.approx(expected, abs=1e-4)
    one_reader = min(np.abs(mask - known)[region].mean() for mask in case.array("labels/readers/0"))
    assert case.facts.errors["best_reader"] == pytest.approx(one_reader, abs=1e-4)


def test_what_does_not_converge_is_not_stored_as_a_matte(hurried, store):
    outcome = curate_nodule(nodules(hurried)["n1"], hurried)
    case = read_case(store, "n1", outcome.digest)
    converged = {name: report.converged for name, report in case.facts.reports.items()}
    assert set(converged.values()) == {True, False}
    for name, usable in converged.items():
        assert np.isfinite(case.alpha(name)).all() == usable
    ranked = {name for target in TARGETS for name in case.facts.scores.ranking_for(target)}
    assert ranked == {name for name, usable in converged.items() if usable}


def test_no_matte_at_all_is_a_refusal(job):
    from storage.recipe import Recipe

    hopeless = Recipe.model_validate(
        {"crop": {"in_plane_voxels": 24}, "solver": {"max_iterations": 1, "tolerance": 1e-12}}
    )
    outcome = curate_nodule(nodules(job)["n1"], replace(job, recipe=hopeless))
    assert (outcome.state, outcome.stage) == ("refused", "solve")
    assert "no method converged: got cf: The solver used up its iterations" in outcome.reason


def test_values_that_are_not_hu_are_refused_unless_they_are_known(table, job):
    shifted = {"n1": replace(ball_patch(), image_hu=ball_patch().image_hu + 1024)}
    write_table(table.parent, shifted)
    key = nodules(job)["n1"]
    with nodule_context(key, job) as context:
        read_scan(context)
    assert (context.outcome.state, context.outcome.stage) == ("refused", "scan")
    assert "the CT is not in HU" in context.outcome.reason
    assert "hu_check: false" in context.outcome.reason
    known = replace(job, recipe=job.recipe.model_copy(update={"hu_check": False}))
    with nodule_context(key, known) as accepted:
        assert read_scan(accepted).image_hu.max() > 900
    assert accepted.digest != context.digest

"""Fixtures of a small curated store, for tests of tasks and of what reads a store."""

from dataclasses import replace

import pytest

from flows.curate import curate_nodule
from storage.cases.case import read_case
from storage.recipe import Recipe
from storage.sources.registry import SourceSpec
from tasks.curation.context import CurationJob
from tasks.curation.inventory import take_inventory
from tests.phantoms import ball_patch, write_table


@pytest.fixture
def table(tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    return write_table(folder, {"n1": ball_patch(), "n2": ball_patch(seed=3)})


@pytest.fixture
def curated(job):
    """The job, carried out."""
    for nodule in take_inventory(job, None).nodules:
        curate_nodule(nodule, job)
    return job


@pytest.fixture
def job(table, store):
    return CurationJob(
        SourceSpec("files", str(table)),
        store.url,
        Recipe.model_validate({"crop": {"in_plane_voxels": 24}}),
    )


@pytest.fixture
def hurried(job, store):
    """A job that allows the solver too few iterations for some methods and enough for others."""
    outcome = curate_nodule(take_inventory(job, None).nodules[0], job)
    reports = read_case(store, "n1", outcome.digest).facts.reports.values()
    enough_for_some = sorted(report.iterations for report in reports)[3]
    solver = {"max_iterations": enough_for_some}
    return replace(
        job, recipe=Recipe.model_validate({"crop": {"in_plane_voxels": 24}, "solver": solver})
    )

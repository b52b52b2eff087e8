"""Fixtures of a small curated store, for tests of tasks and of what reads a store."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from flows.curate import curate_nodule
from storage.cases.case import read_case
from storage.recipe import Recipe
from storage.sources.registry import SourceSpec
from storage.store import open_store
from tasks.curation.context import CurationJob
from tasks.curation.inventory import take_inventory
from tests.phantoms import ball_patch, write_table

RECIPE = Recipe.model_validate({"crop": {"in_plane_voxels": 24}})


def write_scans(folder):
    folder.mkdir()
    return write_table(folder, {"n1": ball_patch(), "n2": ball_patch(seed=3)})


def carry_out(job):
    for nodule in take_inventory(job, None).nodules:
        curate_nodule(nodule, job)
    return job


@pytest.fixture
def table(tmp_path):
    return write_scans(tmp_path / "scans")


@pytest.fixture(scope="session")
def carried_out(tmp_path_factory):
    """A job that was carried out once for all tests: they change neither scans nor store."""
    folder = tmp_path_factory.mktemp("carried-out")
    source = SourceSpec("files", str(write_scans(folder / "scans")))
    store = open_store(str(folder / "store"), create=True)
    return carry_out(CurationJob(source, store.url, RECIPE))


@pytest.fixture
def curated(carried_out, store):
    """A job that was carried out in the test's own store, on scans that it must not change."""
    shutil.copytree(Path(carried_out.store_url), store.url, dirs_exist_ok=True)
    return replace(carried_out, store_url=store.url)


@pytest.fixture
def job(table, store):
    return CurationJob(SourceSpec("files", str(table)), store.url, RECIPE)


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

import os
from pathlib import Path

import pytest

from storage.store import open_store
from tests.faults.disk_faults import build_library
from tests.faults.harness import AnyReport, Scene, keep
from tests.faults.services import DaskCluster, PrefectServer
from tests.phantoms import ball_patch, write_table
from tests.s3 import moto_server

NODULES = 8
RECIPE = "name: test\ncrop: {in_plane_voxels: 24}\nrun: {retry_delay_s: 0.5, nodules_per_task: 3}\n"
REPORTS = "HALOSIGN_FAULT_REPORTS"
"""Environment variable that names a JSON file to keep the reports in."""


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Eight small nodules, and what becomes of them when nothing happens."""
    from flows.curate import curate_nodule
    from storage.recipe import load_recipe
    from storage.sources.registry import SourceSpec
    from tasks.curation.context import CurationJob
    from tasks.curation.inventory import take_inventory

    folder = tmp_path_factory.mktemp("faults")
    table = write_table(folder, {f"n{n}": ball_patch(seed=n) for n in range(1, NODULES + 1)})
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE)
    store = open_store(str(folder / "undisturbed"), create=True)
    job = CurationJob(SourceSpec("files", str(table)), store.url, load_recipe(recipe))
    for nodule in take_inventory(job, None).nodules:
        assert curate_nodule(nodule, job).state == "done"
    undisturbed = {key: store.get(key) for key in store.list_prefix("cases")}
    home = folder / "home"
    environment = {
        "HOME": str(home),
        "PREFECT_HOME": str(home / ".prefect"),
        "HALOSIGN_CACHE": str(home / "cache"),
    }
    return Scene(table, recipe, NODULES, undisturbed, environment)


@pytest.fixture(scope="session")
def prefect(tmp_path_factory: pytest.TempPathFactory):
    with PrefectServer(tmp_path_factory.mktemp("prefect")) as server:
        yield server


@pytest.fixture(scope="session")
def dask():
    """A cluster that stands, whose workers come back."""
    with DaskCluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def s3_port():
    with moto_server() as port:
        yield port


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What strikes the system calls of commands, compiled."""
    try:
        return build_library(tmp_path_factory.mktemp("library"))
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture
def reports():
    """Collects a test's report, and keeps it where somebody asks for the file."""
    collected: list[AnyReport] = []
    yield collected
    path = os.environ.get(REPORTS)
    if path and collected:
        keep(collected, Path(path))

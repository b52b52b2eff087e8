import os
from pathlib import Path

import pytest

from tests.faults.disk_faults import build_library
from tests.faults.harness import AnyReport, Scene, keep, make_scene
from tests.faults.services import DaskCluster, PrefectServer
from tests.s3 import moto_server

NODULES = 8
REPORTS = "HALOSIGN_FAULT_REPORTS"
"""Environment variable that names a JSON file to keep the reports in."""


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("faults"), NODULES)


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

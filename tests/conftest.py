"""Fixtures of all tests: a cache, a store, the optional real scans; how xdist shares tests."""

import logging
import os
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from storage.sources.cache import CACHE_VARIABLE
from storage.store import Store, open_store

FOLDERS_OF_ONE_WORKER = ("flows", "faults")
"""Folders whose tests share expensive session fixtures: a Prefect server, a Dask cluster."""


class FileScheduling(LoadScopeScheduling):
    """Keeps the tests of a file, or of a folder with shared servers, on one worker."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0].removeprefix("tests/")
        folder = path.partition("/")[0]
        return folder if folder in FOLDERS_OF_ONE_WORKER else path


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> FileScheduling:
    """Distribute by file; marks for `--dist loadgroup` get lost with pytest 9.2 and xdist 3.8."""
    return FileScheduling(config, log)


@pytest.fixture(scope="session")
def real_data() -> Path:
    folder = os.environ.get("HALOSIGN_REAL_DATA")
    if not folder:
        pytest.skip("HALOSIGN_REAL_DATA names no folder with lidc_dicom/, nodules/ and nodules.csv")
    return Path(folder)


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def cache(shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the tests out of the user's cache; its keys contain path, size and time of a file."""
    monkeypatch.setenv(CACHE_VARIABLE, str(shared_cache))
    return shared_cache


@pytest.fixture(autouse=True)
def log_settings() -> None:
    """Undo what a command in this process changed, maybe in a fixture: its log may be JSON."""
    logger = logging.getLogger("halosign")
    logger.handlers.clear()
    logger.setLevel(logging.NOTSET)
    logger.propagate = True
    logger.disabled = False


@pytest.fixture
def caplog(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Capture warnings while the tests' Dask cluster runs.

    pytest attaches its handlers to loggers that do not propagate, as Dask's is, and `silence_logs`
    of a Dask cluster raises the level of all handlers there to ERROR until the cluster is closed.
    """
    caplog.set_level(logging.WARNING, logger="halosign")
    return caplog


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"), create=True)

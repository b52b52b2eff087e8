"""Fixtures of all tests: a cache, a store, the optional real scans; how xdist shares tests."""

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from storage.sources.cache import CACHE_VARIABLE
from storage.store import Store, open_store

CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

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


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A browser; the tests that need one are skipped where there is none."""
    path = next(
        (
            found
            for name in ("chromium", "chromium-browser", "google-chrome")
            if (found := shutil.which(name))
        ),
        "",
    )
    if not path:
        pytest.skip("no Chromium on this machine: install Debian's package `chromium`")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, headless=True, args=CHROMIUM_FLAGS
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def axe_faults() -> Callable[[Any], list[Any]]:
    """Return what axe complains of on a page of the browser: rule, impact, elements."""
    package = pytest.importorskip("axe_playwright_python")
    script = next(Path(package.__file__).parent.rglob("axe.min.js")).read_text()

    def look_at(page: Any) -> list[Any]:
        found = page.evaluate(f"async () => {{ {script}; return (await axe.run()).violations; }}")
        return [(one["id"], one["impact"], [n["html"] for n in one["nodes"]]) for one in found]

    return look_at

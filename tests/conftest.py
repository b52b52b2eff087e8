"""What all tests share: a cache of their own, a store, the optional real scans."""

import os
from pathlib import Path

import pytest

from storage.sources.cache import CACHE_VARIABLE
from storage.store import Store, open_store


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
    """Keep the tests out of the user's cache; one for all, since files are told apart by path, size and time."""
    monkeypatch.setenv(CACHE_VARIABLE, str(shared_cache))
    return shared_cache


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"), create=True)

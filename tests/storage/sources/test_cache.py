"""The user's cache folder: lost facts cost time, wrong ones are not believed."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from storage.sources.cache import cache_folder, cache_get, cache_set
from storage.sources.dicom_series import find_series
from tests.dicom import write_series


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HALOSIGN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_what_is_remembered_is_recalled_by_kind_and_key(folder: Path) -> None:
    cache_set("headers", "a", {"slices": [1, 2]})
    cache_set("clusters", "a", [3])
    assert cache_get("headers", "a") == {"slices": [1, 2]}
    assert cache_get("clusters", "a") == [3]
    assert cache_get("headers", "b") is None
    assert folder.is_dir()


def test_a_file_under_another_keys_name_is_not_believed(folder: Path) -> None:
    cache_set("headers", "a", 1)
    (file,) = folder.rglob("*.json")
    content = file.read_bytes()
    cache_set("headers", "b", 2)
    (other,) = set(folder.rglob("*.json")) - {file}
    other.write_bytes(content)
    assert cache_get("headers", "b") is None


def test_a_full_disk_leaves_the_former_file_and_no_rest(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache_set("headers", "a", 1)

    def full(_: Any, stream: Any, **__: Any) -> None:
        stream.write('{"key": "a", "fa')
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(json, "dump", full)
    cache_set("headers", "a", 2)
    assert cache_get("headers", "a") == 1
    assert [path.suffix for path in folder.rglob("*") if path.is_file()] == [".json"]


def test_the_folder_is_the_named_one_else_the_users(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    monkeypatch.setenv("HALOSIGN_CACHE", "/named")
    assert cache_folder() == Path("/named")
    monkeypatch.delenv("HALOSIGN_CACHE")
    assert cache_folder() == Path("/elsewhere/halosign")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == tmp_path / ".cache" / "halosign"


def test_the_cache_holds_no_path(folder, tmp_path):
    write_series(tmp_path / "DOE^JANE" / "CT", (0.0, 1.0))
    (tmp_path / "DOE^JANE" / "CT" / "notes-of-jane.txt").write_text("no slice")
    found = find_series([tmp_path / "DOE^JANE" / "CT"])
    assert find_series([tmp_path / "DOE^JANE" / "CT"]) == found
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert not re.search(b"doe|jane", path.read_bytes(), re.IGNORECASE)

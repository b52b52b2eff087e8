"""A folder's writes are on the disk when they return, or leave nothing."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from storage.errors import AlreadyExistsError, UnavailableError, WriteError
from storage.folder import Folder
from storage.store import open_store


def files(store):
    return sorted(path for path in Path(store.url).rglob("*") if path.is_file())


@pytest.fixture
def synced(monkeypatch):
    """Paths that were synced, in order."""
    found = []
    fsync = os.fsync

    def spy(handle):
        found.append(Path(os.readlink(f"/proc/self/fd/{handle}")))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", spy)
    return found


def test_a_write_syncs_the_file_then_its_folder_and_those_above_once(store, synced):
    root = Path(store.url)
    store.put("a/b/c.json", b"one")
    assert synced[0].name.startswith("c.json#")
    assert sorted(synced[1:]) == [root, root / "a", root / "a" / "b"]
    synced.clear()
    store.create("a/b/d.json", b"two")
    assert [path.name.partition("#")[0] for path in synced] == ["d.json", "b"]
    synced.clear()
    store.delete(["a/b/c.json", "a/b/none.json", "none/none.json"])
    assert synced == [root / "a" / "b"]
    assert files(store) == [root / "a" / "b" / "d.json", root / "store.json"]


def test_a_folder_that_was_removed_is_synced_again(store, synced):
    root = Path(store.url)
    store.put("a/b", b"one")
    shutil.rmtree(root / "a")
    synced.clear()
    store.put("a/b", b"two")
    assert root in synced


@pytest.mark.parametrize("failing", ["write", "sync_files", "rename", "link", "sync_folders"])
@pytest.mark.parametrize(
    ("number", "kind"), [(errno.EIO, UnavailableError), (errno.ENOSPC, WriteError)]
)
def test_a_write_that_fails_leaves_the_old_bytes_or_the_new(
    store, monkeypatch, failing, number, kind
):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    store.put("a/old", b"old")
    monkeypatch.setattr(f"storage.folder.Disk.{failing}", fail)
    monkeypatch.setattr("storage.store.RETRY_S", 0.0)
    for write in (store.put, store.create):
        key = "a/old" if write == store.put else "a/new"
        if failing != {store.put: "link", store.create: "rename"}[write]:
            with pytest.raises(kind, match=os.strerror(number)):
                write(key, b"new")
    monkeypatch.undo()
    assert store.get("a/old") in (b"old", b"new")
    assert not [path for path in files(store) if "#" in path.name]


def test_a_file_system_that_syncs_no_folders_is_written_to(store, monkeypatch):
    fsync = os.fsync

    def refuse_folders(handle):
        if Path(f"/proc/self/fd/{handle}").is_dir():
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", refuse_folders)
    store.put("a/b", b"one")
    assert store.get("a/b") == b"one"


def test_a_store_that_is_unmounted_is_not_made_again_below(store):
    away = shutil.move(store.url, f"{store.url}-away")
    with pytest.raises(UnavailableError, match="cannot be reached: No such file or directory"):
        store.put("outcomes/P-1.json", b"{}")
    assert not Path(store.url).exists()
    shutil.move(away, store.url)
    store.put("outcomes/P-1.json", b"{}")


@pytest.mark.parametrize("key", ["", "..", "a/../b", "/a", "a//b", "./a"])
def test_a_key_stays_within_the_folder(tmp_path, key):
    with pytest.raises(OSError, match="not a key of this store"):
        Folder(tmp_path).write({key: b"."})
    assert list(tmp_path.iterdir()) == []


def test_of_two_who_create_a_key_one_is_refused(store):
    store.create("claim", b"first")
    with pytest.raises(AlreadyExistsError):
        open_store(store.url).create("claim", b"second")
    assert [path.name for path in files(store)] == ["claim", "store.json"]

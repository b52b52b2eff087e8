import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from matting.errors import InputError
from storage.errors import (
    AlreadyExistsError,
    NotFoundError,
    UnavailableError,
    WriteError,
)
from storage.records import canonical_json
from storage.store import open_folder, open_store, store_exists


@pytest.fixture
def without_rights():
    """Drop root's rights for a while: root may write anywhere."""
    if os.geteuid() == 0:
        os.seteuid(65534)
        yield
        os.seteuid(0)
    else:
        yield


def test_what_is_put_is_got(store):
    store.put("a/b.json", b"one")
    store.put("a/b.json", b"two")
    assert store.get("a/b.json") == b"two"
    assert store.size("a/b.json") == 3
    assert store.size("a/none") is None


@pytest.mark.parametrize("url", ["", " "])
def test_an_empty_address_is_not_the_working_directory(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="an address is empty"):
        open_store(url, create=True)
    assert not list(tmp_path.iterdir())


def test_create_is_once(store):
    store.create("claim", b"first")
    with pytest.raises(AlreadyExistsError, match="claim exists already and is written only once"):
        store.create("claim", b"second")
    store.create("claim", b"first")  # as a retry does whose first answer was lost
    assert store.get("claim") == b"first"


def test_keys_and_children_are_sorted(store):
    for key in ("x/b/1", "x/a/2", "x/c"):
        store.put(key, b".")
    assert list(store.list_prefix("x")) == ["x/a/2", "x/b/1", "x/c"]
    assert store.list_dir("x") == (["a", "b"], ["c"])
    assert store.list_dir("nothing") == ([], [])


def test_delete_removes_and_forgives(store):
    store.put("x", b".")
    store.delete(["x", "never-there"])
    with pytest.raises(NotFoundError, match="x does not exist"):
        store.get("x")


def test_a_folder_without_marker_is_no_store(tmp_path):
    with pytest.raises(
        InputError,
        match=r"there is no store here: got .*expected a folder or bucket with a store\.json",
    ):
        open_store(str(tmp_path))
    assert not store_exists(str(tmp_path))
    assert not store_exists(str(tmp_path / "nowhere"))
    assert not (tmp_path / "nowhere").exists()
    open_store(str(tmp_path), create=True)
    assert store_exists(str(tmp_path))


def test_a_newer_layout_is_refused(store):
    store.put("store.json", canonical_json({"layout": 99}))
    with pytest.raises(InputError, match=r"another layout: got 99, expected 1"):
        open_store(store.url)


def test_a_file_url_is_the_same_store(store):
    store.put("x", b".")
    assert open_store(Path(store.url).as_uri()).get("x") == b"."


def test_a_read_only_folder_is_unwritable(without_rights):
    folder = Path("/")
    with pytest.raises(
        WriteError, match=r"cannot be written: .*Permission denied.*give write permission"
    ):
        open_store(str(folder / "halosign-test-store"), create=True)


def test_a_store_that_became_read_only_is_unwritable():
    folder = Path(tempfile.mkdtemp())
    store = open_store(str(folder), create=True)
    store.put("kept", b".")
    folder.chmod(0o755)
    if os.geteuid() == 0:
        os.seteuid(65534)
    else:
        folder.chmod(0o555)
    try:
        with pytest.raises(WriteError, match="Permission denied"):
            store.put("x", b".")
        assert store.get("kept") == b"."
    finally:
        if os.getuid() == 0:
            os.seteuid(0)
        folder.chmod(0o755)


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 200 kB; only root may mount one."""
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", tmp_path], capture_output=True
    )
    if made.returncode != 0:
        pytest.skip(f"cannot mount a small file system: {made.stderr.decode().strip()}")
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


def test_a_full_disk_is_unwritable_and_leaves_no_half_key(tiny_disk):
    store = open_store(str(tiny_disk), create=True)
    store.put("before", b"kept")
    with pytest.raises(WriteError, match=r"No space left on device.*Make room"):
        store.put("big", bytes(300_000))
    assert store.size("big") is None
    assert store.get("before") == b"kept"


def test_a_bucket_that_does_not_answer_is_unavailable(monkeypatch):
    for name, value in {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ALLOW_HTTP": "true",
        "AWS_SKIP_SIGNATURE": "true",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("storage.store.RETRIES", {"max_retries": 1})
    monkeypatch.setattr("storage.store.RETRY_S", 1.0)
    with pytest.raises(
        UnavailableError, match=r"s3://bucket/set/store\.json cannot be reached.*Try again"
    ):
        open_store("s3://bucket/set", create=True)


def test_canonical_json_knows_no_order():
    assert (
        canonical_json({"b": 1, "a": [1.5, None]})
        == canonical_json({"a": [1.5, None], "b": 1})
        == b'{"a":[1.5,null],"b":1}'
    )


@pytest.mark.parametrize("url", ["ftp://host/set", "hf://datasets/x", "abfs://x@y/z", "s4://b/x"])
@pytest.mark.parametrize("opening", [open_store, open_folder])
def test_an_address_of_no_known_kind_is_refused_in_words(url, opening):
    with pytest.raises(
        InputError, match=r"cannot be used: got .*://.*, expected a folder, or a URL"
    ):
        opening(url)


def test_no_store_is_created_on_a_web_server():
    with pytest.raises(InputError, match="a web server is only read from"):
        open_store("https://127.0.0.1:9/set", create=True)

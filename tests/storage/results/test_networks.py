"""Published networks: written once, found by name, never half."""

import hashlib
import re
from dataclasses import replace

import pytest

from matting.errors import InputError
from storage.errors import CorruptionError
from storage.records import FileList, encode, read_record
from storage.results.networks import (
    METADATA,
    check_free,
    check_network_name,
    find_network,
    is_published,
    list_networks,
    locate_network,
    write_network,
)
from storage.store import Store
from tests.cases import checkpoint_config

CONFIG = checkpoint_config(digest="d" * 64, weights_sha256="a" * 64)
FILES = {
    "README.md": b"# small\n",
    "weights.safetensors": b"weights",
    METADATA: b'{"license": "CC-BY-4.0"}',
    "config.json": encode(CONFIG),
}


class Killed(Exception):
    """Raised in place of a kill."""


class KilledStore(Store):
    """Dies after some files."""

    left = 0

    def create(self, key: str, data: bytes) -> None:
        if self.left == 0:
            raise Killed
        self.left -= 1
        super().create(key, data)


def test_a_network_is_written_once_with_a_list_of_its_files(store):
    assert find_network(store, "small-1") is None
    assert not is_published(store, "small-1", "d" * 64, "CC-BY-4.0")
    assert write_network(store, "small-1", FILES) == f"{store.url}/networks/small-1"
    assert find_network(store, "small-1") == CONFIG
    assert is_published(store, "small-1", "d" * 64, "CC-BY-4.0")
    listed = read_record(store, "networks/small-1/files.json", FileList).files
    assert {name: entry.sha256 for name, entry in listed.items()} == {
        name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()
    }
    before = {key: store.etag(key) for key in store.list_prefix("networks")}
    write_network(store, "small-1", FILES)
    assert {key: store.etag(key) for key in store.list_prefix("networks")} == before


@pytest.mark.parametrize("files", range(len(FILES) + 1))
def test_a_kill_leaves_no_network_and_the_same_command_finishes_it(files, store):
    killed = KilledStore(store.url, store.objects, store._folder)
    killed.left = files
    with pytest.raises(Killed):
        write_network(killed, "small-1", FILES)
    assert find_network(store, "small-1") is None
    assert list_networks(store) == []
    with pytest.raises(InputError, match=r"no such network: got small-1; .* has none"):
        locate_network("small-1", store.url)
    write_network(store, "small-1", FILES)
    assert list_networks(store) == ["small-1"]
    assert {k.removeprefix("networks/small-1/") for k in store.list_prefix("networks")} == {
        *FILES,
        "files.json",
    }


def test_a_name_is_of_one_network_and_one_license(store):
    write_network(store, "small-1", FILES)
    with pytest.raises(
        InputError, match=r"name small-1 is taken: got network eeee.*expected.*dddd"
    ):
        is_published(store, "small-1", "e" * 64, "CC-BY-4.0")
    with pytest.raises(InputError, match=r"got license none, expected license CC-BY-4\.0"):
        is_published(store, "small-1", "d" * 64, "")
    other = {**FILES, "config.json": encode(replace(CONFIG, digest="e" * 64))}
    with pytest.raises(InputError, match=r"holds other files: got networks/small-1/files\.json"):
        write_network(store, "small-1", other)
    assert find_network(store, "small-1") == CONFIG
    store.put(f"networks/small-1/{METADATA}", b"[]")
    with pytest.raises(CorruptionError, match=r"networks/small-1/configs/metadata\.json"):
        is_published(store, "small-1", "d" * 64, "CC-BY-4.0")


def test_the_name_of_another_training_is_refused_before_one_trains(store):
    check_free(store, "small-1", {"variant": "3dmm"})
    write_network(store, "small-1", FILES)
    check_free(store, "small-1", CONFIG.content_key)
    with pytest.raises(InputError, match=r"is taken: .* 3dmm-mg dddddddddddd.*Publish under"):
        check_free(store, "small-1", {"variant": "3dmm"})


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "-a", "a b", "a#1", "ä"])
def test_a_name_that_is_no_folder_is_refused(name):
    with pytest.raises(InputError, match=re.escape(f"got {name!r}")):
        check_network_name(name)


def test_a_name_is_looked_up_in_the_store_before_the_folder(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("small-1", "other"):
        (tmp_path / folder).mkdir()
    assert locate_network("small-1", store.url) == "small-1"
    write_network(store, "small-1", FILES)
    assert locate_network("small-1", store.url) == f"{store.url}/networks/small-1"
    for place, url in (
        ("./small-1", store.url),
        ("small-1", None),
        ("other", store.url),
        ("model.onnx", store.url),
        ("https://example.org/small-1", None),
    ):
        assert locate_network(place, url) == place
    with pytest.raises(InputError, match=r"got small-2; .* has small-1, expected the name"):
        locate_network("small-2", store.url)
    with pytest.raises(InputError, match=r"got small-2; no --store was given"):
        locate_network("small-2", None)

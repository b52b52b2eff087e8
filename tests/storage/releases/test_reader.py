"""A release opened for reading: its manifest is read once, and damage is named."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flows.export import export
from matting.errors import InputError
from storage.cases.case import read_case_files, write_case
from storage.errors import CorruptionError
from storage.layout import manifest_key
from storage.recipe import Recipe
from storage.records import Member
from storage.releases.reader import ReleaseReader, check_shape
from storage.releases.release import Draft, Release, open_release, publish_release, withdraw_release
from storage.store import Store
from tests.cases import new_case

DIGEST = "d" * 64


@pytest.fixture
def release(store):
    write_case(store, new_case(patient="P", recipe={"readers": 4}))
    member = Member("P-1", "P", DIGEST, "lb", "ann", False, "train", False)
    files = read_case_files(store, "P-1", DIGEST)
    draft = Draft((member,), (), files, {}, Recipe().model_dump(mode="json"))
    return publish_release(store, "0.1.0", draft, publisher="ann")


@pytest.fixture
def reads(monkeypatch):
    """Keys that are read."""
    keys = []
    get = Store.get

    def counting(store, key):
        keys.append(key)
        return get(store, key)

    monkeypatch.setattr(Store, "get", counting)
    return keys


def test_a_process_reads_the_manifest_once(release, reads):
    url = release.store.url
    for partition in range(4):
        ReleaseReader(open_release(url, "0.1.0"), partition).read("P-1", "alpha")
        pickle.loads(pickle.dumps(Release.open(release.store, "0.1.0"))).splits()
    assert reads.count(manifest_key("0.1.0")) == 1


def test_a_manifest_that_was_changed_is_read_again(release, reads):
    key = manifest_key("0.1.0")
    assert open_release(release.store.url, "0.1.0").members
    release.store.put(key, b'{"version": 1}')
    with pytest.raises(CorruptionError, match=r"manifest\.json is not the manifest of a release"):
        open_release(release.store.url, "0.1.0")


def test_an_opened_release_is_pickled_as_its_address(release):
    data = pickle.dumps(release)
    assert len(data) < 200
    again = pickle.loads(data)
    assert again.manifest == release.manifest
    assert again.manifest_sha256 == release.manifest_sha256


def test_partitions_divide_patients_again_and_partition_0_is_the_releases_own(release):
    assert release.splits() == release.splits(0) == {"P-1": "train"}
    assert {release.splits(n)["P-1"] for n in range(1, 40)} == {"train", "validation", "test"}


def test_a_withdrawn_release_is_opened_only_on_request(release):
    url = release.store.url
    withdraw_release(release.store, "0.1.0", "mislabelled", by="ann")
    with pytest.raises(InputError, match="withdrawn release is not read"):
        open_release(url, "0.1.0")
    assert open_release(url, "0.1.0", allow_withdrawn=True).version == "0.1.0"


def test_facts_are_typed_and_damaged_ones_are_named(release):
    reader = ReleaseReader(release)
    assert (reader.facts("P-1").patient, reader.facts("P-1").recipe) == ("P", {"readers": 4})
    assert reader.grid("P-1").shape == reader.shape("P-1")
    key = f"cases/P-1/{DIGEST}/zarr.json"
    for bad in (b"[]", b"null", b"{}", b"{", b"[" * 100_000, b'{"zarr_format": 3}'):
        release.store.put(key, bad)
        with pytest.raises(CorruptionError) as caught:
            ReleaseReader(release).facts("P-1")
        assert caught.value.key == key


@pytest.mark.parametrize("name", ["image", "alpha", "readers", "trimap", "known_alpha"])
@pytest.mark.parametrize("bad", [b"[]", b"{", b"{}", None])
def test_an_array_with_damaged_metadata_is_named(release, name, bad):
    path = {"readers": "labels/readers/0", "trimap": "labels/trimap/0"}.get(name, name)
    key = f"cases/P-1/{DIGEST}/{path}/zarr.json"
    if bad is None:
        release.store.delete([key])
    else:
        release.store.put(key, bad)
    with pytest.raises(CorruptionError, match=f"array {path} of nodule P-1 of release"):
        ReleaseReader(release).read("P-1", name)


def test_only_simulated_ct_has_a_known_matte(store):
    case = new_case()
    write_case(store, replace(case, patch=replace(case.patch, known_alpha=None)))
    member = Member("P-1", "P", DIGEST, "lb", "ann", False, "train", False)
    draft = Draft((member,), (), read_case_files(store, "P-1", DIGEST), {}, {})
    reader = ReleaseReader(publish_release(store, "0.1.0", draft, publisher="ann"))
    with pytest.raises(InputError, match="no such array: got known_alpha"):
        reader.read("P-1", "known_alpha")


def test_an_export_without_manifest_or_with_a_damaged_marker_is_named(release, tmp_path):
    folder = tmp_path / "export"
    export(release.store.url, "0.1.0", "zarr", folder)
    assert open_release(str(folder)).members == release.members
    (folder / "manifest.json").unlink()
    with pytest.raises(CorruptionError, match="is not a complete export"):
        open_release(str(folder))
    Path(folder, "export.json").write_text("[]")
    with pytest.raises(CorruptionError, match="is not the marker of an export"):
        open_release(str(folder))


def test_a_box_beyond_the_volume_is_cut_off(release):
    reader = ReleaseReader(release)
    depth, rows, columns = reader.shape("P-1")
    box = reader.read("P-1", "image", (depth - 1, 0, 0), (9, rows, columns))
    assert box.shape == (1, rows, columns)
    assert np.array_equal(box, reader.read("P-1", "image")[-1:])


@pytest.mark.parametrize("size", [(1, 2), (0, 1, 1), (1.5, 1, 1)])
def test_an_invalid_size_of_a_crop_is_refused(size):
    with pytest.raises(InputError, match="invalid size of a crop"):
        check_shape(size)

import json
import threading
from datetime import timedelta

import pytest

from matting.errors import InputError
from storage.cases.case import read_case_files, write_case
from storage.cases.outcomes import write_outcome
from storage.errors import StoreError
from storage.maintenance.gc import Garbage, find_garbage, remove_garbage
from storage.records import Member, Outcome
from storage.releases.index import split_table
from storage.releases.release import (
    Draft,
    Release,
    find_withdrawal,
    is_published,
    publish_release,
    read_manifests,
    withdraw_release,
)
from storage.releases.verify import verify_release
from tests.cases import new_case

DIGEST = "d" * 64


@pytest.fixture
def draft(store):
    write_case(store, new_case())
    member = Member("P-1", "P", DIGEST, "lb", "ann", False, "train", False)
    own = {"README.md": b"# card\n", "splits.csv": split_table((member,))}
    return Draft((member,), (), read_case_files(store, "P-1", DIGEST), own, {"name": "paper"})


def test_what_is_published_is_listed_read_and_verified(store, draft):
    publish_release(store, "0.2.0", draft, publisher="ann")
    publish_release(store, "0.10.0", draft, publisher="ann")
    publish_release(store, "0.10.0-rc1", draft, publisher="ann")
    assert [manifest.version for manifest in read_manifests(store)] == [
        "0.2.0",
        "0.10.0-rc1",
        "0.10.0",
    ]
    release = Release.open(store, "0.2.0")
    assert release.members["P-1"].method == "lb"
    assert release.manifest.case_files == read_case_files(store, "P-1", DIGEST)
    assert verify_release(store, "0.2.0") == []


def test_a_version_is_used_once(store, draft):
    publish_release(store, "0.1.0", draft, publisher="ann")
    before = store.get("releases/0.1.0/manifest.json")
    with pytest.raises(
        InputError,
        match=r"used only once: got 0\.1\.0, which is published.*Choose a higher version",
    ):
        publish_release(store, "0.1.0", draft, publisher="bob")
    assert store.get("releases/0.1.0/manifest.json") == before


@pytest.mark.parametrize("version", ["1", "0.1", "v0.1.0", "../0.1.0", "0.1.0/x", ""])
def test_an_invalid_version_is_refused(store, draft, version):
    with pytest.raises(InputError, match="invalid version"):
        publish_release(store, version, draft, publisher="ann")
    with pytest.raises(InputError, match="invalid version"):
        verify_release(store, version)


def test_an_unknown_version_is_refused_with_the_known_ones(store, draft):
    publish_release(store, "0.1.0", draft, publisher="ann")
    with pytest.raises(
        InputError, match=r"no such release: got 0\.9\.0, expected a published version: 0\.1\.0"
    ):
        Release.open(store, "0.9.0")


def test_a_publisher_that_died_leaves_no_release_and_uses_up_the_version(store, draft, monkeypatch):
    create = store.create

    def dying(key, data):
        if key.endswith("manifest.json"):
            raise StoreError("killed")
        create(key, data)

    monkeypatch.setattr(store, "create", dying)
    with pytest.raises(StoreError, match="killed"):
        publish_release(store, "0.1.0", draft, publisher="ann")
    monkeypatch.undo()
    assert not is_published(store, "0.1.0")
    assert read_manifests(store) == []
    with pytest.raises(InputError, match="another publisher has begun and not finished"):
        publish_release(store, "0.1.0", draft, publisher="bob")
    publish_release(store, "0.1.1", draft, publisher="bob")


def test_of_two_publishers_at_once_one_wins(store, draft):
    results = []

    def publish(name):
        try:
            publish_release(store, "0.1.0", draft, publisher=name)
            results.append("won")
        except InputError:
            results.append("told")

    threads = [threading.Thread(target=publish, args=(name,)) for name in ("ann", "bob")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["told", "won"]
    assert verify_release(store, "0.1.0") == []


def test_verify_names_every_file_with_a_flipped_byte(store, draft):
    publish_release(store, "0.1.0", draft, publisher="ann")
    release_keys = [
        f"releases/0.1.0/{name}"
        for name in ("claim.json", "manifest.json", "README.md", "splits.csv")
    ]
    for key in [*release_keys, *draft.case_files]:
        good = store.get(key)
        middle = len(good) // 2
        store.put(key, good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :])
        complaints = verify_release(store, "0.1.0")
        assert len(complaints) == 1
        assert key in complaints[0]
        store.delete([key])
        assert key in verify_release(store, "0.1.0")[0]
        store.put(key, good)
    assert verify_release(store, "0.1.0") == []


def test_garbage_is_what_neither_outcome_nor_release_needs(store, draft):
    publish_release(store, "0.1.0", draft, publisher="ann")
    write_outcome(store, Outcome("P-1", "P", "done", "write", digest="d" * 64))
    write_case(store, new_case(digest="e" * 64))
    write_case(store, new_case(digest="f" * 64))
    store.delete([f"cases/P-1/{'f' * 64}.done"])
    (half := store.url + f"/cases/P-1/{'f' * 64}/zarr.json#7")
    with open(half, "wb") as file:
        file.write(b"half")
    assert {case.digest[0] for case in find_garbage(store).young} == {"e", "f"}
    garbage = find_garbage(store, timedelta())
    assert {case.digest[0] for case in garbage.orphans} == {"e"}
    assert {case.digest[0] for case in garbage.unfinished} == {"f"}
    assert [str(path) for path in garbage.fragments] == [half]
    assert remove_garbage(store, garbage, timedelta()) == garbage
    assert find_garbage(store, timedelta()) == Garbage()
    assert verify_release(store, "0.1.0") == []


def test_the_manifest_is_plain_json_without_surprises(store, draft):
    publish_release(store, "0.1.0", draft, publisher="ann")
    manifest = json.loads(store.get("releases/0.1.0/manifest.json"))
    assert manifest.keys() == {
        "version",
        "published_at",
        "publisher",
        "stand_in",
        "recipe",
        "nodules",
        "discarded",
        "own_files",
        "case_files",
        "sha256",
    }


def test_a_withdrawn_release_keeps_its_files_its_reason_and_its_version(store, draft):
    publish_release(store, "0.1.0", draft, publisher="ann")
    assert find_withdrawal(store, "0.1.0") is None
    made = withdraw_release(store, "0.1.0", " mislabelled ", by="bob")
    assert (made.reason, made.withdrawn_by, find_withdrawal(store, "0.1.0")) == (
        "mislabelled",
        "bob",
        made,
    )
    assert verify_release(store, "0.1.0") == []
    with pytest.raises(InputError, match=r"used only once: got 0\.1\.0, which is published"):
        publish_release(store, "0.1.0", draft, publisher="ann")


def test_a_withdrawal_is_written_once(store, draft):
    publish_release(store, "0.1.0", draft, publisher="ann")
    made = withdraw_release(store, "0.1.0", "mislabelled", by="bob")
    with pytest.raises(InputError, match=r"withdrawn only once: got .* by bob: mislabelled"):
        withdraw_release(store, "0.1.0", "changed my mind", by="eve")
    assert find_withdrawal(store, "0.1.0") == made


def test_what_is_not_published_cannot_be_withdrawn(store, draft):
    publish_release(store, "0.1.0", draft, publisher="ann")
    with pytest.raises(InputError, match=r"no such release: got 0\.9\.0"):
        withdraw_release(store, "0.9.0", "mislabelled", by="bob")
    with pytest.raises(InputError, match="needs a reason"):
        withdraw_release(store, "0.1.0", "  ", by="bob")
    assert find_withdrawal(store, "0.1.0") is None

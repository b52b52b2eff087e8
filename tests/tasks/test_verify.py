import pytest

from storage.cases.outcomes import write_outcome
from storage.maintenance.quarantine import repair
from storage.maintenance.verify import list_nodules
from storage.records import Outcome
from storage.store import open_store
from tests.complaints import complaints_about


@pytest.fixture
def sound(store, curated):
    """Two nodules curated, and the digest of the first."""
    return store, next(
        key.split("/")[2].removesuffix(".done") for key in store.list_prefix("cases/n1")
    )


def test_a_sound_store_has_no_complaints(sound):
    store, _ = sound
    write_outcome(store, Outcome("n3", "P", "refused", "trimap", "empty"))
    assert list_nodules(store) == ["n1", "n2", "n3"]
    assert complaints_about(store) == []


def test_a_changed_file_is_named_with_its_remedy(sound):
    store, digest = sound
    store.put(f"cases/n1/{digest}/zarr.json", b"{}")
    (complaint,) = complaints_about(store)
    assert str(complaint).startswith(f"n1: cases/n1/{digest}/zarr.json: 2 bytes, ")
    assert "store check --repair` and run `halosign curate` again" in complaint.remedy
    assert complaint.aside == (f"cases/n1/{digest}.done", f"cases/n1/{digest}/zarr.json")


@pytest.mark.parametrize("mark", [b"{", b"{}", b'{"files":{"a":{}}}', b'{"files":{"a":3}}'])
def test_a_broken_mark_is_named(sound, mark):
    store, digest = sound
    store.put(f"cases/n1/{digest}.done", mark)
    store.put(f"cases/n1/{digest}/a", b".")
    assert [complaint.about for complaint in complaints_about(store)] == ["n1"]


def test_an_outcome_without_its_case_is_named(sound):
    store, digest = sound
    store.delete([f"cases/n1/{digest}.done"])
    (complaint,) = complaints_about(store)
    assert complaint.wrong == f"cases/n1/{digest}.done is missing, but the outcome is done"


def test_an_unreadable_outcome_is_named_and_a_missing_one_is_none(sound):
    store, _ = sound
    store.delete(["outcomes/n2.json"])
    store.put("outcomes/n1.json", b"{")
    (complaint,) = map(str, complaints_about(store))
    assert complaint.startswith(f"n1: {store.url}/outcomes/n1.json is not the outcome of a nodule")
    assert complaint.endswith("Run `halosign curate` again, which writes a new one.")


def test_following_the_remedy_mends_it(sound, job):
    from flows.curate import curate_nodule
    from tasks.curation.inventory import take_inventory

    store, digest = sound
    store.delete([f"cases/n1/{digest}/alpha/zarr.json"])
    store.put(f"cases/n1/{digest}/zarr.json", b"{}")
    whole = {key: store.get(key) for key in store.list_prefix("cases/n1")}
    folder, moved = repair(store, complaints_about(store))
    assert {key: store.get(f"{folder}/{key}") for key in whole} == whole
    assert moved == [f"cases/n1/{digest}.done", f"cases/n1/{digest}/zarr.json"]
    assert set(store.list_prefix("cases/n1")) == whole.keys() - set(moved)
    curate_nodule(take_inventory(job, None).nodules[0], job)
    assert complaints_about(open_store(store.url)) == []

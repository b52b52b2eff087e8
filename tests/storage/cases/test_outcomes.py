import os
from dataclasses import replace

from storage.cases.outcomes import UNREADABLE, find_outcome, read_outcomes, write_outcome
from storage.records import Outcome, encode
from storage.store import Store


def test_the_latest_outcome_stands(store):
    write_outcome(store, Outcome("P-1", "P", "failed", "solve", "worker died", transient=True))
    done = Outcome(
        "P-1",
        "P",
        "done",
        "write",
        digest="d",
        seconds={"solve": 1.5},
        stored_bytes=9,
        computed=True,
    )
    write_outcome(store, done)
    assert find_outcome(store, "P-1") == done
    assert find_outcome(store, "P-2") is None


def test_outcomes_come_sorted_and_a_damaged_one_is_failed_with_its_reason(store):
    for name in ("P-3", "P-1", "P-2"):
        write_outcome(store, Outcome(name, "P", "done", "write"))
    store.put("outcomes/P-2.json", b"{")
    store.put("outcomes/P-3.json", b'{"nodule_id": "P-3", "unheard": 1}')
    first, *damaged = read_outcomes(store)
    assert (first.nodule_id, first.state) == ("P-1", "done")
    assert [(one.nodule_id, one.state, one.stage) for one in damaged] == [
        ("P-2", "failed", UNREADABLE),
        ("P-3", "failed", UNREADABLE),
    ]
    assert "outcomes/P-2.json is not the outcome of a nodule" in damaged[0].reason
    assert find_outcome(store, "P-2") is None


def test_what_the_selection_leaves_out_is_no_failure():
    assert Outcome("P-1", "P", "refused", "select", "1 reader, 4 asked").is_selection
    assert not Outcome("P-1", "P", "refused", "trimap", "empty").is_selection


def test_an_outcome_that_is_not_done_keeps_the_last_one_that_was(store):
    done = Outcome("P-1", "P", "done", "write", digest="d", inputs={"stamp": "s"})
    write_outcome(store, done)
    failed = write_outcome(store, Outcome("P-1", "P", "failed", "solve", "MemoryError"))
    refused = write_outcome(store, Outcome("P-1", "P", "refused", "select", "1 reader, 4 asked"))
    assert failed.last_done == refused.last_done == find_outcome(store, "P-1").last_done == done
    assert refused.brief.finished.inputs == {}
    again = replace(done, digest="e")
    assert write_outcome(store, again) == again
    assert again.last_done == again


def test_a_failure_after_a_damaged_or_lost_outcome_keeps_the_case_that_was_finished_last(store):
    for number, digest in enumerate("ab"):
        store.put(f"cases/P-1/{digest * 64}.done", b"{}")
        os.utime(f"{store.url}/cases/P-1/{digest * 64}.done", (number, number))
    store.put("outcomes/P-1.json", b"{")
    failed = write_outcome(store, Outcome("P-1", "P", "failed", "solve", "MemoryError"))
    assert failed.finished.digest == "b" * 64
    assert find_outcome(store, "P-1") == failed
    assert write_outcome(store, Outcome("P-2", "P", "failed", "solve")).finished is None


def test_a_failure_that_overwrites_anothers_success_finds_its_case(store, monkeypatch):
    """Another run finishes the nodule after this one read the outcome."""
    put = Store.put

    def after_the_other(store, key, data):
        monkeypatch.setattr(Store, "put", put)
        store.put(f"cases/P-1/{'a' * 64}.done", b"{}")
        store.put(key, encode(Outcome("P-1", "P", "done", "write", digest="a" * 64)))
        store.put(key, data)

    monkeypatch.setattr(Store, "put", after_the_other)
    write_outcome(store, Outcome("P-1", "P", "failed", "solve", "MemoryError"))
    assert find_outcome(store, "P-1").last_done.digest == "a" * 64

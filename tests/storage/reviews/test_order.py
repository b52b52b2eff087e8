"""Verdicts are kept in the order in which they were given, whatever the clock says."""

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import storage.reviews.verdicts
from matting.errors import InputError
from storage.layout import CASES
from storage.records import Verdict, canonical_json, encode
from storage.reviews.verdict_files import export_verdicts, find_all_verdicts, import_verdicts
from storage.reviews.verdicts import (
    VerdictLog,
    effective_verdicts,
    find_verdicts,
    read_verdicts,
    record_verdict,
)
from storage.store import open_store
from tests.decided import latest_verdict
from tests.reviewable import add_nodule

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
DIGEST = "01" * 32


class Clock:
    """A clock that tests set."""

    def __init__(self):
        self.time = NOON

    def now(self, _):
        return self.time

    fromisoformat = staticmethod(datetime.fromisoformat)


@pytest.fixture
def clock(monkeypatch):
    found = Clock()
    monkeypatch.setattr(storage.reviews.verdicts, "datetime", found)
    return found


def verdict(method="cf", nodule_id="P-1", **changes):
    return Verdict(nodule_id, DIGEST, "choose", method, "ann", False, **changes)


minutes = st.lists(st.integers(-600, 600), min_size=1, max_size=8)


@given(minutes=minutes)
@settings(max_examples=12, deadline=None)
def test_verdicts_are_read_as_they_were_given(minutes):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        clock = Clock()
        patch.setattr(storage.reviews.verdicts, "datetime", clock)
        store = open_store(folder, create=True)
        log = VerdictLog(store)
        recorded = []
        for n, minute in enumerate(minutes):
            clock.time = NOON + timedelta(minutes=minute)
            recorded.append(log.record(verdict(note=str(n), nodule_id=f"P-{n % 2}")))
        for nodule_id in {one.nodule_id for one in recorded}:
            mine = [one for one in recorded if one.nodule_id == nodule_id]
            assert read_verdicts(store, nodule_id) == mine
            assert [one.follows for one in mine] == ["", *(one.id for one in mine[:-1])]
            log.refresh()
            assert log.by_nodule()[nodule_id] == mine
        assert sorted(recorded, key=lambda one: one.order) == recorded


def test_a_clock_that_is_set_back_loses_nothing(store, clock):
    first = record_verdict(store, verdict("cf"))
    clock.time -= timedelta(days=365)
    second = record_verdict(store, verdict("lb"))
    assert latest_verdict(store, "P-1") == second
    undo = Verdict("P-1", DIGEST, "undo", None, "ann", False, undoes=second.id)
    clock.time -= timedelta(days=365)
    record_verdict(store, undo)
    assert effective_verdicts(read_verdicts(store, "P-1")) == [first]


def test_a_new_verdict_follows_the_records_of_earlier_versions(store, clock):
    for day in (2, 1):
        record_of_an_earlier_version(store, day)
    clock.time -= timedelta(days=3650)
    newest = record_verdict(store, verdict("lb"))
    assert [one.id[:8] for one in read_verdicts(store, "P-1")] == [
        "00000001",
        "00000002",
        newest.id[:8],
    ]
    assert newest.follows == "00000002"


def record_of_an_earlier_version(store, day):
    old = {"nodule_id": "P-1", "digest": DIGEST, "verdict": "choose", "method": "cf"}
    old |= {"reviewer": "ann", "automatic": False, "decided_at": f"2026-01-0{day}T00:00:00+00:00"}
    store.put(f"decisions/P-1/2026010{day}T000000.000000-0000000{day}.json", canonical_json(old))


def test_one_from_elsewhere_comes_where_its_time_belongs(store, clock):
    march = record_verdict(store, verdict("cf", decided_at="2026-03-01T00:00:00+00:00"))
    june = record_verdict(store, verdict("lb"))
    april = record_verdict(store, verdict("knn", decided_at="2026-04-01T00:00:00+00:00"))
    january = record_verdict(store, verdict("if", decided_at="2026-01-01T00:00:00+00:00"))
    assert read_verdicts(store, "P-1") == [january, march, april, june]
    assert latest_verdict(store, "P-1") == june


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_an_exported_order_is_imported(store, clock, tmp_path, suffix):
    add_nodule(store, "P-1", seed=1)
    given_here = []
    for method in ("cf", "lb", "knn"):
        given_here.append(record_verdict(store, verdict(method)))
        clock.time -= timedelta(days=1)
    file = tmp_path / f"verdicts.{suffix}"
    export_verdicts(file, find_all_verdicts(store).verdicts)
    other = open_store(str(tmp_path / "other"), create=True)
    for key in store.list_prefix(CASES):
        other.put(key, store.get(key))
    assert import_verdicts(other, file).added == 3
    assert read_verdicts(other, "P-1") == given_here
    assert import_verdicts(store, file).added == 0


def test_the_order_is_not_part_of_a_verdict_that_is_sent_again(store, clock):
    first = record_verdict(store, verdict(id="a" * 32))
    record_verdict(store, verdict("lb"))
    assert record_verdict(store, verdict(id="a" * 32)) == first


def test_a_damaged_record_costs_only_itself(store):
    first = record_verdict(store, verdict("cf"))
    spoiled = record_verdict(store, verdict("knn"))
    other = record_verdict(store, verdict("cf", nodule_id="P-2"))
    key = next(key for key in store.list_prefix("decisions/P-1") if spoiled.id in key)
    store.put(key, encode(other))
    third = record_verdict(store, verdict("lb"))
    found = find_verdicts(store, "P-1")
    assert found.verdicts == (first, third)
    assert [error.key for error in found.damaged] == [key]
    log = VerdictLog(store)
    log.refresh()
    assert log.by_nodule() == {"P-1": [first, third], "P-2": [other]}
    assert [error.key for error in log.damaged] == [key]
    store.put(key, encode(spoiled))  # restored from a backup
    log.refresh()
    assert log.damaged == ()
    assert log.by_nodule()["P-1"][:1] == [first]


def test_an_ordinal_that_is_none_is_refused(store, tmp_path):
    add_nodule(store, "P-1", seed=1)
    file = tmp_path / "verdicts.csv"
    for wrong in ("-1", "x", str(2**31)):
        file.write_text(
            f"nodule_id,digest,verdict,method,reviewer,ordinal\nP-1,{DIGEST},choose,cf,eve,{wrong}\n"
        )
        with pytest.raises(InputError, match=r"cannot be imported: got .* in row 1"):
            import_verdicts(store, file)
    assert not any(Path(store.url, "decisions").glob("*/*"))

"""Garbage collection: what it keeps, whatever records exist, are lost or are damaged."""

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import storage.maintenance.gc as gc
from storage.cases.outcomes import write_outcome
from storage.cases.runs import BEAT_S, SILENCE, find_open_runs, write_run
from storage.errors import CorruptionError, WriteError
from storage.layout import claim_key, manifest_key, outcome_key, study_key
from storage.maintenance.gc import GRACE, Garbage, find_garbage, remove_garbage
from storage.records import FileEntry, Member, Outcome, Run, Study, StudyItem, Verdict, encode
from storage.releases.faults import find_release_faults
from storage.releases.release import Draft, publish_release, withdraw_release
from storage.results.checkpoints import CONFIG, checkpoint_prefix
from storage.reviews.studies import create_study
from storage.reviews.verdicts import record_verdict
from storage.store import CLOCK, Store, open_store
from tests.cases import checkpoint_config

A, B, C = ("a" * 64, "b" * 64, "c" * 64)
DAY_S = 86_400


def put_case(store: Store, nodule: str, digest: str, *, finished: bool = True) -> None:
    """Put two files, and the mark of a finished case; gc does not read them."""
    for name in ("zarr.json", "image/zarr.json"):
        store.put(f"cases/{nodule}/{digest}/{name}", b"x")
    if finished:
        store.put(f"cases/{nodule}/{digest}.done", b"{}")


def age(store: Store, prefix: str = "", seconds: float = 2 * DAY_S) -> None:
    """Make everything below a prefix look older."""
    for key in store.list_prefix(prefix):
        past = time.time() - seconds
        os.utime(f"{store.url}/{key}", (past, past))


def done(nodule: str, digest: str) -> Outcome:
    return Outcome(nodule, "P", "done", "write", digest=digest)


def verdict(nodule: str, digest: str, study: str = "") -> Verdict:
    return Verdict(nodule, digest, "choose", "cf", "ann", automatic=False, study=study)


def study_of(nodule: str, digest: str) -> Study:
    item = StudyItem(nodule, digest, "cf", ("reader-1", "matte"), synthetic=False)
    return Study("s", 1, 1, "", (item,), "ann", "2026-01-01T00:00:00+00:00")


def publish(store: Store, nodule: str, digest: str, version: str = "0.1.0") -> None:
    member = Member(nodule, "P", digest, "cf", "ann", False, "train", False)
    file = {f"cases/{nodule}/{digest}/zarr.json": FileEntry("0" * 64, 1)}
    draft = Draft((member,), (), file, {"README.md": b"card"}, {})
    publish_release(store, version, draft, publisher="ann")


def contents(store: Store) -> dict[str, bytes]:
    return {key: store.get(key) for key in store.list_prefix("") if key != CLOCK}


def kept(store: Store, nodule: str = "n1") -> str:
    """Return the first letters of the whole cases that the store has of a nodule."""
    keys = list(store.list_prefix(f"cases/{nodule}"))
    return "".join(
        digest[0] for digest in (A, B, C) if sum(digest in key for key in keys) in (2, 3)
    )


@pytest.fixture
def old(store: Store) -> Store:
    """A store with an outcome that refers to one case and an older case that nothing refers to."""
    put_case(store, "n1", A)
    put_case(store, "n1", B)
    write_outcome(store, done("n1", B))
    age(store)
    return store


def collect(store: Store, grace: timedelta = GRACE) -> Garbage:
    return remove_garbage(store, find_garbage(store, grace), grace)


def test_an_old_case_that_nothing_refers_to_is_removed(old):
    assert [case.digest for case in collect(old).orphans] == [A]
    assert kept(old) == "b"
    assert collect(old) == Garbage()


def test_looking_removes_nothing(old):
    before = contents(old)
    assert find_garbage(old).orphans
    assert contents(old) == before


@pytest.mark.parametrize("name", ["zarr.json", "image/zarr.json"])
def test_one_young_file_keeps_its_case(old, name):
    old.put(f"cases/n1/{A}/{name}", b"x")
    assert len(find_garbage(old).young) == 1
    assert collect(old).orphans == ()
    assert kept(old) == "ab"


def test_the_grace_time_is_an_argument(old):
    assert not collect(old, timedelta(days=3)).orphans
    assert collect(old, timedelta(days=1)).orphans


def test_a_clock_that_runs_ahead_here_does_not_age_what_the_store_wrote(old, monkeypatch):
    class Ahead(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(days=400)

    monkeypatch.setattr("storage.store.datetime", Ahead)
    put_case(old, "n1", C)
    collect(old)
    assert kept(old) == "bc"


def test_on_a_full_disk_the_time_is_this_machines(old, monkeypatch):
    def full(*_):
        raise WriteError("No space left on device", key=CLOCK)

    monkeypatch.setattr(Store, "put", full)
    assert abs(old.clock() - datetime.now(UTC)) < timedelta(minutes=1)
    assert collect(old).orphans
    assert kept(old) == "b"


REFERENCES = {
    "verdict": lambda store: record_verdict(store, verdict("n1", A)),
    "study's verdict": lambda store: (
        create_study(store, study_of("n2", A)),
        put_case(store, "n2", A),
        record_verdict(store, verdict("n1", A, "s")),
    ),
    "study": lambda store: create_study(store, study_of("n1", A)),
    "release": lambda store: publish(store, "n1", A),
    "withdrawn release": lambda store: (
        publish(store, "n1", A),
        withdraw_release(store, "0.1.0", "wrong", by="ann"),
    ),
    "failure after it": lambda store: (
        write_outcome(store, done("n1", A)),
        write_outcome(store, Outcome("n1", "P", "failed", "solve", "MemoryError", digest=B)),
    ),
    "two failures after it": lambda store: (
        write_outcome(store, done("n1", A)),
        write_outcome(store, Outcome("n1", "P", "refused", "trimap", "empty", digest=C)),
        write_outcome(store, Outcome("n1", "P", "refused", "select", "1 reader, 4 asked")),
    ),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_whatever_refers_to_a_case_keeps_it(old, name):
    REFERENCES[name](old)
    age(old)
    assert A not in {case.digest for case in collect(old).orphans}
    assert "a" in kept(old)


@pytest.mark.parametrize("name", REFERENCES)
def test_what_refers_to_a_case_after_the_look_keeps_it(old, name):
    found = find_garbage(old)
    assert [case.digest for case in found.orphans] == [A]
    REFERENCES[name](old)
    assert remove_garbage(old, found).orphans == ()
    assert "a" in kept(old)


@pytest.mark.parametrize("name", REFERENCES)
def test_what_refers_to_a_case_at_the_moment_of_removal_keeps_it(old, name, monkeypatch):
    found = find_garbage(old)
    delete = Store.delete

    def delete_then_refer(store, keys):
        delete(store, keys)
        monkeypatch.setattr(Store, "delete", delete)
        REFERENCES[name](store)

    monkeypatch.setattr(Store, "delete", delete_then_refer)
    assert remove_garbage(old, found).orphans == ()
    assert "a" in kept(old)
    assert old.exists(f"cases/n1/{A}.done")


@pytest.mark.parametrize("name", ["outcome", "verdict"])
def test_a_record_that_is_damaged_at_the_moment_of_removal_gives_the_mark_back(
    old, name, monkeypatch
):
    found = find_garbage(old)
    before = contents(old)
    delete = Store.delete
    key, data = DAMAGE[name]

    def delete_then_damage(store, keys):
        delete(store, keys)
        monkeypatch.setattr(Store, "delete", delete)
        store.put(key, data)

    monkeypatch.setattr(Store, "delete", delete_then_damage)
    with pytest.raises(CorruptionError):
        remove_garbage(old, found)
    assert {**contents(old), key: None} == {**before, key: None}


def test_two_may_collect_at_once(old, monkeypatch):
    found = find_garbage(old)
    get = Store.get

    def get_after_the_other(store, key):
        if key == f"cases/n1/{A}.done":
            monkeypatch.setattr(Store, "get", get)
            remove_garbage(store, found)
        return get(store, key)

    monkeypatch.setattr(Store, "get", get_after_the_other)
    assert remove_garbage(old, found).orphans == ()
    assert kept(old) == "b"


def test_an_incomplete_case_is_removed_unless_a_finished_one_lost_its_mark(old):
    put_case(old, "n1", C, finished=False)
    old.delete([f"cases/n1/{B}.done"])
    age(old)
    assert [case.digest for case in collect(old).unfinished] == [C]
    assert kept(old) == "ab", "the outcome's case has lost its mark, so A may be needed"


def test_incomplete_files_of_a_failed_attempt_are_removed_and_a_finished_case_is_not(old):
    write_outcome(old, Outcome("n1", "P", "failed", "write", "disk full", digest=C))
    put_case(old, "n1", C, finished=False)
    age(old)
    assert [case.digest for case in collect(old).unfinished] == [C]
    put_case(old, "n1", C)
    age(old)
    assert collect(old).orphans == ()


def test_a_nodule_without_outcome_keeps_its_finished_cases(old):
    old.delete([outcome_key("n1")])
    assert len(find_garbage(old).uncertain) == 2
    collect(old)
    assert kept(old) == "ab"


def test_what_is_no_case_is_not_touched(old):
    for key in ("cases/README.md", "cases/n1/notes.txt", "cases/n1/tmp/zarr.json"):
        old.put(key, b"mine")
    age(old)
    collect(old)
    assert all(old.exists(key) for key in ("cases/README.md", "cases/n1/notes.txt"))
    assert old.exists("cases/n1/tmp/zarr.json")


def open_run(ending="none"):
    return Run("/dicom", "paper", 1, 0, 0, ending=ending)


@pytest.mark.parametrize(
    ("ending", "age_s", "grace", "is_open"),
    [
        ("none", 0, timedelta(), True),
        ("none", 2 * BEAT_S, timedelta(), True),
        ("none", SILENCE.total_seconds() + 5, timedelta(), False),
        ("none", DAY_S / 2, GRACE, True),
        ("none", DAY_S + 5, GRACE, False),
        ("complete", 0, GRACE, False),
        ("stopped early", 0, timedelta(), True),
        ("stopped early", SILENCE.total_seconds() + 5, GRACE, False),
    ],
)
def test_a_run_is_open_while_it_gives_signs(old, ending, age_s, grace, is_open):
    write_run(old, open_run(ending))
    age(old, "runs", age_s)
    assert bool(find_open_runs(old, old.clock(), grace)) == is_open
    garbage = find_garbage(old, grace)
    assert bool(garbage.open_runs) == is_open
    assert bool(garbage.orphans) != is_open


def test_a_run_that_begins_after_the_look_keeps_everything(old):
    found = find_garbage(old)
    write_run(old, open_run())
    removed = remove_garbage(old, found)
    assert (removed.orphans, len(removed.open_runs)) == ((), 1)
    assert kept(old) == "ab"


DAMAGE = {
    "outcome": (outcome_key("n1"), b'{"half":'),
    "outcome of another": (outcome_key("n1"), encode(done("n9", A))),
    "outcome of a nodule without case": (outcome_key("n5"), b"null"),
    "verdict": ("decisions/n1/20260101T000000.000000-00000000.json", b"{}"),
    "verdict of another": ("decisions/n1/x-0.json", encode(verdict("n9", A))),
    "study": (study_key("s"), b"[]"),
    "study's verdict": ("studies/s/verdicts/n1/x-0.json", b"\xff"),
    "lost plan of a study": ("studies/t/verdicts/n1/x-0.json", encode(verdict("n1", A, "t"))),
    "claim": (claim_key("0.1.0"), b"{}"),
    "manifest": (manifest_key("0.1.0"), b"{}"),
    "checkpoint": (f"{checkpoint_prefix('d')}/{CONFIG}", b"{"),
    "run": ("runs/20260101T000000Z-node-1.json", b"{"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_record_that_cannot_be_read_stops_it_and_is_named(old, name):
    publish(old, "n1", B)
    create_study(old, study_of("n1", B))
    age(old)
    found = find_garbage(old)
    key, data = DAMAGE[name]
    old.put(key, data)
    before = contents(old)
    named = study_key("t") if "lost" in name else key.rpartition("/")[0]
    with pytest.raises(CorruptionError, match=named):
        find_garbage(old)
    if "without case" not in name:  # the look before a removal concerns one nodule
        with pytest.raises(CorruptionError, match=named):
            remove_garbage(old, found)
    assert contents(old) == before


def test_a_foreign_manifest_stops_it(old):
    publish(old, "n1", A)
    publish(old, "n1", B, "0.2.0")
    old.put(manifest_key("0.1.0"), old.get(manifest_key("0.2.0")))
    with pytest.raises(CorruptionError, match=r"0\.1\.0/manifest\.json is not the one that was"):
        find_garbage(old)
    (fault,) = find_release_faults(old)
    assert "got SHA-256" in str(fault)
    assert "Restore both files" in str(fault)


def test_a_lost_manifest_keeps_every_case_until_the_version_is_withdrawn(old):
    publish(old, "n1", A)
    old.delete([manifest_key("0.1.0")])
    put_case(old, "n1", C, finished=False)
    age(old)
    garbage = collect(old)
    assert "0.1.0/manifest.json is missing beside its claim" in garbage.lost[0]
    assert len(garbage.uncertain) == 2
    assert kept(old) == "abc"
    withdraw_release(old, "0.1.0", "the publication was interrupted", by="ann")
    assert find_release_faults(old) == []
    garbage = collect(old)
    assert [case.digest for case in (*garbage.unfinished, *garbage.orphans)] == [C, A]


def test_a_lost_claim_is_reported_and_an_empty_folder_is_not(old):
    publish(old, "n1", A)
    old.delete([claim_key("0.1.0")])
    Path(f"{old.url}/releases/0.2.0").mkdir()
    (fault,) = find_release_faults(old)
    assert str(fault).startswith("0.1.0: releases/0.1.0/claim.json is missing. ")
    assert collect(old).lost == (str(fault),)
    assert kept(old) == "ab"


def test_a_checkpoint_of_a_release_that_is_not_here_keeps_every_case(old):
    config = checkpoint_config(release="0.9.0", digest="d" * 64, weights_sha256="a" * 64)
    old.put(f"{checkpoint_prefix('d')}/{CONFIG}", encode(config))
    garbage = collect(old)
    assert "release 0.9.0 is not in this store" in garbage.lost[0]
    assert kept(old) == "ab"


def test_fragments_are_removed_when_they_are_old(old):
    half = Path(f"{old.url}/cases/n1/{A}/zarr.json#7")
    half.write_bytes(b"half")
    assert collect(old).fragments == ()
    past = time.time() - 2 * DAY_S
    os.utime(half, (past, past))
    write_run(old, open_run())
    assert collect(old).fragments == ()
    age(old, "runs")
    found = find_garbage(old)
    half.touch()
    assert remove_garbage(old, found).fragments == ()
    os.utime(half, (past, past))
    assert collect(old).fragments == (half,)
    assert not half.exists()


def test_a_case_that_is_being_written_again_is_kept(old, monkeypatch):
    put_case(old, "n1", C, finished=False)
    age(old)
    found = find_garbage(old)
    put_case(old, "n1", C)
    monkeypatch.setattr(gc, "_is_referred_to", lambda *_: False)
    remove_garbage(old, found, timedelta())
    assert "c" in kept(old)


# Any records, any of them damaged

nodules = st.sampled_from(["n1", "n2"])
digests = st.sampled_from([A, B, C])
pairs = st.tuples(nodules, digests)


@st.composite
def stores(draw):
    """What a store holds: cases, records, and which record is damaged."""
    return {
        "cases": draw(st.dictionaries(pairs, st.tuples(st.booleans(), st.booleans()))),
        "done": draw(st.dictionaries(nodules, digests)),
        "failed": draw(st.sets(nodules)),
        "verdicts": draw(st.sets(pairs, max_size=3)),
        "study": draw(st.none() | pairs),
        "release": draw(st.none() | pairs),
        "lost manifest": draw(st.booleans()),
        "damaged": draw(st.none() | st.integers(0, 10)),
    }


def build(store: Store, plan) -> None:
    for (nodule, digest), (finished, _) in plan["cases"].items():
        put_case(store, nodule, digest, finished=finished)
    for nodule, digest in plan["done"].items():
        write_outcome(store, done(nodule, digest))
    for nodule in plan["failed"]:
        write_outcome(store, Outcome(nodule, "P", "failed", "solve", "MemoryError"))
    for nodule, digest in plan["verdicts"]:
        record_verdict(store, verdict(nodule, digest))
    if plan["study"]:
        create_study(store, study_of(*plan["study"]))
    if plan["release"]:
        publish(store, *plan["release"])
        if plan["lost manifest"]:
            store.delete([manifest_key("0.1.0")])
    age(store)
    for (nodule, digest), (_, young) in plan["cases"].items():
        if young:
            age(store, f"cases/{nodule}/{digest}", 60)


def needed(plan, nodule: str) -> set[str]:
    """Return the digests of the nodule that a record names, told from the plan alone."""
    known = {d for n, d in plan["verdicts"] if n == nodule}
    for name in ("study", "release"):
        if plan[name] and plan[name][0] == nodule:
            known.add(plan[name][1])
    if nodule in plan["done"]:
        known.add(plan["done"][nodule])
    return known


@given(stores())
@settings(max_examples=60, deadline=None)
def test_whatever_the_records_are_nothing_that_is_needed_is_removed(plan):
    with TemporaryDirectory() as folder:
        store = open_store(folder, create=True)
        build(store, plan)
        records = sorted(
            key
            for prefix in ("outcomes", "decisions", "studies", "releases")
            for key in store.list_prefix(prefix)
            if key.endswith(".json")
        )
        before = contents(store)
        if plan["damaged"] is not None and records:
            key = records[plan["damaged"] % len(records)]
            store.put(key, before[key][:-7])
            before = contents(store)
            with pytest.raises(CorruptionError, match=key.replace("+", r"\+")):
                collect(store)
            assert contents(store) == before
            return
        collect(store)
        after = contents(store)
        gone = set(before) - set(after)
        lost = bool(plan["release"] and plan["lost manifest"])
        for (nodule, digest), (finished, young) in plan["cases"].items():
            keys = {key for key in before if key.startswith(f"cases/{nodule}/{digest}")}
            recorded = nodule in plan["done"] or nodule in plan["failed"]
            uncertain = lost or (finished and not recorded)
            if digest in needed(plan, nodule) or young or uncertain:
                assert not keys & gone
            elif not finished:
                assert keys <= gone
            else:
                assert keys <= gone or not keys & gone
        assert all(key.startswith("cases/") for key in gone)


def test_what_a_record_refers_to_that_was_set_aside_is_kept(store):
    put_case(store, "n1", A)
    put_case(store, "n1", B)
    write_outcome(store, done("n1", B))
    record_verdict(store, verdict("n1", A))
    key = next(store.list_prefix("decisions"))
    store.put(f"quarantine/20260101T000000.000000Z/{key}", store.get(key))
    store.delete([key])
    age(store)
    assert find_garbage(store).orphans == ()
    remove_garbage(store, find_garbage(store))
    assert kept(store) == "ab"
    store.delete(list(store.list_prefix("quarantine")))
    remove_garbage(store, find_garbage(store))
    assert kept(store) == "b"

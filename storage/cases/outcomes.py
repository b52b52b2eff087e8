"""Outcomes: what came of each nodule the last time that it was curated."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

from storage.errors import CorruptionError, NotFoundError
from storage.layout import CASES, OUTCOMES, outcome_key
from storage.records import Outcome, encode, read_record
from storage.store import Store

UNREADABLE = "record"
"""The stage of a nodule whose outcome is damaged."""

T = TypeVar("T")
R = TypeVar("R")
_THREADS = 32
_BATCH = 1024


def write_outcome(store: Store, outcome: Outcome) -> Outcome:
    """Store the latest outcome of a nodule, replacing the one before.

    One that is not done keeps the last one that was, so that no failure forgets a finished case.

    Returns:
        The outcome as it is stored.
    """
    key = outcome_key(outcome.nodule_id)
    if outcome.state == "done":
        store.put(key, encode(outcome))
        return outcome
    previous = find_outcome(store, outcome.nodule_id)
    known = previous.last_done if previous else None
    outcome = replace(outcome, finished=known)
    store.put(key, encode(outcome))
    if known is None:
        # Listed after the write: then a case that another run finishes at the same time is either
        # found here, or its outcome replaces this one. It also finds what a damaged record named.
        outcome = replace(outcome, finished=_find_stored(store, outcome))
        if outcome.finished:
            store.put(key, encode(outcome))
    return outcome


def _find_stored(store: Store, outcome: Outcome) -> Outcome | None:
    """Return an outcome for the case of a nodule that was finished last; None without a case."""
    prefix = f"{CASES}/{outcome.nodule_id}"
    marks = [entry for entry in store.files(prefix) if entry.key.endswith(".done")]
    if not marks:
        return None
    newest = max(marks, key=lambda entry: (entry.modified, entry.key))
    digest = newest.key.rpartition("/")[2].removesuffix(".done")
    return Outcome(outcome.nodule_id, outcome.patient_id, "done", "write", digest=digest)


def find_outcome(store: Store, nodule_id: str) -> Outcome | None:
    """Read the latest outcome of a nodule.

    None where there is none or it is damaged (the next run rewrites it).
    """
    try:
        return read_record(store, outcome_key(nodule_id), Outcome)
    except (NotFoundError, CorruptionError):
        return None


def read_outcomes(store: Store) -> Iterator[Outcome]:
    """Read every outcome, sorted by nodule id; one that is damaged is `UNREADABLE`."""
    names = [name.removesuffix(".json") for name in store.list_dir(OUTCOMES)[1]]
    found = map_concurrently(lambda name: _read_or_say(store, name), names)
    yield from (outcome for outcome in found if outcome)


def _read_or_say(store: Store, nodule_id: str) -> Outcome | None:
    """Read an outcome; a failed one that says why stands for one that is damaged."""
    try:
        return read_record(store, outcome_key(nodule_id), Outcome)
    except NotFoundError:
        return None
    except CorruptionError as error:
        return Outcome(nodule_id, "", "failed", UNREADABLE, str(error))


class OutcomeCache:
    """Every nodule's latest outcome in memory, in brief.

    One is read again only where it was written again.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, tuple[str, Outcome | None]] = {}

    def outcomes(self) -> list[Outcome]:
        """Return the outcomes as they are stored now, sorted by nodule id."""
        etags = self._store.etags(OUTCOMES)
        changed = [name for name, etag in etags.items() if self._known.get(name, ("",))[0] != etag]
        fresh = dict(zip(changed, map_concurrently(self._read, changed), strict=True))
        self._known = {
            name: (etags[name], fresh[name]) if name in fresh else self._known[name]
            for name in sorted(etags)
        }
        return [outcome for _, outcome in self._known.values() if outcome]

    def _read(self, name: str) -> Outcome | None:
        outcome = _read_or_say(self._store, name.removesuffix(".json"))
        return outcome.brief if outcome else None


def map_concurrently(action: Callable[[T], R], keys: Sequence[T]) -> Iterator[R]:
    """Apply a function to every key, in order, on many threads that mostly wait."""
    with ThreadPoolExecutor(_THREADS) as pool:
        # In batches, so that no more results than that are held in memory.
        for start in range(0, len(keys), _BATCH):
            yield from pool.map(action, keys[start : start + _BATCH])

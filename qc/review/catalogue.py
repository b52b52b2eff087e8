"""What the queue shows of every finished case, read once: a case never changes.

Sizes and reader disagreement are computed from the readers' masks, so a case costs milliseconds.
Where many cases are new, as after the start, they are read in the background, and pages show those
that have been read so far.
"""

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from threading import Lock, Thread

import numpy as np
from numpy.typing import NDArray

from qc.report.nodules import kind_of
from storage.cases.case import Case, read_case
from storage.cases.outcomes import UNREADABLE, OutcomeCache, find_outcome
from storage.errors import StoreError
from storage.layout import outcome_key
from storage.store import Store

MAX_AGE_S = 5.0
"""How old the list may be while a reviewer steps through it; the queue page reads it again."""
WAIT_FOR_ALL_BELOW = 32
"""Up to this many new cases, a page waits until all of them are read."""
WAIT_S = 0.4
"""How long a page waits for the first of more cases than that."""
_READER_THREADS = 4
"""Several, because on a bucket the time goes into waiting for the network."""


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """One finished case as the queue shows it."""

    nodule_id: str
    patient: str
    digest: str
    synthetic: bool
    """Whether the CT is synthetic."""
    kind: str | None
    """Solid, part-solid or ground-glass by the readers' ratings."""
    extent_mm: tuple[float, float, float]
    """Size of the readers' union along (x, y, z)."""
    reader_disagreement: float
    """Share of the readers' union outside their intersection, 0..1."""
    matte_difference: float
    """Mean absolute difference over all pairs of candidates in the unknown region, 0..1."""
    tied: tuple[tuple[str, ...], ...]
    """Groups of candidates that hardly differ."""
    methods: tuple[str, ...]
    missing: Mapping[str, str]
    """Why a method gave no matte, by method."""
    metrics: Mapping[str, Mapping[str, float]]
    """Candidate metrics by method."""
    form: str
    """What the form of its mattes is called."""

    @property
    def size_mm(self) -> float:
        """The largest extent."""
        return max(self.extent_mm)


Key = tuple[str, str]
"""Nodule id and digest."""


class Catalogue:
    """The finished cases of a store by nodule id."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._outcomes = OutcomeCache(store)
        self._by_key: dict[Key, CatalogueEntry] = {}
        self._finished: list[Key] = []
        self._notes: dict[str, str] = {}
        self._damaged: dict[Key, str] = {}
        """What cannot be read of a case, as a key of the store."""
        self._damaged_outcomes: tuple[str, ...] = ()
        self._to_read = deque[Key]()
        self._readers: list[Thread] = []
        self._listed_at = -MAX_AGE_S
        self._lock = Lock()

    def entries(self, *, max_age_s: float = 0.0) -> dict[str, CatalogueEntry]:
        """Return the nodules whose case is readable and has been read so far, sorted by id.

        Args:
            max_age_s: How old the list of finished nodules may be, in seconds.
        """
        with self._lock:
            if time.monotonic() - self._listed_at >= max_age_s or self._is_reading:
                self._finished = self._list_finished()
                self._listed_at = time.monotonic()
                self._read_new_cases()
            found = {}
            for key in self._finished:
                if key in self._by_key:
                    found[key[0]] = self._by_key[key]
            return found

    @property
    def unread(self) -> int:
        """How many finished nodules have not been read yet."""
        if not self._is_reading:
            return 0
        return sum(key not in self._by_key for key in self._finished)

    def current(self, nodule_id: str) -> CatalogueEntry | None:
        """Return a nodule as it is stored now; None if it has no readable case."""
        outcome = find_outcome(self._store, nodule_id)
        if outcome is None or outcome.state != "done" or not outcome.digest:
            return None
        return self.case(nodule_id, outcome.digest)

    @property
    def damaged(self) -> tuple[str, ...]:
        """What could not be read when it was listed last: keys of outcomes and cases."""
        damaged = dict(self._damaged)
        return (
            *self._damaged_outcomes,
            *(damaged[key] for key in self._finished if key in damaged),
        )

    def note(self, nodule_id: str) -> str:
        """Return what people should know of a nodule's source, as it was listed last."""
        return self._notes.get(nodule_id, "")

    def case(self, nodule_id: str, digest: str) -> CatalogueEntry | None:
        """Return one case, the nodule's latest or not; None if it is not readable."""
        key = nodule_id, digest
        if key not in self._by_key:
            try:
                self._by_key[key] = describe(read_case(self._store, *key))
            except StoreError as error:
                # Nobody can review a damaged case; the queue page names it.
                self._damaged[key] = error.key
                return None
            self._damaged.pop(key, None)
        return self._by_key[key]

    def _list_finished(self) -> list[Key]:
        outcomes = self._outcomes.outcomes()
        self._damaged_outcomes = tuple(
            outcome_key(outcome.nodule_id) for outcome in outcomes if outcome.stage == UNREADABLE
        )
        self._notes = {outcome.nodule_id: outcome.note for outcome in outcomes if outcome.note}
        return [
            (outcome.nodule_id, outcome.digest)
            for outcome in outcomes
            if outcome.state == "done" and outcome.digest
        ]

    @property
    def _is_reading(self) -> bool:
        return any(reader.is_alive() for reader in self._readers)

    def _read_new_cases(self) -> None:
        """Start the readers unless they run, and wait for them as long as a page may."""
        if not self._is_reading:
            self._to_read.extend(key for key in self._finished if key not in self._by_key)
            count = min(_READER_THREADS, len(self._to_read))
            self._readers = [Thread(target=self._read_cases, daemon=True) for _ in range(count)]
            for reader in self._readers:
                reader.start()
        deadline = time.monotonic() + WAIT_S if self.unread > WAIT_FOR_ALL_BELOW else None
        for reader in self._readers:
            reader.join(None if deadline is None else max(0.0, deadline - time.monotonic()))

    def _read_cases(self) -> None:
        while self._to_read:
            try:
                key = self._to_read.popleft()
            except IndexError:  # another thread took the last one
                return
            self.case(*key)


def describe(case: Case) -> CatalogueEntry:
    """Read what the queue shows of a case."""
    facts = case.facts
    scores = facts.scores
    readers = case.array("labels/readers/0")
    union = np.bitwise_or.reduce(readers)
    core = np.bitwise_and.reduce(readers)
    z, y, x = (n * mm for n, mm in zip(_extent(union), case.grid.spacing_mm, strict=True))
    missing = {
        method: report.status for method, report in facts.reports.items() if not report.converged
    }
    return CatalogueEntry(
        nodule_id=case.nodule_id,
        patient=facts.patient,
        digest=case.digest,
        synthetic=facts.synthetic,
        kind=kind_of(facts.ratings),
        extent_mm=(x, y, z),
        reader_disagreement=1.0 - np.count_nonzero(core) / np.count_nonzero(union),
        matte_difference=fmean(scores.differences.values()) if scores.differences else 0.0,
        tied=scores.tied,
        methods=case.methods,
        missing=missing,
        metrics=scores.methods,
        form=facts.form_name,
    )


def _extent(mask: NDArray[np.uint8]) -> Sequence[int]:
    """Return how many voxels the mask spans along (z, y, x)."""
    plane = np.bitwise_or.reduce(mask, axis=0)
    profiles = (mask.any(axis=(1, 2)), plane.any(axis=1), plane.any(axis=0))
    return [int(np.ptp(np.flatnonzero(profile))) + 1 for profile in profiles]

"""What the queue knows of every finished case, read once: a case never changes.

Sizes and how far readers differ come from their masks, so a case costs milliseconds. Where many are new, as after the
start, they are read behind the pages, which show those that are known by then.
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
from storage.cases.outcomes import OutcomeCache, find_outcome
from storage.errors import StoreError
from storage.records import Outcome
from storage.store import Store

FRESH_S = 5.0
"""How old the list may be while nodules are worked through; a page that lists them reads it anew."""
FEW = 32
"""So many new cases are waited for, however long they take."""
PATIENCE_S = 0.4
"""A page waits so long for more of them."""
_READERS = 4
"""On a bucket the wait is the network's."""


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """One finished case as the queue sees it."""

    nodule_id: str
    patient: str
    digest: str
    synthetic: bool
    kind: str | None
    """Solid, part-solid or ground-glass by the readers' ratings."""
    extent_mm: tuple[float, float, float]
    """Of everything the readers marked, along (x, y, z)."""
    readers_differ: float
    """Share of what any reader marked that not all of them marked, 0..1."""
    mattes_differ: float
    """Mean difference of the candidates' pairs over the unknown region, 0..1."""
    tied: tuple[tuple[str, ...], ...]
    """Groups of candidates that hardly differ."""
    methods: tuple[str, ...]
    missing: Mapping[str, str]
    """Why a method gave no matte, by method."""
    figures: Mapping[str, Mapping[str, float]]
    """Candidate figures by method."""
    ranking: tuple[str, ...]
    """Methods by the candidate figures, best first."""

    @property
    def size_mm(self) -> float:
        """Give the largest extent."""
        return max(self.extent_mm)


Key = tuple[str, str]


class Catalogue:
    """The finished cases of a store by nodule id."""

    def __init__(self, store: Store) -> None:
        self._store, self._book = store, OutcomeCache(store)
        self._by_digest: dict[Key, CatalogueEntry] = {}
        self._wanted: list[Key] = []
        self._ahead = deque[Key]()
        self._readers: list[Thread] = []
        self._read_at = -FRESH_S
        self._lock = Lock()

    def entries(self, *, at_most_old_s: float = 0.0) -> dict[str, CatalogueEntry]:
        """Give every nodule that has a readable case and has been read by now, sorted by id."""
        with self._lock:
            if time.monotonic() - self._read_at >= at_most_old_s or self._is_reading:
                self._wanted = [
                    (o.nodule_id, o.digest)
                    for o in self._book.outcomes()
                    if o.state == "done" and o.digest
                ]
                self._read_at = time.monotonic()
                self._read_on()
            found = (
                (nodule_id, self._by_digest.get((nodule_id, digest)))
                for nodule_id, digest in self._wanted
            )
            return {nodule_id: entry for nodule_id, entry in found if entry}

    @property
    def unread(self) -> int:
        """How many finished nodules are still to be read."""
        return sum(key not in self._by_digest for key in self._wanted) if self._is_reading else 0

    @property
    def _is_reading(self) -> bool:
        return any(reader.is_alive() for reader in self._readers)

    def _read_on(self) -> None:
        if not self._is_reading:
            self._ahead.extend(key for key in self._wanted if key not in self._by_digest)
            self._readers = [
                Thread(target=self._read_ahead, daemon=True)
                for _ in range(min(_READERS, len(self._ahead)))
            ]
            for reader in self._readers:
                reader.start()
        until = time.monotonic() + PATIENCE_S if self.unread > FEW else None
        for reader in self._readers:
            reader.join(None if until is None else max(0.0, until - time.monotonic()))

    def _read_ahead(self) -> None:
        while self._ahead:
            try:
                key = self._ahead.popleft()
            except IndexError:  # another reader took the last one
                return
            self.case(*key)

    def current(self, nodule_id: str) -> CatalogueEntry | None:
        """Give one nodule as the store has it now; None where it has no readable case."""
        outcome = find_outcome(self._store, nodule_id)
        return (
            self._entry(outcome) if outcome and outcome.state == "done" and outcome.digest else None
        )

    def case(self, nodule_id: str, digest: str) -> CatalogueEntry | None:
        """Give one case, be it the nodule's latest or not; None where there is no readable one."""
        key = nodule_id, digest
        if key not in self._by_digest:
            try:
                self._by_digest[key] = describe(read_case(self._store, *key))
            except StoreError:
                # A damaged case is the report's to complain about; nobody can review it
                return None
        return self._by_digest[key]

    def _entry(self, outcome: Outcome) -> CatalogueEntry | None:
        return self.case(outcome.nodule_id, str(outcome.digest))


def describe(case: Case) -> CatalogueEntry:
    """Gather what the queue shows of a case."""
    facts = case.facts
    readers = case.array("labels/readers/0")
    union, core = np.bitwise_or.reduce(readers), np.bitwise_and.reduce(readers)
    z, y, x = (n * mm for n, mm in zip(_extent(union), case.grid.spacing_mm, strict=True))
    return CatalogueEntry(
        nodule_id=case.nodule_id,
        patient=facts.patient,
        digest=case.digest,
        synthetic=facts.synthetic,
        kind=kind_of(facts.ratings),
        extent_mm=(x, y, z),
        readers_differ=1.0 - np.count_nonzero(core) / np.count_nonzero(union),
        mattes_differ=fmean(facts.scores.differences.values()) if facts.scores.differences else 0.0,
        tied=facts.scores.tied,
        methods=case.methods,
        missing={m: r.status for m, r in facts.reports.items() if not r.converged},
        figures=facts.scores.methods,
        ranking=facts.scores.ranking,
    )


def _extent(marked: NDArray[np.uint8]) -> Sequence[int]:
    """Give how many voxels (z, y, x) the marked ones span."""
    plane = np.bitwise_or.reduce(marked, axis=0)
    lines = marked.any(axis=(1, 2)), plane.any(axis=1), plane.any(axis=0)
    return [int(np.ptp(np.flatnonzero(line))) + 1 for line in lines]

"""What the queue knows of every finished case, read once: a case never changes."""

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import fmean
from threading import Lock

import numpy as np

from qc.nodules import kind_of, ratings_of
from storage.cases import Case, read_case
from storage.errors import StoreError
from storage.outcomes import Outcome, read_outcome, read_outcomes
from storage.store import Store

FRESH_S = 5.0
"""How old the list may be while nodules are worked through; a page that lists them reads it anew."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One finished case as the queue sees it."""

    nodule_id: str
    patient: str
    digest: str
    stand_in: bool
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


class Index:
    """The finished cases of a store by nodule id."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._by_digest: dict[tuple[str, str], Entry] = {}
        self._entries: dict[str, Entry] = {}
        self._read_at = -FRESH_S
        self._lock = Lock()

    def entries(self, *, at_most_old_s: float = 0.0) -> dict[str, Entry]:
        """Give every nodule that has a readable case, sorted by id."""
        with self._lock:
            if time.monotonic() - self._read_at >= at_most_old_s:
                done = [o for o in read_outcomes(self._store) if o.state == "done" and o.digest]
                with ThreadPoolExecutor(4) as pool:
                    found = pool.map(self._entry, done)
                self._entries = {entry.nodule_id: entry for entry in found if entry}
                self._read_at = time.monotonic()
            return self._entries

    def current(self, nodule_id: str) -> Entry | None:
        """Give one nodule as the store has it now; None where it has no readable case."""
        outcome = read_outcome(self._store, nodule_id)
        return self._entry(outcome) if outcome and outcome.state == "done" and outcome.digest else None

    def case(self, nodule_id: str, digest: str) -> Entry | None:
        """Give one case, be it the nodule's latest or not; None where there is no readable one."""
        key = nodule_id, digest
        if key not in self._by_digest:
            try:
                self._by_digest[key] = describe(read_case(self._store, *key))
            except (StoreError, KeyError, TypeError, ValueError, FileNotFoundError):
                # A damaged case is the report's to complain about; nobody can review it
                return None
        return self._by_digest[key]

    def _entry(self, outcome: Outcome) -> Entry | None:
        return self.case(outcome.nodule_id, str(outcome.digest))


def describe(case: Case) -> Entry:
    """Gather what the queue shows of a case."""
    facts = case.facts
    figures, reports = facts.get("figures", {}), facts.get("reports", {})
    readers = case.array("labels/readers/0") > 0
    union, core = readers.any(axis=0), readers.all(axis=0)
    marked = np.argwhere(union)
    x, y, z = ((np.ptp(marked, axis=0) + 1) * case.grid.spacing_mm)[::-1].tolist()
    return Entry(
        nodule_id=case.nodule_id,
        patient=str(facts["patient"]),
        digest=case.digest,
        stand_in=bool(facts.get("stand_in")),
        kind=kind_of(ratings_of(facts)),
        extent_mm=(x, y, z),
        readers_differ=1.0 - int(core.sum()) / int(union.sum()),
        mattes_differ=fmean(figures["differences"].values()) if figures.get("differences") else 0.0,
        tied=tuple(tuple(group) for group in figures.get("tied", [])),
        methods=case.methods,
        missing={m: str(r.get("status", "")) for m, r in reports.items() if not r.get("converged", True)},
        figures=figures.get("methods", {}),
        ranking=tuple(figures.get("ranking", [])),
    )

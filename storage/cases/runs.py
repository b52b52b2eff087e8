"""Runs: a small record of each curation run, so that a store shows how its last runs went.

A run that continues writes its record again every `BEAT_S`; so the record's time tells a run that
continues from one that was killed.
"""

from datetime import datetime, timedelta

from storage.layout import LOGS, RUNS
from storage.records import Run, encode, read_record
from storage.store import Store

BEAT_S = 60.0
"""How often a run that continues writes its record again."""
SILENCE = timedelta(minutes=15)
"""A run whose record is older than this has ended: many missed beats, and longer than workers need
for the nodules that they still hold when their run was stopped."""


def write_run(store: Store, run: Run) -> None:
    """Store a run, replacing what was stored of it before."""
    store.put(_run_key(run), encode(run))


def write_run_log(store: Store, run: Run, lines: str) -> None:
    """Store what a run logged so far, one JSON object per line, replacing what was stored of it."""
    store.put(f"{LOGS}/{_name(run)}.jsonl", lines.encode())


def find_last_run(store: Store) -> Run | None:
    """Read the run that started last; None where there is none. Raises CorruptionError."""
    names = store.list_dir(RUNS)[1]
    return read_record(store, f"{RUNS}/{names[-1]}", Run) if names else None


def find_open_runs(store: Store, now: datetime, grace: timedelta) -> list[Run]:
    """Read the runs that may still write cases.

    Args:
        store: Where they are recorded.
        now: By the store's clock.
        grace: A run without an ending counts as open for at least this long after its last sign,
            since one of an earlier version gives a single sign.

    Raises:
        CorruptionError: A record that may be of such a run cannot be read.
    """
    patience = max(grace, SILENCE)
    recent = [entry for entry in store.files(RUNS) if entry.modified > now - patience]
    runs = [(entry, read_record(store, entry.key, Run)) for entry in recent]
    return [
        run
        for entry, run in runs
        if run.ending == "none"
        # Workers finish what they hold when their run is stopped.
        or (run.ending in {"stopped early", "interrupted"} and entry.modified > now - SILENCE)
    ]


def _run_key(run: Run) -> str:
    return f"{RUNS}/{_name(run)}.json"


def _name(run: Run) -> str:
    started = run.started.replace(":", "").replace("+0000", "Z")
    return f"{started}-{run.host}-{run.process}"

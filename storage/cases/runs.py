"""Runs: a small record of each curation run, so that a store shows how its last runs went."""

from storage.layout import RUNS
from storage.records import Run, encode, read_record
from storage.store import Store


def write_run(store: Store, run: Run) -> None:
    """Store a run, replacing what was stored of it before."""
    store.put(_run_key(run), encode(run))


def find_last_run(store: Store) -> Run | None:
    """Read the run that started last; None where there is none. Raises CorruptionError."""
    names = store.list_dir(RUNS)[1]
    return read_record(store, f"{RUNS}/{names[-1]}", Run) if names else None


def _run_key(run: Run) -> str:
    started = run.started.replace(":", "").replace("+0000", "Z")
    return f"{RUNS}/{started}-{run.host}-{run.process}.json"

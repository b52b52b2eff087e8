"""Set damaged files aside, so that the rest of the store can be used; nothing is deleted.

A file moves to `quarantine/<time>/<key>`: it is copied first, byte for byte, and removed from its
place then. An interruption in between leaves both, and repairing again finishes. Of a damaged case
everything is copied, and its mark and what is damaged removed, so that releases keep the rest.
"""

from collections.abc import Iterable
from datetime import timedelta

from matting.errors import InputError
from storage.cases.runs import find_open_runs
from storage.errors import CorruptionError
from storage.layout import QUARANTINE
from storage.maintenance.verify import Complaint
from storage.store import Store


def repair(store: Store, complaints: Iterable[Complaint]) -> tuple[str, list[str]]:
    """Set aside the files of complaints.

    Args:
        store: Where they are.
        complaints: As the store was verified just now.

    Returns:
        The folder of the quarantine, and the keys that were moved there.

    Raises:
        InputError: A curation is running, which may be writing what seems to be damaged.
    """
    _check_no_run(store)
    folder = f"{QUARANTINE}/{store.clock():%Y%m%dT%H%M%S.%fZ}"
    moved: list[str] = []
    for complaint in complaints:
        keys = [key for key in complaint.aside if store.exists(key)]
        copied = {*keys, *(key for key in complaint.with_it if store.exists(key))}
        if keys:
            store.put_all({f"{folder}/{key}": store.get(key) for key in sorted(copied)})
        for key in keys:  # one by one: the mark of a case is the first
            store.delete([key])
        moved += keys
        if complaint.then:
            complaint.then(store, folder)
    return folder, moved


def _check_no_run(store: Store) -> None:
    try:
        runs = find_open_runs(store, store.clock(), timedelta(0))
    except CorruptionError:
        return  # its record is among what is set aside
    if runs:
        raise InputError(
            "a store is not repaired while a curation is running",
            got=f"one on {runs[0].host}, started {runs[0].started}",
            expected="none",
            remedy="Wait until it ends; one that was killed counts for 15 minutes.",
        )

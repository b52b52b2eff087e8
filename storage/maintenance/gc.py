"""Find what a store does not need: incomplete and unreferenced cases, fragments."""

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from storage.cases.outcomes import read_outcomes
from storage.layout import CASES, done_key
from storage.releases.release import read_manifests
from storage.reviews.studies import list_studies, read_study
from storage.store import Store

_FRAGMENT = re.compile(r"#\d+$")
"""How the local store ends the name of a file until it is complete."""


@dataclass(frozen=True, slots=True)
class Garbage:
    """Keys and files that may be removed."""

    unfinished: tuple[str, ...]
    """Keys of cases without their `.done` mark; do not remove them while a run is writing."""
    orphans: tuple[str, ...]
    """Keys of finished cases that are no nodule's latest, in no release and in no study."""
    fragments: tuple[Path, ...]
    """Files on a local disk that an interruption left incomplete."""


def find_garbage(store: Store) -> Garbage:
    """List what nothing refers to.

    Raises CorruptionError where a release or study cannot be read.
    """
    needed = _referenced_marks(store)
    cases: dict[str, list[str]] = defaultdict(list)
    for key in store.list_prefix(CASES):
        _, nodule_id, name, *_ = key.split("/")
        cases[done_key(nodule_id, name.removesuffix(".done"))].append(key)
    unfinished: list[str] = []
    orphans: list[str] = []
    for mark, keys in cases.items():
        if mark not in keys:
            unfinished += keys
        elif mark not in needed:
            orphans += keys
    return Garbage(tuple(unfinished), tuple(_marks_first(orphans)), tuple(_fragments(store)))


def remove_garbage(store: Store, garbage: Garbage) -> None:
    """Remove what `find_garbage` found; a case loses its mark before its files."""
    store.delete([*garbage.orphans, *garbage.unfinished])
    for fragment in garbage.fragments:
        fragment.unlink(missing_ok=True)


def _referenced_marks(store: Store) -> set[str]:
    """Return the marks of the cases that an outcome, a release or a study refers to."""
    marks = {done_key(o.nodule_id, o.digest) for o in read_outcomes(store) if o.digest}
    for manifest in read_manifests(store):
        marks |= {done_key(m.nodule_id, m.digest) for m in manifest.members.values()}
    for name in list_studies(store):
        marks |= {done_key(item.nodule_id, item.digest) for item in read_study(store, name).items}
    return marks


def _marks_first(keys: list[str]) -> list[str]:
    return sorted(keys, key=lambda key: (not key.endswith(".done"), key))


def _fragments(store: Store) -> list[Path]:
    folder = Path(store.url)
    if not folder.is_dir():
        return []
    found = (path for path in folder.rglob("*#*") if _FRAGMENT.search(path.name))
    return sorted(path for path in found if path.is_file())

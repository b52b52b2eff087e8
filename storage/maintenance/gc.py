"""What a store holds without need: half-written cases, cases nothing refers to, fragments of interrupted writes."""

import re
from dataclasses import dataclass
from pathlib import Path

from storage.cases.outcomes import read_outcomes
from storage.layout import CASES, done_key
from storage.releases.release import list_releases
from storage.reviews.studies import list_studies, read_study
from storage.store import Store

_FRAGMENT = re.compile(r"#\d+$")
"""How the local store names a file until all its bytes are there."""


@dataclass(frozen=True, slots=True)
class Garbage:
    """Keys that may be removed."""

    unfinished: tuple[str, ...]
    """Of cases without their `.done` mark; do not remove while a run is writing."""
    orphans: tuple[str, ...]
    """Of finished cases that are no nodule's latest, in no release and in no study."""
    fragments: tuple[Path, ...]
    """Files on a local disk that a kill left half written."""


def find_garbage(store: Store) -> Garbage:
    """List what nothing needs."""
    needed = {done_key(o.nodule_id, o.digest) for o in read_outcomes(store) if o.digest}
    for manifest in list_releases(store):
        needed |= {
            done_key(member["nodule_id"], member["digest"])
            for member in manifest["nodules"].values()
        }
    for name in list_studies(store):
        needed |= {done_key(item.nodule_id, item.digest) for item in read_study(store, name).items}
    cases: dict[str, list[str]] = {}
    for key in store.keys(CASES):
        _, nodule_id, name, *_ = key.split("/")
        cases.setdefault(done_key(nodule_id, name.removesuffix(".done")), []).append(key)
    unfinished = [key for mark, keys in cases.items() if mark not in keys for key in keys]
    orphans = [
        key for mark, keys in cases.items() if mark in keys and mark not in needed for key in keys
    ]
    return Garbage(tuple(unfinished), tuple(_mark_first(orphans)), tuple(_fragments(store)))


def remove_garbage(store: Store, rubbish: Garbage) -> None:
    """Remove it; a case loses its mark before its files."""
    store.delete([*rubbish.orphans, *rubbish.unfinished])
    for fragment in rubbish.fragments:
        fragment.unlink(missing_ok=True)


def _mark_first(keys: list[str]) -> list[str]:
    return sorted(keys, key=lambda key: (not key.endswith(".done"), key))


def _fragments(store: Store) -> list[Path]:
    folder = Path(store.url)
    if not folder.is_dir():
        return []
    return sorted(
        path for path in folder.rglob("*#*") if _FRAGMENT.search(path.name) and path.is_file()
    )

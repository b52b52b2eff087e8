"""Garbage collection: find and remove what a store does not need, and nothing else.

A case is removed only where all of this holds, first of the whole store and again just before
the case is removed:

- each of its files is older than the grace time, by the store's own clock;
- no run is open that may write it or find it finished;
- no outcome, verdict, study, release or checkpoint refers to it, and nothing is lost that might.

A case loses its mark first. Then the records are read once more, and the mark is put back where
one refers to the case now; a worker, for its part, writes its outcome first and then checks that
the mark is still there. One of the two always notices the other.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from storage.cases.runs import find_open_runs
from storage.errors import NotFoundError, StoreError
from storage.layout import CASES, done_key
from storage.maintenance.references import (
    NoduleReferences,
    SharedReferences,
    read_nodule_references,
    read_references,
    read_shared_references,
)
from storage.records import Run
from storage.store import Store, StoredFile

GRACE = timedelta(hours=24)
"""What was written within this time is kept: longer than anything that is not yet recorded."""

_CASE_FILE = re.compile(rf"{CASES}/([^/]+)/([0-9a-f]{{64}})(?:\.done|/.+)")
"""Keys of the files of a case: its nodule and its digest."""
_FRAGMENT = re.compile(r"#\d+$")
"""How the local store ends the name of a file until it is complete."""


@dataclass(frozen=True, slots=True)
class CaseFiles:
    """The files of one case, finished or not."""

    nodule_id: str
    digest: str
    files: tuple[StoredFile, ...]

    @property
    def is_finished(self) -> bool:
        """True where the case has its mark."""
        return any(file.key == done_key(self.nodule_id, self.digest) for file in self.files)

    @property
    def size_bytes(self) -> int:
        """Size of all its files."""
        return sum(file.size_bytes for file in self.files)

    @property
    def modified(self) -> datetime:
        """When the last of its files was written."""
        return max(file.modified for file in self.files)


@dataclass(frozen=True, slots=True)
class Garbage:
    """What may be removed, and what is not needed and yet kept."""

    unfinished: tuple[CaseFiles, ...] = ()
    """Cases without their `.done` mark that no record refers to."""
    orphans: tuple[CaseFiles, ...] = ()
    """Finished cases that no record refers to."""
    fragments: tuple[Path, ...] = ()
    """Files on a local disk that an interruption left incomplete."""
    young: tuple[CaseFiles, ...] = ()
    """Cases that no record refers to, written within the grace time."""
    uncertain: tuple[CaseFiles, ...] = ()
    """Cases that a lost record may refer to."""
    open_runs: tuple[Run, ...] = ()
    """Runs that may still write; while there is one, every case is kept."""
    lost: tuple[str, ...] = ()
    """Complaints about records that are lost; while there is one, every case is kept."""

    @property
    def size_bytes(self) -> int:
        """Size of what may be removed; without fragments."""
        return sum(case.size_bytes for case in (*self.unfinished, *self.orphans))


@dataclass(slots=True)
class _Sorted:
    """Cases by what becomes of them."""

    unfinished: list[CaseFiles] = field(default_factory=list)
    orphans: list[CaseFiles] = field(default_factory=list)
    young: list[CaseFiles] = field(default_factory=list)
    uncertain: list[CaseFiles] = field(default_factory=list)


def find_garbage(store: Store, grace: timedelta = GRACE) -> Garbage:
    """Find what nothing refers to; removes nothing.

    Args:
        store: Where to look.
        grace: What was written within this time is kept.

    Raises:
        CorruptionError: A record cannot be read, so it may refer to anything.
    """
    now = store.clock()
    # Cases first: what is recorded after this is no longer in the list.
    cases = _list_cases(store, CASES)
    open_runs = tuple(find_open_runs(store, now, grace))
    shared = read_shared_references(store)
    references = read_references(store, shared)
    found = _sort(cases, references, shared, now - grace)
    if open_runs:
        return Garbage(young=tuple(found.young), open_runs=open_runs, lost=shared.unknown)
    return Garbage(
        tuple(found.unfinished),
        tuple(found.orphans),
        tuple(_fragments(store, now - grace)),
        tuple(found.young),
        tuple(found.uncertain),
        lost=shared.unknown,
    )


def remove_garbage(store: Store, garbage: Garbage, grace: timedelta = GRACE) -> Garbage:
    """Remove what `find_garbage` found, looking again before each removal.

    Args:
        store: Where to remove.
        garbage: As it was found.
        grace: What was written within this time is kept.

    Returns:
        What was removed, in place of what was found.

    Raises:
        CorruptionError: A record cannot be read any more; the rest is kept.
    """
    removed = _Sorted()
    for case in (*garbage.unfinished, *garbage.orphans):
        if _remove_case(store, case, grace):
            (removed.orphans if case.is_finished else removed.unfinished).append(case)
    fragments = [path for path in garbage.fragments if _remove_fragment(store, path, grace)]
    return Garbage(
        tuple(removed.unfinished),
        tuple(removed.orphans),
        tuple(fragments),
        garbage.young,
        garbage.uncertain,
        tuple(find_open_runs(store, store.clock(), grace)),
        garbage.lost,
    )


def _sort(
    cases: Iterable[CaseFiles],
    references: dict[str, NoduleReferences],
    shared: SharedReferences,
    limit: datetime,
) -> _Sorted:
    """Sort the cases that no record refers to.

    Args:
        cases: As they were listed.
        references: By nodule id; a nodule that came later has none, and its cases are kept.
        shared: What is not known of releases and checkpoints.
        limit: What was written after this is young.
    """
    found = _Sorted()
    for case in cases:
        known = references.get(case.nodule_id)
        if known is None or known.protects(case.digest, is_finished=case.is_finished):
            continue
        if case.modified > limit:
            found.young.append(case)
        elif _is_uncertain(case, known, shared):
            found.uncertain.append(case)
        else:
            (found.orphans if case.is_finished else found.unfinished).append(case)
    return found


def _remove_case(store: Store, case: CaseFiles, grace: timedelta) -> bool:
    """Remove a case if it is still garbage; returns whether it was."""
    if not _is_garbage(store, case, grace) or (case.is_finished and not _unmark(store, case)):
        return False
    store.delete([file.key for file in case.files])
    return True


def _unmark(store: Store, case: CaseFiles) -> bool:
    """Remove the mark of a case, unless a record refers to it meanwhile or cannot be read."""
    mark = done_key(case.nodule_id, case.digest)
    try:
        data = store.get(mark)
    except NotFoundError:  # somebody else collects garbage too
        return False
    store.delete([mark])
    try:
        is_needed = _is_referred_to(store, case)
    except StoreError:
        store.create(mark, data)
        raise
    if is_needed:
        store.create(mark, data)
    return not is_needed


def _is_garbage(store: Store, case: CaseFiles, grace: timedelta) -> bool:
    """Look again: whether a case is as it was listed, still old, and nothing refers to it."""
    now = store.clock()
    if find_open_runs(store, now, grace):
        return False
    listed = _list_cases(store, f"{CASES}/{case.nodule_id}")
    if [one for one in listed if one.digest == case.digest] != [case]:
        return False
    return case.modified <= now - grace and not _is_referred_to(store, case)


def _is_referred_to(store: Store, case: CaseFiles) -> bool:
    shared = read_shared_references(store)
    known = read_nodule_references(store, case.nodule_id, shared)
    if known.protects(case.digest, is_finished=case.is_finished):
        return True
    return _is_uncertain(case, known, shared)


def _is_uncertain(case: CaseFiles, known: NoduleReferences, shared: SharedReferences) -> bool:
    """Return whether a lost record may refer to a case, which may also have lost its mark."""
    return bool(shared.unknown) or (case.is_finished and not known.is_known)


def _list_cases(store: Store, prefix: str) -> list[CaseFiles]:
    """List the files of cases below a prefix by case; other files are nobody's and stay."""
    found: dict[tuple[str, str], list[StoredFile]] = defaultdict(list)
    for entry in store.entries(prefix):
        match = _CASE_FILE.fullmatch(entry.key)
        if match:
            found[match[1], match[2]].append(entry)
    return [
        CaseFiles(nodule_id, digest, tuple(sorted(files, key=lambda file: file.key)))
        for (nodule_id, digest), files in sorted(found.items())
    ]


def _fragments(store: Store, limit: datetime) -> Iterator[Path]:
    folder = Path(store.url)
    if folder.is_dir():
        found = (path for path in folder.rglob("*#*") if _FRAGMENT.search(path.name))
        yield from sorted(path for path in found if _is_old_file(path, limit))


def _remove_fragment(store: Store, path: Path, grace: timedelta) -> bool:
    now = store.clock()
    if find_open_runs(store, now, grace) or not _is_old_file(path, now - grace):
        return False
    path.unlink(missing_ok=True)
    return True


def _is_old_file(path: Path, limit: datetime) -> bool:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    modified = datetime.fromtimestamp(status.st_mtime, UTC)
    return path.is_file() and modified <= limit

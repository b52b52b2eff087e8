"""Verdicts: which of a nodule's mattes is released, or none. They are only ever added.

A verdict names the digest of the case, so it never applies to another matte than the one that was
reviewed. Its id is made by the sender: a verdict that is sent twice is recorded once. Taking a
verdict back is a record too. A study's verdicts are stored apart from those that count for
releases. `storage.reviews.consensus` joins verdicts.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from threading import Lock

from matting.errors import InputError
from storage.errors import NotFoundError
from storage.layout import DECISIONS, is_safe_name, study_verdicts_prefix
from storage.records import Verdict, encode, read_record
from storage.store import Store

AUTOMATIC_REVIEWER = "auto"
"""Who chooses automatically: the name of no person, in upper or lower case."""

_ID = re.compile(r"[0-9a-f]{8}([0-9a-f]{24})?")
"""Records of earlier versions have the short form."""
_KEY_TIME = "%Y%m%dT%H%M%S.%f"

_recording = Lock()


def record_verdict(store: Store, verdict: Verdict) -> Verdict:
    """Add a verdict; one whose id is stored already is not added again.

    Args:
        store: Where to.
        verdict: Its id and time are filled in where they are empty.

    Returns:
        The verdict as it is stored.

    Raises:
        InputError: A name cannot be part of a key, id or time is invalid, or the id was used for
            another verdict.
    """
    _check_names(verdict)
    time = _parse_time(verdict.decided_at)
    verdict = replace(verdict, decided_at=time.isoformat())
    if not verdict.id:
        verdict = replace(verdict, id=content_id(verdict))
    folder = _folder(verdict.nodule_id, verdict.study)
    # The lock excludes other threads between look-up and write; readers ignore a second record
    # with the same id anyway.
    with _recording:
        known = _find(store, folder, verdict.id)
        if known is None:
            key = f"{folder}/{time.strftime(_KEY_TIME)}-{verdict.id}.json"
            store.create(key, encode(verdict))
            return verdict
    if known.equals_apart_from_id(verdict):
        return known
    raise InputError(
        "a verdict's id is used only once",
        got=f"{verdict.id} again with another verdict",
        expected="a new id for every verdict",
        remedy="Send the verdict with an id of its own.",
    )


def content_id(verdict: Verdict) -> str:
    """Return an id that depends on the verdict's content alone."""
    return hashlib.sha256(encode(verdict)).hexdigest()[:32]


def read_verdicts(store: Store, nodule_id: str, study: str = "") -> list[Verdict]:
    """Read every verdict on a nodule in order of time, including those on earlier cases of it.

    Args:
        store: Where from.
        nodule_id: Which nodule.
        study: Name of a study; empty for the verdicts that count for releases.

    Raises:
        CorruptionError: A record is damaged.
    """
    folder = _folder(nodule_id, study)
    try:
        names = store.list_dir(folder)[1]
    except NotFoundError:
        return []
    return in_order(_read(store, f"{folder}/{name}") for name in names if name.endswith(".json"))


def in_order(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Sort by time and keep one of each id: one may have been stored by two servers."""
    by_id: dict[str, Verdict] = {}
    for verdict in sorted(verdicts, key=lambda verdict: (verdict.decided_at, verdict.id)):
        by_id.setdefault(verdict.id, verdict)
    return list(by_id.values())


def is_automatic_name(reviewer: str) -> bool:
    """Return whether a reviewer's name is the one of the automatic choice."""
    return reviewer.casefold() == AUTOMATIC_REVIEWER


def effective_verdicts(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Remove verdicts that their own reviewer took back, and the records that do so.

    Keeps the order.
    """
    known = list(verdicts)
    undone = {(v.undoes, v.reviewer) for v in known if v.verdict == "undo"}
    return [v for v in known if v.verdict != "undo" and (v.id, v.reviewer) not in undone]


class VerdictLog:
    """All verdicts of a store, or of one study, in memory.

    A record never changes, so each is read once.
    """

    def __init__(self, store: Store, study: str = "") -> None:
        self._store = store
        self._prefix = study_verdicts_prefix(study) if study else DECISIONS
        self._known: dict[str, Verdict] = {}
        self._lock = Lock()

    def refresh(self) -> None:
        """Read what was added since; raises CorruptionError."""
        keys = (key for key in self._store.list_prefix(self._prefix) if key.endswith(".json"))
        new = [key for key in keys if key not in self._known]
        with ThreadPoolExecutor(8) as pool:
            found = dict(zip(new, pool.map(lambda key: _read(self._store, key), new), strict=True))
        with self._lock:
            self._known.update(found)

    def by_nodule(self) -> dict[str, list[Verdict]]:
        """Return the verdicts by nodule, each list in order of time."""
        with self._lock:
            known = list(self._known.values())
        grouped: dict[str, list[Verdict]] = defaultdict(list)
        for verdict in known:
            grouped[verdict.nodule_id].append(verdict)
        return {nodule_id: in_order(verdicts) for nodule_id, verdicts in grouped.items()}


def _read(store: Store, key: str) -> Verdict:
    verdict = read_record(store, key, Verdict)
    if verdict.id:
        return verdict
    # Records of earlier versions have their id only in their name.
    return replace(verdict, id=key.removesuffix(".json").rpartition("-")[2])


def _find(store: Store, folder: str, verdict_id: str) -> Verdict | None:
    try:
        names = store.list_dir(folder)[1]
    except NotFoundError:
        return None
    for name in names:
        if name.endswith(f"-{verdict_id}.json"):
            return _read(store, f"{folder}/{name}")
    return None


def _folder(nodule_id: str, study: str) -> str:
    return f"{study_verdicts_prefix(study) if study else DECISIONS}/{nodule_id}"


def _check_names(verdict: Verdict) -> None:
    names = [verdict.nodule_id, verdict.reviewer]
    if verdict.study:
        names.append(verdict.study)
    for name in names:
        if not is_safe_name(name):
            raise InputError(
                "invalid name",
                got=repr(name),
                expected="letters, digits, dots, dashes and underscores",
                remedy="Choose another name.",
            )
    if is_automatic_name(verdict.reviewer) and not verdict.automatic:
        raise InputError(
            "a person cannot have the name of the automatic choice",
            got=repr(verdict.reviewer),
            expected=f"any name but {AUTOMATIC_REVIEWER}",
            remedy="Choose another name.",
        )
    for verdict_id in (verdict.id, verdict.undoes):
        if verdict_id and not _ID.fullmatch(verdict_id):
            raise InputError(
                "invalid id of a verdict",
                got=repr(verdict_id),
                expected="32 hexadecimal digits",
                remedy="Leave it out, or use a random one.",
            )


def _parse_time(text: str) -> datetime:
    """Parse the time of a verdict; now where it is empty."""
    if not text:
        return datetime.now(UTC)
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise InputError(
            "invalid time of a verdict",
            got=repr(text),
            expected="ISO 8601 with its offset, e.g. 2026-01-31T09:30:00+00:00",
            remedy="Correct it, or leave it out: then it is the time of recording.",
        )
    return time.astimezone(UTC)

"""Verdicts: which of a nodule's mattes is released, or none. They are only ever added.

A verdict names the digest of the case, so it never applies to another matte than the one that was
reviewed. Its id is made by the sender: a verdict that is sent twice is recorded once. It names the
verdict that it follows, so that the order in which verdicts were given does not depend on clocks.
Taking a verdict back is a record too. A study's verdicts are stored apart from those that count for
releases. `storage.reviews.consensus` joins verdicts.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from threading import Lock

from matting.errors import InputError
from storage.errors import CorruptionError
from storage.layout import DECISIONS, is_safe_name, study_verdicts_prefix
from storage.records import Verdict, canonical_json, encode, read_record, to_json
from storage.store import Store

AUTOMATIC_REVIEWER = "auto"
"""Who chooses automatically: the name of no person, in upper or lower case."""

_ID = re.compile(r"[0-9a-f]{8}([0-9a-f]{24})?")
"""Records of earlier versions have the short form."""
_KEY_TIME = "%Y%m%dT%H%M%S.%f"

_recording = Lock()


def record_verdict(store: Store, verdict: Verdict, *, after: int = 0) -> Verdict:
    """Add a verdict; one whose id is stored already is not added again.

    Args:
        store: Where to.
        verdict: Its id, time and place in the order are filled in where they are empty. Without
            a time it is given now, after all others; with a time it is from elsewhere, and comes
            after those that were given by then.
        after: Largest ordinal of the verdicts on other nodules that were known when it was given.

    Returns:
        The verdict as it is stored.

    Raises:
        InputError: A name cannot be part of a key, id or time is invalid, or the id was used for
            another verdict.
    """
    _check_names(verdict)
    is_new = not verdict.decided_at
    time = _parse_time(verdict.decided_at)
    verdict = replace(verdict, decided_at=time.isoformat())
    if not verdict.id:
        verdict = replace(verdict, id=content_id(verdict))
    folder = _folder(verdict.nodule_id, verdict.study)
    # The lock excludes other threads between look-up and write; readers ignore a second record
    # with the same id anyway.
    with _recording:
        given = find_verdicts(store, verdict.nodule_id, verdict.study).verdicts
        known = next((one for one in given if one.id == verdict.id), None)
        if known is None:
            verdict = _placed(verdict, given, after if is_new else None)
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


def _placed(verdict: Verdict, given: Sequence[Verdict], after: int | None) -> Verdict:
    """Return a verdict with its place in the order.

    Args:
        verdict: Not stored yet.
        given: The verdicts on its nodule, in order.
        after: See `record_verdict`; None for a verdict from elsewhere.
    """
    if after is not None:
        last = given[-1] if given else None
        ordinal = 1 + max(after, last.ordinal if last else 0)
        return replace(verdict, follows=last.id if last else "", ordinal=ordinal)
    if verdict.ordinal:  # exported with its place
        is_known = any(one.id == verdict.follows for one in given)
        return verdict if is_known else replace(verdict, follows="")
    earlier = [one for one in given if one.decided_at <= verdict.decided_at]
    if not earlier:
        return replace(verdict, follows="")
    return replace(verdict, follows=earlier[-1].id, ordinal=earlier[-1].ordinal)


def content_id(verdict: Verdict) -> str:
    """Return an id that depends on what was said, and when, alone."""
    said = replace(verdict, follows="", ordinal=0)
    return hashlib.sha256(canonical_json(to_json(said))).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class StoredVerdicts:
    """Verdicts, as far as they can be read."""

    verdicts: tuple[Verdict, ...]
    """Those on a nodule in the order in which they were given."""
    damaged: tuple[CorruptionError, ...]
    """One for each record that cannot be read."""


def find_verdicts(store: Store, nodule_id: str, study: str = "") -> StoredVerdicts:
    """Read the verdicts on a nodule, including those on earlier cases of it.

    Args:
        store: Where from.
        nodule_id: Which nodule.
        study: Name of a study; empty for the verdicts that count for releases.
    """
    folder = _folder(nodule_id, study)
    verdicts, damaged = [], []
    for name in store.list_dir(folder)[1]:
        if name.endswith(".json"):
            try:
                verdicts.append(read_verdict(store, f"{folder}/{name}"))
            except CorruptionError as error:
                damaged.append(error)
    return StoredVerdicts(tuple(in_order(verdicts)), tuple(damaged))


def read_verdicts(store: Store, nodule_id: str, study: str = "") -> list[Verdict]:
    """Read the verdicts on a nodule like `find_verdicts`; raises CorruptionError."""
    found = find_verdicts(store, nodule_id, study)
    if found.damaged:
        raise found.damaged[0]
    return list(found.verdicts)


def in_order(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Sort as they were given and keep one of each id: one may have been stored by two servers."""
    by_id: dict[str, Verdict] = {}
    for verdict in sorted(verdicts, key=lambda verdict: verdict.order):
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

    A record never changes, so each is read once; one that is damaged costs only itself.
    """

    def __init__(self, store: Store, study: str = "") -> None:
        self.store = store
        self._prefix = study_verdicts_prefix(study) if study else DECISIONS
        self._known: dict[str, Verdict] = {}
        self._damaged: dict[str, CorruptionError] = {}
        self._latest: int | None = None
        """The largest ordinal; None where nothing was read yet."""
        self._lock = Lock()

    def refresh(self) -> None:
        """Read what was added since, and again what was damaged."""
        keys = [key for key in self.store.list_prefix(self._prefix) if key.endswith(".json")]
        new = [key for key in keys if key not in self._known]
        with ThreadPoolExecutor(8) as pool:
            found = dict(zip(new, pool.map(self._try_to_read, new), strict=True))
        with self._lock:
            self._known |= {key: one for key, one in found.items() if isinstance(one, Verdict)}
            self._damaged = {
                key: one for key, one in found.items() if isinstance(one, CorruptionError)
            }
            self._latest = max(self._latest or 0, *(one.ordinal for one in self._known.values()), 0)

    @property
    def damaged(self) -> tuple[CorruptionError, ...]:
        """One for each record that could not be read."""
        with self._lock:
            return tuple(self._damaged.values())

    def record(self, verdict: Verdict) -> Verdict:
        """Add a verdict that is given now, after all that are known; see `record_verdict`."""
        if self._latest is None:
            self.refresh()
        recorded = record_verdict(self.store, verdict, after=self._latest or 0)
        with self._lock:
            self._latest = max(self._latest or 0, recorded.ordinal)
        return recorded

    def by_nodule(self) -> dict[str, list[Verdict]]:
        """Return the verdicts by nodule, each list in the order in which they were given."""
        with self._lock:
            known = list(self._known.values())
        grouped: dict[str, list[Verdict]] = defaultdict(list)
        for verdict in known:
            grouped[verdict.nodule_id].append(verdict)
        return {nodule_id: in_order(verdicts) for nodule_id, verdicts in grouped.items()}

    def _try_to_read(self, key: str) -> Verdict | CorruptionError:
        try:
            return read_verdict(self.store, key)
        except CorruptionError as error:
            return error


def read_verdict(store: Store, key: str) -> Verdict:
    """Read one verdict by its key; raises NotFoundError or CorruptionError."""
    verdict = read_record(store, key, Verdict)
    nodule_id = key.split("/")[-2]
    if verdict.nodule_id != nodule_id:
        raise CorruptionError(
            f"{key} is of another nodule: got {verdict.nodule_id}, expected {nodule_id}. "
            f"{Verdict.remedy}",
            key=key,
        )
    if verdict.id:
        return verdict
    # Records of earlier versions have their id only in their name.
    return replace(verdict, id=key.removesuffix(".json").rpartition("-")[2])


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

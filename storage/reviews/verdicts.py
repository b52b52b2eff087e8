"""Decisions: which of a nodule's mattes is released, or none. Verdicts are only ever added.

A verdict names the case's digest, so it never applies to another matte than the one that was looked at. It carries an
id of its own, made by whoever sends it: a verdict that is sent twice is recorded once. Taking a verdict back is a
record too. A study's verdicts lie apart from those that decide a release. `storage.reviews.consensus` says what follows.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from threading import Lock
from typing import Any, Literal, get_args

from matting.errors import InputError
from storage.errors import CorruptionError, NotFoundError
from storage.layout import DECISIONS, is_safe_name, study_verdicts
from storage.store import Store, canonical_json

VerdictKind = Literal["choose", "discard", "flag", "undo"]
VERDICT_KINDS: tuple[str, ...] = get_args(VerdictKind)

_ID = re.compile(r"[0-9a-f]{8}([0-9a-f]{24})?")
"""Records of earlier versions have the short form."""
_KEY_TIME = "%Y%m%dT%H%M%S.%f"
_OWN = frozenset({"id", "decided_at"})
"""What tells two records apart that say the same."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One verdict on one case."""

    nodule_id: str
    digest: str
    """The case that was looked at."""
    verdict: VerdictKind
    """`flag` asks for a second look and decides nothing; `undo` takes back the verdict that `undoes` names."""
    method: str | None
    """The chosen matte, in a study also a reader's mask; None unless something was chosen."""
    reviewer: str
    automatic: bool
    """True where a rule decided, not a person."""
    note: str = ""
    decided_at: str = ""
    """UTC, ISO 8601; the time of recording unless it is given."""
    id: str = ""
    """32 hexadecimal digits, made by the sender; derived from the content unless it is given."""
    reason: str = ""
    """Why it was discarded."""
    seconds: float | None = None
    """How long the reviewer had the nodule before the eyes."""
    blind: bool = False
    """True where names were hidden and candidates shuffled."""
    place: int | None = None
    """At which place, from 1, the chosen matte stood."""
    undoes: str = ""
    """The id of the verdict that is taken back."""
    study: str = ""
    """The study that it belongs to; empty where it decides the release."""

    def says_the_same(self, other: "Verdict") -> bool:
        """Tell whether two verdicts differ in nothing but their id and time."""
        mine, others = asdict(self), asdict(other)
        return all(mine[name] == others[name] for name in mine.keys() - _OWN)

    @property
    def answer(self) -> str | None:
        """What the verdict says: a method, ``discard``, or None where it decides nothing."""
        return (
            self.method
            if self.verdict == "choose"
            else "discard"
            if self.verdict == "discard"
            else None
        )


_recording = Lock()


def record_verdict(store: Store, decision: Verdict) -> Verdict:
    """Add a verdict; gives it as it is stored. One whose id is stored already is not added again.

    Raises:
        InputError: A name cannot stand in a path, the id or time is none, or the id was used for another verdict.
    """
    _check_names(decision)
    moment = _moment(decision.decided_at)
    stamped = replace(decision, decided_at=moment.isoformat())
    if not stamped.id:
        stamped = replace(
            stamped, id=hashlib.sha256(canonical_json(asdict(stamped))).hexdigest()[:32]
        )
    folder = _folder(decision.nodule_id, decision.study)
    # Within this process nobody comes between looking and writing; readers count an id once in any case.
    with _recording:
        before = _stored(store, folder, stamped.id)
        if before is None:
            key = f"{folder}/{moment.strftime(_KEY_TIME)}-{stamped.id}.json"
            store.create(key, canonical_json(asdict(stamped)))
            return stamped
    if before.says_the_same(stamped):
        return before
    raise InputError(
        "a verdict's id is used only once",
        got=f"{stamped.id} again with another verdict",
        expected="a new id for every verdict",
        remedy="Send the verdict with an id of its own.",
    )


def read_verdicts(store: Store, nodule_id: str, study: str = "") -> list[Verdict]:
    """Read every verdict on a nodule in order of time, those on earlier cases of it included."""
    folder = _folder(nodule_id, study)
    try:
        names = store.children(folder)[1]
    except NotFoundError:
        return []
    return in_order(_read(store, f"{folder}/{name}") for name in names if name.endswith(".json"))


def in_order(decisions: Iterable[Verdict]) -> list[Verdict]:
    """Sort by time and keep one of each id: two servers may both have stored one that was sent twice."""
    by_id: dict[str, Verdict] = {}
    for decision in sorted(decisions, key=lambda d: (d.decided_at, d.id)):
        by_id.setdefault(decision.id, decision)
    return list(by_id.values())


def effective(decisions: Iterable[Verdict]) -> list[Verdict]:
    """Leave out what was taken back by the one who had said it; keeps the order."""
    known = list(decisions)
    undone = {(d.undoes, d.reviewer) for d in known if d.verdict == "undo"}
    return [d for d in known if d.verdict != "undo" and (d.id, d.reviewer) not in undone]


class VerdictLog:
    """All verdicts of a store, or of one study, in memory. A record never changes, so each is read once."""

    def __init__(self, store: Store, study: str = "") -> None:
        self._store, self._study = store, study
        self._known: dict[str, Verdict] = {}
        self._lock = Lock()

    def refresh(self) -> None:
        """Read what was added since."""
        prefix = study_verdicts(self._study) if self._study else DECISIONS
        new = [
            key
            for key in self._store.keys(prefix)
            if key.endswith(".json") and key not in self._known
        ]
        with ThreadPoolExecutor(8) as pool:
            found = dict(zip(new, pool.map(lambda key: _read(self._store, key), new), strict=True))
        with self._lock:
            self._known.update(found)

    def by_nodule(self) -> dict[str, list[Verdict]]:
        """Give the verdicts by nodule, each in order of time."""
        with self._lock:
            known = list(self._known.values())
        grouped: dict[str, list[Verdict]] = defaultdict(list)
        for decision in known:
            grouped[decision.nodule_id].append(decision)
        return {nodule_id: in_order(decisions) for nodule_id, decisions in grouped.items()}


def verdict_from_json(content: Mapping[str, Any], place: str) -> Verdict:
    """Read one record; raises CorruptionError where it is none."""
    try:
        decision = Verdict(**content)
    except TypeError as error:
        raise CorruptionError(
            f"{place} is no verdict: {error}. Restore it from a backup or remove it."
        ) from error
    return decision


def _read(store: Store, key: str) -> Verdict:
    decision = verdict_from_json(store.get_json(key), key)
    # Records of earlier versions have no id in them; their name ends in one
    return (
        decision
        if decision.id
        else replace(decision, id=key.removesuffix(".json").rpartition("-")[2])
    )


def _stored(store: Store, folder: str, identity: str) -> Verdict | None:
    try:
        names = store.children(folder)[1]
    except NotFoundError:
        return None
    return next(
        (_read(store, f"{folder}/{name}") for name in names if name.endswith(f"-{identity}.json")),
        None,
    )


def _folder(nodule_id: str, study: str) -> str:
    return f"{study_verdicts(study) if study else DECISIONS}/{nodule_id}"


def _check_names(decision: Verdict) -> None:
    names = (decision.nodule_id, decision.reviewer, *([decision.study] if decision.study else []))
    unsafe = [name for name in names if not is_safe_name(name)]
    if unsafe:
        raise InputError(
            "a name cannot be stored",
            got=repr(unsafe[0]),
            expected="letters, digits, dots, dashes and underscores",
            remedy="Choose another name.",
        )
    for identity in (decision.id, decision.undoes):
        if identity and not _ID.fullmatch(identity):
            raise InputError(
                "this is no id of a verdict",
                got=repr(identity),
                expected="32 hexadecimal digits",
                remedy="Leave it out, or make a random one.",
            )


def _moment(text: str) -> datetime:
    if not text:
        return datetime.now(UTC)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InputError(
            "this is no time of a verdict",
            got=repr(text),
            expected="ISO 8601 with its offset, e.g. 2026-01-31T09:30:00+00:00",
            remedy="Mend it, or leave it out: then it is the time of recording.",
        )
    return moment.astimezone(UTC)

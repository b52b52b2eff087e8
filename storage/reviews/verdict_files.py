"""Decisions as files: out as CSV or JSON, and in again from people who decided elsewhere.

One line a verdict, the fields of `Verdict`. Going out and in again adds nothing, since every verdict has its id; lines
without one get it from their content. A file is taken whole or not at all. What it says of a case that is outdated is
recorded and counts for nothing, exactly as if it had been said here before the case changed.
"""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from matting.errors import InputError
from storage.cases.case import is_done, read_case
from storage.cases.outcomes import read_outcome
from storage.layout import DECISIONS, is_safe_name, study_verdicts
from storage.reviews.studies import read_study
from storage.reviews.verdicts import VERDICT_KINDS, Verdict, read_verdicts, record_verdict
from storage.store import Store, canonical_json

COLUMNS = tuple(field.name for field in fields(Verdict))
_NEEDED = ("nodule_id", "digest", "verdict", "reviewer")
_MOST_COMPLAINTS = 5


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of a file of decisions."""

    added: int
    known: int
    """Were stored already."""
    stale: tuple[str, ...]
    """Nodules whose case has changed since; their verdicts count for nothing."""


def all_verdicts(store: Store, study: str = "") -> list[Verdict]:
    """Read every verdict of a store, or of one study, in order of nodule and time."""
    folder = study_verdicts(study) if study else DECISIONS
    return [d for name in store.children(folder)[0] for d in read_verdicts(store, name, study)]


def write_verdicts(path: Path, decisions: Iterable[Verdict]) -> None:
    """Write verdicts as CSV or JSON, as the file's name ends."""
    rows = [asdict(decision) for decision in decisions]
    if _format(path) == "json":
        path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(text.getvalue(), encoding="utf-8")


def import_verdicts(store: Store, path: Path) -> Imported:
    """Add the verdicts of a file that are not stored yet.

    Raises:
        InputError: The file cannot be read, or a line is no verdict on a case of this store; nothing is added then.
    """
    decisions = _parse(path)
    complaints = [
        line for place, one in enumerate(decisions, 1) for line in _complaints(store, place, one)
    ]
    if complaints:
        more = (
            f" and {len(complaints) - _MOST_COMPLAINTS} more"
            if len(complaints) > _MOST_COMPLAINTS
            else ""
        )
        raise InputError(
            f"{path} holds lines that are no verdicts on this store",
            got="; ".join(complaints[:_MOST_COMPLAINTS]) + more,
            expected="verdicts on cases of this store",
            remedy="Mend or leave out those lines; nothing was added.",
        )
    places = {(decision.nodule_id, decision.study) for decision in decisions}
    before = {(one.nodule_id, one.id) for place in places for one in read_verdicts(store, *place)}
    recorded = [record_verdict(store, decision) for decision in decisions]
    stale = {d.nodule_id for d in decisions if not d.study and not _is_current(store, d)}
    added = len({(d.nodule_id, d.id) for d in recorded} - before)
    return Imported(added, len(recorded) - added, tuple(sorted(stale)))


def _is_current(store: Store, decision: Verdict) -> bool:
    outcome = read_outcome(store, decision.nodule_id)
    return outcome is not None and outcome.digest == decision.digest


def _parse(path: Path) -> list[Verdict]:
    form = _format(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = json.loads(text) if form == "json" else list(csv.DictReader(io.StringIO(text)))
    except (OSError, ValueError, csv.Error) as error:
        raise _bad(path, error, f"a readable {form.upper()} file") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise _bad(path, type(rows).__name__, "a list of verdicts")
    return [_decision(path, place, row) for place, row in enumerate(rows, 1)]


def _decision(path: Path, place: int, row: Mapping[str, Any]) -> Verdict:
    unknown, missing = (
        sorted(map(str, row.keys() - set(COLUMNS))),
        [name for name in _NEEDED if not row.get(name)],
    )
    if unknown or missing:
        trouble = f"unknown columns {', '.join(unknown)}" if unknown else f"no {', '.join(missing)}"
        raise _bad(path, f"{trouble} in line {place}", f"the columns {', '.join(COLUMNS)}")
    try:
        values = {name: _value(name, value) for name, value in row.items()}
        decision = Verdict(**{"method": None, "automatic": False, **values})
    except (TypeError, ValueError) as error:
        raise _bad(
            path, f"{error} in line {place}", "the values that `halosign review export` writes"
        ) from error
    if decision.id:
        return decision
    # The same line gives the same id, so that a file may be taken in twice
    return replace(decision, id=_content_id(decision))


def _content_id(decision: Verdict) -> str:
    return hashlib.sha256(canonical_json(asdict(decision))).hexdigest()[:32]


def _value(name: str, value: Any) -> Any:
    """Read one field of a line: CSV knows text only."""
    if name in {"automatic", "blind"}:
        if str(value).lower() not in {"true", "false", ""}:
            raise ValueError(f"{value!r} for {name}, which is True or False")
        return str(value).lower() == "true"
    if name in {"seconds", "place", "method"}:
        if value is None or value == "":
            return None
        return {"seconds": float, "place": int, "method": str}[name](value)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{value!r} for {name}, which is text")
    return value or ""


def _complaints(store: Store, place: int, decision: Verdict) -> list[str]:
    name = f"line {place}, {decision.nodule_id}"
    if decision.verdict not in VERDICT_KINDS:
        return [f"{name}: the verdict {decision.verdict!r} is none of {', '.join(VERDICT_KINDS)}"]
    if not all(map(is_safe_name, (decision.nodule_id, decision.digest, decision.reviewer))):
        return [f"{name}: a name that cannot stand in a path"]
    if not is_done(store, decision.nodule_id, decision.digest):
        return [f"{name}: the store has no such case ({decision.digest[:12]})"]
    if decision.verdict != "choose":
        return [] if decision.method is None else [f"{name}: a method without `choose`"]
    return (
        []
        if decision.method in _answers(store, decision)
        else [f"{name}: no such matte: {decision.method}"]
    )


def _answers(store: Store, decision: Verdict) -> Sequence[str]:
    if not decision.study:
        return read_case(store, decision.nodule_id, decision.digest).methods
    item = read_study(store, decision.study).item(decision.nodule_id)
    return item.options if item else ()


def _format(path: Path) -> str:
    form = path.suffix.lower().removeprefix(".")
    if form not in {"csv", "json"}:
        raise InputError(
            "decisions are written as CSV or JSON",
            got=path.name,
            expected="a name that ends in .csv or .json",
            remedy="Name the file so.",
        )
    return form


def _bad(path: Path, got: object, expected: str) -> InputError:
    return InputError(
        f"{path} cannot be taken in",
        got=got,
        expected=expected,
        remedy="Begin from a file that `halosign review export` wrote; nothing was added.",
    )

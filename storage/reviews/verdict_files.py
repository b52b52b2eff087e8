"""Export verdicts as CSV or JSON, and import those of people who reviewed elsewhere.

One row per verdict, with the fields of `Verdict`. Exporting and importing again adds nothing,
since every verdict has an id; rows without one get it from their content. A file is imported as a
whole or not at all. Verdicts on an outdated case are recorded and do not count, exactly as if they
had been given here before the case changed.
"""

import csv
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from matting.errors import InputError
from storage.cases.case import is_done, read_case
from storage.cases.outcomes import find_outcome
from storage.csv_cells import neutralize, restore
from storage.layout import DECISIONS, is_safe_name, study_verdicts_prefix
from storage.output import write_output
from storage.records import VERDICT_KINDS, Verdict, to_json
from storage.reviews.studies import read_study
from storage.reviews.verdicts import (
    StoredVerdicts,
    content_id,
    find_verdicts,
    is_automatic_name,
    record_verdict,
)
from storage.store import Store

COLUMNS = tuple(field.name for field in fields(Verdict))
_REQUIRED = ("nodule_id", "digest", "verdict", "reviewer")
_MOST_COMPLAINTS = 5
_MOST_VERDICTS = 2**31


@dataclass(frozen=True, slots=True)
class Imported:
    """Result of importing a file of verdicts."""

    added: int
    known: int
    """Were stored already."""
    stale: tuple[str, ...]
    """Nodules whose case has changed since; their verdicts do not count."""


def find_all_verdicts(store: Store, study: str = "") -> StoredVerdicts:
    """Read every verdict of a store, or of one study, by nodule, each's in order."""
    folder = study_verdicts_prefix(study) if study else DECISIONS
    found = [find_verdicts(store, name, study) for name in store.list_dir(folder)[0]]
    return StoredVerdicts(
        tuple(verdict for one in found for verdict in one.verdicts),
        tuple(error for one in found for error in one.damaged),
    )


def export_verdicts(path: Path, verdicts: Iterable[Verdict]) -> None:
    """Write verdicts to a file, as CSV or JSON after its suffix."""
    rows = [to_json(verdict) for verdict in verdicts]
    if _format(path) == "json":
        write_output(path, (json.dumps(rows, indent=1) + "\n").encode())
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: neutralize(cell) for name, cell in row.items()} for row in rows)
    write_output(path, text.getvalue().encode())


def import_verdicts(store: Store, path: Path) -> Imported:
    """Add the verdicts of a file that are not stored yet.

    Raises:
        InputError: The file cannot be read, or a row is not a verdict on a case of this store;
            nothing is added then.
    """
    verdicts = _parse(path)
    _check_rows(store, path, verdicts)
    folders = {(verdict.nodule_id, verdict.study) for verdict in verdicts}
    before = {
        (v.nodule_id, v.id) for folder in folders for v in find_verdicts(store, *folder).verdicts
    }
    recorded = [record_verdict(store, verdict) for verdict in verdicts]
    added = len({(verdict.nodule_id, verdict.id) for verdict in recorded} - before)
    stale = {v.nodule_id for v in verdicts if not v.study and not _is_current(store, v)}
    return Imported(added, len(recorded) - added, tuple(sorted(stale)))


def _is_current(store: Store, verdict: Verdict) -> bool:
    outcome = find_outcome(store, verdict.nodule_id)
    return outcome is not None and outcome.digest == verdict.digest


def _parse(path: Path) -> list[Verdict]:
    format_ = _format(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = json.loads(text) if format_ == "json" else _csv_rows(text)
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        raise _invalid(path, error, f"a readable {format_.upper()} file") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise _invalid(path, type(rows).__name__, "a list of verdicts")
    return [_verdict(path, number, row) for number, row in enumerate(rows, 1)]


def _csv_rows(text: str) -> list[dict[str, Any]]:
    return [
        {name: restore(cell) if isinstance(cell, str) else cell for name, cell in row.items()}
        for row in csv.DictReader(io.StringIO(text))
    ]


def _verdict(path: Path, number: int, row: Mapping[str, Any]) -> Verdict:
    _check_columns(path, number, row)
    try:
        values = {name: _value(name, value) for name, value in row.items()}
    except (TypeError, ValueError) as error:
        raise _invalid(
            path, f"{error} in row {number}", "the values that `halosign review export` writes"
        ) from error
    verdict = Verdict(**{"method": None, "automatic": False, **values})
    # The same row gives the same id, so that a file may be imported twice.
    return verdict if verdict.id else replace(verdict, id=content_id(verdict))


def _check_columns(path: Path, number: int, row: Mapping[str, Any]) -> None:
    unknown = sorted(map(str, row.keys() - set(COLUMNS)))
    missing = [name for name in _REQUIRED if not row.get(name)]
    if unknown or missing:
        got = f"unknown columns {', '.join(unknown)}" if unknown else f"no {', '.join(missing)}"
        raise _invalid(path, f"{got} in row {number}", f"the columns {', '.join(COLUMNS)}")


def _value(name: str, value: Any) -> Any:
    """Convert one field of a row: in CSV everything is text."""
    if name in {"automatic", "blind"}:
        if str(value).lower() not in {"true", "false", ""}:
            raise ValueError(f"{value!r} for {name}, which is True or False")
        return str(value).lower() == "true"
    if name in {"seconds", "place", "method"}:
        if value is None or value == "":
            return None
        return {"seconds": float, "place": int, "method": str}[name](value)
    if name == "ordinal":
        if not 0 <= int(value or 0) < _MOST_VERDICTS:
            raise ValueError(f"{value!r} for {name}, which is a number from 0")
        return int(value or 0)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{value!r} for {name}, which is text")
    return value or ""


def _check_rows(store: Store, path: Path, verdicts: list[Verdict]) -> None:
    """Raise InputError where a row is not a verdict on a case of this store."""
    reasons = ((number, _reason(store, verdict)) for number, verdict in enumerate(verdicts, 1))
    complaints = [
        f"row {number}, {verdicts[number - 1].nodule_id}: {reason}"
        for number, reason in reasons
        if reason
    ]
    if complaints:
        rest = len(complaints) - _MOST_COMPLAINTS
        more = f" and {rest} more" if rest > 0 else ""
        raise InputError(
            f"{path} has rows that are not verdicts on this store",
            got="; ".join(complaints[:_MOST_COMPLAINTS]) + more,
            expected="verdicts on cases of this store",
            remedy="Correct or remove those rows; nothing was added.",
        )


def _reason(store: Store, verdict: Verdict) -> str:
    """Return what is wrong with a verdict; empty where it is valid."""
    if verdict.verdict not in VERDICT_KINDS:
        return f"the verdict {verdict.verdict!r} is none of {', '.join(VERDICT_KINDS)}"
    if not all(map(is_safe_name, (verdict.nodule_id, verdict.digest, verdict.reviewer))):
        return "invalid characters in nodule, digest or reviewer"
    if is_automatic_name(verdict.reviewer) and not verdict.automatic:
        return f"{verdict.reviewer} is the name of the automatic choice, not of a person"
    if not is_done(store, verdict.nodule_id, verdict.digest):
        return f"the store has no such case ({verdict.digest[:12]})"
    if verdict.verdict != "choose":
        return "" if verdict.method is None else "a method without `choose`"
    known = verdict.method in _options(store, verdict)
    return "" if known else f"no such matte: {verdict.method}"


def _options(store: Store, verdict: Verdict) -> tuple[str, ...]:
    if not verdict.study:
        return read_case(store, verdict.nodule_id, verdict.digest).methods
    item = read_study(store, verdict.study).item(verdict.nodule_id)
    return item.options if item else ()


def _format(path: Path) -> str:
    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in {"csv", "json"}:
        raise InputError(
            "verdicts are written as CSV or JSON",
            got=path.name,
            expected="a name that ends in .csv or .json",
            remedy="Rename the file.",
        )
    return suffix


def _invalid(path: Path, got: object, expected: str) -> InputError:
    return InputError(
        f"{path} cannot be imported",
        got=got,
        expected=expected,
        remedy="Start from a file that `halosign review export` wrote; nothing was added.",
    )

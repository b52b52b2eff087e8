"""The rows of a table as spreadsheets and pandas write them, checked.

Read where it is harmless, beside what `storage.sources.csv_lines` reads: empty lines and columns at
the end, the index that pandas adds, capitals and spaces in the names of columns, readers in columns
of their own (reader1, reader2 ...) or separated by commas, whole numbers written as 4.0.
"""

import difflib
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matting.errors import InputError
from storage.sources.csv_lines import read_lines

REQUIRED_COLUMNS = ("nodule", "patient", "image", "readers")
OPTIONAL_COLUMNS = ("known_alpha", "n_readers")
SCALE_COLUMNS = {"hu_slope": 1.0, "hu_offset": 0.0}
"""HU = hu_slope * value + hu_offset; with the values that an empty cell stands for. They are kept
with the case, as they say how its HU were made."""

_KNOWN = (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS, *SCALE_COLUMNS)
_READER_COLUMN = re.compile(r"readers?[ _-]?(\d+)", re.IGNORECASE)
_WHOLE = re.compile(r"(\d+)\.0+")
_NO_NUMBER = {"nan", "na", "n/a", "none", "null", "<na>"}
"""What pandas and R write for a number that is missing."""


def read_rows(table: Path) -> list[dict[str, str]]:
    """Read and check the whole table.

    Returns:
        One row per nodule: the text of each cell by the name of its column; the readers separated
        by semicolons.

    Raises:
        InputError: It is no table, lacks a column or a cell, names a nodule twice, or names
            patients that differ in spelling only.
    """
    lines = read_lines(table)
    columns = _columns([name.strip() for name in lines[0][1]]) if lines else []
    _check_columns(table, columns)
    rows = [_row(table, number, columns, cells) for number, cells in lines[1:] if any(cells)]
    if not rows:
        raise InputError(
            "the table is empty", got=table, expected="one line a nodule", remedy="Fill the table."
        )
    _check_unnamed(table, rows)
    _check_ids(table, rows)
    _check_patients_differ(table, rows)
    return rows


def _columns(names: list[str]) -> list[str]:
    """Return the names of columns, those that this program knows in its own spelling."""
    lower = {name: name.lower().replace(" ", "_") for name in names}
    return [lower[name] if lower[name] in _KNOWN else name for name in names]


def _check_columns(table: Path, columns: list[str]) -> None:
    has_reader_columns = any(map(_READER_COLUMN.fullmatch, columns))
    missing = [
        name
        for name in REQUIRED_COLUMNS
        if name not in columns and not (name == "readers" and has_reader_columns)
    ]
    if missing:
        near = [
            (name, match)
            for name in missing
            for match in difflib.get_close_matches(name, columns, 1, 0.5)
        ]
        hints = [f"Is {match!r} meant for {name!r}?" for name, match in near]
        raise InputError(
            f"the table lacks the columns {', '.join(missing)}",
            got=", ".join(columns) or "no header line",
            expected=", ".join(REQUIRED_COLUMNS),
            remedy=" ".join(
                [*hints, f"Correct the first line of {table} (names separated by commas)."]
            ),
        )
    if "readers" in columns and has_reader_columns:
        raise InputError(
            "the table names the readers twice",
            got=", ".join(n for n in columns if n == "readers" or _READER_COLUMN.fullmatch(n)),
            expected="the column readers, or one column a reader",
            remedy="Remove or rename one of them.",
        )
    doubled = sorted({name for name in columns if name and columns.count(name) > 1})
    if doubled:
        remedy = "Rename or remove the second of each."
        raise InputError(
            "columns come twice", got=", ".join(doubled), expected="each name once", remedy=remedy
        )


def _row(table: Path, line: int, columns: list[str], cells: list[str]) -> dict[str, str]:
    surplus = cells[len(columns) :]
    if any(surplus) or len(cells) < len(columns):
        raise InputError(
            "a line of the table does not fit its header",
            got=f"line {line} with too {'many' if surplus else 'few'} cells",
            expected="one cell a column",
            remedy=f"Correct {table}; put cells that contain a comma in double quotes.",
        )
    pairs = list(zip(columns, cells, strict=False))
    row = {name: cell for name, cell in pairs if name}
    unnamed = [cell for name, cell in pairs if not name]
    if any(unnamed):
        row[""] = next(filter(None, unnamed))
    row = _with_readers(row, table.parent)
    for name in ("n_readers", *SCALE_COLUMNS):
        if row.get(name, "").lower() in _NO_NUMBER:
            row[name] = ""
    whole = _WHOLE.fullmatch(row.get("n_readers", ""))
    if whole:
        row["n_readers"] = whole[1]
    empty = [name for name in REQUIRED_COLUMNS if not row[name]]
    if empty:
        raise InputError(
            "a line of the table has empty cells",
            got=f"nothing in {', '.join(empty)} on line {line}",
            expected=f"text in {', '.join(REQUIRED_COLUMNS)}",
            remedy=f"Fill or remove the line in {table}.",
        )
    return row


def _with_readers(row: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Return a row with its readers in one cell, separated by semicolons."""
    if "readers" in row:
        cell = row["readers"]
        names = [name.strip() for name in cell.split(",")]
        if len(names) > 1 and ";" not in cell and not (folder / cell).exists():
            return {**row, "readers": ";".join(filter(None, names))}
        return dict(row)
    numbered = {
        int(match[1]): cell
        for name, cell in row.items()
        if (match := _READER_COLUMN.fullmatch(name))
    }
    others = {name: cell for name, cell in row.items() if not _READER_COLUMN.fullmatch(name)}
    return {**others, "readers": ";".join(numbered[n] for n in sorted(numbered) if numbered[n])}


def _check_unnamed(table: Path, rows: list[dict[str, Any]]) -> None:
    """Drop the index that pandas writes into a column without name; refuse other content there."""
    unnamed = [row.pop("") for row in rows if "" in row]
    if unnamed and unnamed != [str(n) for n in range(len(rows))]:
        raise InputError(
            "a column of the table has no name",
            got="text in a column without a name",
            expected="a name for every column",
            remedy=f"Name it in the first line of {table}, or remove it.",
        )


def _check_ids(table: Path, rows: list[dict[str, str]]) -> None:
    """Raise InputError for nodules that come twice; their rows are shown, and not their names."""
    seen: dict[str, int] = {}
    for number, row in enumerate(rows, 1):
        first = seen.setdefault(row["nodule"].casefold(), number)
        if first != number:
            raise InputError(
                "nodule names come twice",
                got=f"the same name in rows {first} and {number} below the header",
                expected="each name once, upper and lower case taken as the same",
                remedy=f"Rename or remove one in {table}.",
            )


def _check_patients_differ(table: Path, rows: list[dict[str, str]]) -> None:
    """Raise InputError for patients that differ in spelling only: a split would part them."""
    seen: dict[str, int] = {}
    for number, row in enumerate(rows, 1):
        plain = " ".join(unicodedata.normalize("NFKC", row["patient"]).casefold().split())
        first = seen.setdefault(plain, number)
        if rows[first - 1]["patient"] != row["patient"]:
            raise InputError(
                "two patients differ by their spelling only",
                got=f"those in rows {first} and {number} below the header",
                expected="one spelling for a patient, or names that differ by more than case, "
                "spaces and Unicode form",
                remedy=f"Correct the column patient in {table}.",
            )

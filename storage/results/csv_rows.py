"""Dataclasses as rows of a CSV file and back: floats keep every bit, empty is None.

What a store keeps for itself ends in a comment with the SHA-256 of the lines before it; tables of
earlier versions have none and are read all the same.
No cell is run as a formula by a spreadsheet program: `storage.csv_cells`.
"""

import csv
import hashlib
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import TypeAdapter

from storage.csv_cells import neutralize, restore
from storage.errors import CorruptionError

Row = TypeVar("Row")
_SEAL = re.compile(rb"# (.{6}) (.{64})\n\Z", re.DOTALL)
"""Neither is spelled out, so that a damaged end is not taken for that of an earlier version."""


def to_csv(kind: type[Any], rows: Iterable[Any]) -> bytes:
    """Encode rows of a dataclass whose fields are text, numbers, booleans or None.

    Args:
        kind: The dataclass; its fields are the columns.
        rows: Its instances.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(kind)], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: neutralize(cell) for name, cell in asdict(row).items()} for row in rows)
    return text.getvalue().encode()


def seal_csv(table: bytes) -> bytes:
    """Add the SHA-256 of a table to it, as its last line."""
    return table + b"# sha256 %s\n" % hashlib.sha256(table).hexdigest().encode()


def is_sealed_csv(data: bytes) -> bool:
    """Return whether a table ends in a SHA-256, be it the right one or not."""
    return _SEAL.search(data) is not None


def _unseal(data: bytes) -> bytes:
    match = _SEAL.search(data)
    if match is None:
        return data
    table = data[: match.start()]
    if match[0] != seal_csv(table)[match.start() :]:
        raise ValueError("the SHA-256 that it ends in is not the one of its content")
    return table


def from_csv(kind: type[Row], data: bytes, key: str) -> list[Row]:
    """Decode what `to_csv` encoded, sealed or not.

    Args:
        kind: The dataclass.
        data: The file.
        key: Of the file, for the error.

    Raises:
        CorruptionError: The columns or values are not those of the dataclass.
    """
    types = {field.name: field.type for field in fields(kind)}  # type: ignore[arg-type]
    try:
        reader = csv.DictReader(io.StringIO(_unseal(data).decode()))
        if list(reader.fieldnames or ()) != list(types):
            raise ValueError(f"columns {reader.fieldnames}")
        return [_row(kind, types, row) for row in reader]
    except (ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        raise CorruptionError(
            f"{key} is not a table of {', '.join(types)}: {error}. "
            "Remove it and run the same command again.",
            key=key,
        ) from error


def _row(kind: type[Row], types: Mapping[str, Any], row: Mapping[str, str]) -> Row:
    return kind(**{name: _value(types[name], restore(text)) for name, text in row.items()})


def _value(kind: Any, text: str) -> Any:
    """Convert a field to its type; an empty one is None where the type allows None."""
    if get_origin(kind) is Annotated:
        return TypeAdapter(kind).validate_python(text or None)
    options = [option for option in get_args(kind) or (kind,) if option is not type(None)]
    if not text and options != [kind]:
        return None
    if options[0] is bool:
        if text not in {"True", "False"}:
            raise ValueError(f"{text!r} is neither True nor False")
        return text == "True"
    return options[0](text)

"""Rows of plain dataclasses as CSV and back, exactly: floats keep every bit, an empty field is None."""

import csv
import io
from collections.abc import Iterable
from dataclasses import asdict, fields
from typing import Any, TypeVar, get_args

from storage.errors import CorruptionError

Row = TypeVar("Row")


def to_csv(kind: type[Any], rows: Iterable[Any]) -> bytes:
    """Write rows of a dataclass whose fields are text, numbers, True or False, or None."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(kind)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue().encode()


def from_csv(kind: type[Row], data: bytes, place: str) -> list[Row]:
    """Read what `to_csv` wrote.

    Args:
        kind: The dataclass.
        data: The file.
        place: Where it lies, for the message.

    Raises:
        CorruptionError: It holds something else.
    """
    known = {field.name: field.type for field in fields(kind)}  # type: ignore[arg-type]
    try:
        reader = csv.DictReader(io.StringIO(data.decode()))
        if list(reader.fieldnames or ()) != list(known):
            raise ValueError(f"columns {reader.fieldnames}")
        return [
            kind(**{name: _value(known[name], text) for name, text in row.items()})
            for row in reader
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptionError(
            f"{place} holds no such table: {error}. Remove it and measure again."
        ) from error


def _value(kind: Any, text: str) -> Any:
    options = [option for option in get_args(kind) or (kind,) if option is not type(None)]
    if not text and options != [kind]:
        return None
    return text == "True" if options[0] is bool else options[0](text)

"""Dataclasses as rows of a CSV file and back: floats keep every bit, empty is None."""

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from typing import Any, TypeVar, get_args

from storage.errors import CorruptionError

Row = TypeVar("Row")


def to_csv(kind: type[Any], rows: Iterable[Any]) -> bytes:
    """Encode rows of a dataclass whose fields are text, numbers, booleans or None.

    Args:
        kind: The dataclass; its fields are the columns.
        rows: Its instances.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(kind)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue().encode()


def from_csv(kind: type[Row], data: bytes, key: str) -> list[Row]:
    """Decode what `to_csv` encoded.

    Args:
        kind: The dataclass.
        data: The file.
        key: Of the file, for the error.

    Raises:
        CorruptionError: The columns or values are not those of the dataclass.
    """
    types = {field.name: field.type for field in fields(kind)}  # type: ignore[arg-type]
    try:
        reader = csv.DictReader(io.StringIO(data.decode()))
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
    return kind(**{name: _value(types[name], text) for name, text in row.items()})


def _value(kind: Any, text: str) -> Any:
    """Convert a field to its type; an empty one is None where the type allows None."""
    options = [option for option in get_args(kind) or (kind,) if option is not type(None)]
    if not text and options != [kind]:
        return None
    if options[0] is bool:
        if text not in {"True", "False"}:
            raise ValueError(f"{text!r} is neither True nor False")
        return text == "True"
    return options[0](text)

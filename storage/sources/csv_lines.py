"""The lines of a CSV file as spreadsheets and pandas write them.

Read where it is harmless: a byte-order mark, UTF-16, semicolons or tabs between cells.
"""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from matting.errors import InputError

_ENCODINGS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_WORKBOOK = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")


def read_lines(table: Path) -> list[tuple[int, list[str]]]:
    """Read a CSV file.

    Returns:
        The number of each line, from 1, and its cells without blanks at their ends; the first line
        is the header, and decides what separates cells.

    Raises:
        InputError: There is no such file, or it is no CSV.
    """
    if not table.is_file():
        raise InputError(
            "there is no such table", got=table, expected="a CSV file", remedy="Check the path."
        )
    try:
        return list(_cells(_text(table)))
    except csv.Error as error:
        raise _no_table(table, str(error), "Save the table as CSV in UTF-8.") from error


def _no_table(table: Path, complaint: str, remedy: str) -> InputError:
    return InputError(
        "this is no CSV table",
        got=f"{table}: {complaint}",
        expected="comma-separated text in UTF-8",
        remedy=remedy,
    )


def _text(table: Path) -> str:
    content = table.read_bytes()
    if content.startswith(_WORKBOOK):
        raise _no_table(table, "an Excel workbook", "Save it as `CSV UTF-8` in Excel.")
    encoding = _ENCODINGS.get(content[:2], "utf-8-sig")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise _no_table(
            table,
            f"a character on line {line} that is not {encoding.upper()}",
            "Save it as CSV in UTF-8 (in Excel: `CSV UTF-8`).",
        ) from error


def _cells(text: str) -> Iterator[tuple[int, list[str]]]:
    header = text.split("\n", 1)[0]
    separator = next((s for s in ",;\t" if s in header), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    for cells in reader:
        yield reader.line_num, [cell.strip() for cell in cells]

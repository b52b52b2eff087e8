"""Cells of CSV files that a spreadsheet program would run as a formula.

An apostrophe before such a text is what spreadsheet programs take for "this is text"; reading the
file removes it again.
"""

from typing import Any

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_MARK = "'"


def neutralize(cell: Any) -> Any:
    """Return a cell that no spreadsheet program runs: numbers and other texts stay as they are."""
    return _MARK + cell if isinstance(cell, str) and _needs_mark(cell) else cell


def restore(text: str) -> str:
    """Return the text that `neutralize` was given."""
    return text[1:] if text.startswith(_MARK) and _needs_mark(text[1:]) else text


def _needs_mark(text: str) -> bool:
    # A text that has a mark already gets another, so that reading gives it back
    unmarked = text.lstrip(_MARK)
    return unmarked.startswith(_FORMULA) and not _is_number(text)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True

"""What can go wrong with a store, grouped by what the handler does.

StoreError
├── NotFoundError       (KeyError)         look elsewhere, or make it first
├── AlreadyExistsError  (FileExistsError)  somebody else was first; what is there stays
├── CorruptionError     (ValueError)       not what was written; restore or recompute it
├── ReadError           (OSError)          no permission; the user must act
├── WriteError          (OSError)          no room or permission; the user must act
└── UnavailableError    (OSError)          the store did not answer; a retry may help
"""

import difflib
from collections.abc import Sequence

from matting.errors import InputError

_SHOULD_BE = "Input should be "
_COMPARISONS = ("greater than", "less than")
_MOST_NAMES = 5
"""Of the unknown nodules, how many a message names."""


class StoreError(Exception):
    """Anything that a store could not do.

    Attributes:
        key: The key that was asked for; empty where it was none.
    """

    def __init__(self, message: str, *, key: str = "") -> None:
        super().__init__(message)
        self.key = key

    __str__ = Exception.__str__  # KeyError would quote the message


class NotFoundError(StoreError, KeyError):
    """The key does not exist."""


class AlreadyExistsError(StoreError, FileExistsError):
    """The key can be written only once and exists already."""


class CorruptionError(StoreError, ValueError):
    """The key holds something else than what was written."""


class ReadError(StoreError, OSError):
    """The store may not be read by this user; what it holds is not known."""


class WriteError(StoreError, OSError):
    """The store accepts no more bytes from this user: it is full, read-only or forbidden."""


class UnavailableError(StoreError, OSError):
    """The store did not answer as it should; it may do so later."""


def plain_words(complaint: str) -> str:
    """Return what a value should have been, from the words of the library that checks values.

    Args:
        complaint: E.g. ``Input should be a valid number, unable to parse string as a number``.

    Returns:
        E.g. ``a valid number``; a complaint of another form as it is.
    """
    words = complaint.removeprefix("Value error, ")
    if not words.startswith(_SHOULD_BE):
        return words
    expected = words.removeprefix(_SHOULD_BE).partition(", unable to ")[0]
    expected = expected.partition(" or an instance of ")[0].replace(
        "a dictionary", "names and values"
    )
    return f"a value {expected}" if expected.startswith(_COMPARISONS) else expected


def unknown_nodules(unknown: Sequence[str], known: Sequence[str], place: str) -> InputError:
    """Return the error for nodules that are not where they were looked for, with the nearest id.

    Args:
        unknown: What was asked for, one or more.
        known: The ids that are there.
        place: Where that is, e.g. ``the source``.
    """
    more = f" and {len(unknown) - _MOST_NAMES} more" if len(unknown) > _MOST_NAMES else ""
    near = difflib.get_close_matches(unknown[0], known, n=1)
    return InputError(
        f"{place} has no such nodule",
        got=", ".join(unknown[:_MOST_NAMES]) + more,
        expected=f"some of its {len(known)} nodules",
        remedy=f"Did you mean {near[0]}?" if near else "Check the id; `halosign list` lists ids.",
    )

"""What can go wrong with a store, grouped by what the handler does.

StoreError
├── NotFound        (KeyError)         look elsewhere, or make it first
├── AlreadyThere    (FileExistsError)  somebody was first; what is there stays
├── Damaged         (ValueError)       bytes that are not what was written; restore or recompute them
├── Unwritable      (OSError)          no room or no right to write; the user must act, a retry cannot help
└── Unavailable     (OSError)          came from outside and may pass; try again
"""


class StoreError(Exception):
    """Anything that a store could not do."""

    __str__ = Exception.__str__  # KeyError would quote the message


class NotFoundError(StoreError, KeyError):
    """The key holds nothing."""


class AlreadyExistsError(StoreError, FileExistsError):
    """The key may be written once and was."""


class CorruptionError(StoreError, ValueError):
    """What lies there is not what was written."""


class WriteError(StoreError, OSError):
    """The store takes no more bytes from this user: full, read-only or forbidden."""


class UnavailableError(StoreError, OSError):
    """The store did not answer properly; it may later."""

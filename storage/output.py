"""Files outside a store, for the user: each is there with all of its bytes, or not at all."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path

_PART = ".part-"
"""How the name of a file begins until it is complete."""
_ATTEMPTS = 3


def write_output(path: Path, data: bytes) -> None:
    """Write a file and its folder, replacing what is there; raises OSError."""
    produce_output(path, lambda part: part.write_bytes(data))


def produce_output(path: Path, write: Callable[[Path], object]) -> None:
    """Let a function write a file under another name of the same suffix, then rename it.

    Args:
        path: The file; its folder is made.
        write: Takes the path to write to. It is called again where another command, which writes
            the same files and has just ended, removed the incomplete one.

    Raises:
        OSError: The file cannot be written.
    """
    path = path.resolve()  # the file that a link leads to, not the link
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file():
        write(path)  # a device or a pipe
        return
    for attempt in range(1, _ATTEMPTS + 1):
        part = path.with_name(f"{_PART}{secrets.token_hex(4)}-{path.name}")
        try:
            write(part)
            os.replace(part, path)
        except OSError as error:
            if not isinstance(error, FileNotFoundError) or attempt == _ATTEMPTS:
                raise OSError(error.errno, error.strerror, str(path)) from error
        else:
            return
        finally:
            part.unlink(missing_ok=True)


def remove_incomplete(folder: Path) -> None:
    """Remove the incomplete files that an interrupted command left anywhere in a folder."""
    for part in folder.rglob(f"{_PART}*"):
        part.unlink(missing_ok=True)


def is_incomplete(path: Path) -> bool:
    """Return whether a file is one that an interrupted command left."""
    return path.name.startswith(_PART)

"""The reviewers' file: on each line a name, the SHA-256 of a token, and a role."""

import contextlib
import fcntl
import hashlib
import logging
import os
import re
import secrets
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from threading import Lock

from matting.errors import InputError
from storage.reviews.verdicts import AUTOMATIC_REVIEWER, is_automatic_name

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""Names of reviewers, nodules, digests and studies: safe in a path, and of limited length."""
TOKEN_BYTES = 32

_NAME = re.compile(NAME_PATTERN)
_HASH = re.compile(r"[0-9a-f]{64}")
_FILE_AT_MOST_BYTES = 1 << 20

logger = logging.getLogger(__name__)


class Role(StrEnum):
    """What a reviewer may see and do."""

    CURATOR = "curator"
    """Everything: review, studies, and how far reviewers agree."""
    REVIEWER = "reviewer"
    """The queue and the studies."""
    RATER = "rater"
    """The studies only."""


@dataclass(frozen=True, slots=True)
class Reviewer:
    """One line of the file."""

    token_sha256: str
    role: Role


def is_name(text: str) -> bool:
    """Return whether a text may name a nodule, a case, a study or a reviewer."""
    return bool(_NAME.fullmatch(text)) and not text.endswith("\n")


def is_reviewer_name(text: str) -> bool:
    """Return whether a text may name a person: `auto` is who chooses automatically."""
    return is_name(text) and not is_automatic_name(text)


def read_reviewers(path: Path) -> dict[str, Reviewer]:
    """Read the reviewers' file. A line without a role is a curator's, as in earlier versions.

    Raises:
        InputError: The file cannot be read, may be read by others, or holds something else.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > _FILE_AT_MOST_BYTES:
            raise _bad(path, "something else", "a text file of at most 1 MB", "Check the path.")
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        remedy = f"Make it with `halosign review token create NAME --tokens {path}`."
        raise _bad(path, error, "a readable file", remedy) from error
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise _bad(
            path,
            "a file that others on this machine may read",
            "mode 600",
            f"Run: chmod 600 {path}",
        )
    found: dict[str, Reviewer] = {}
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        reviewer = _reviewer(words)
        if reviewer is None or words[0] in found:
            raise _bad(
                path,
                f"line {number}",
                "a new name, a SHA-256 and a role on every line",
                "Add reviewers with `halosign review token NAME`.",
            )
        found[words[0]] = reviewer
    return found


def add_reviewer(path: Path, name: str, role: Role) -> str:
    """Add a reviewer to the file; return the token, of which only the SHA-256 is stored.

    Raises:
        InputError: The name is invalid or in the file already, or the file cannot be used.
    """
    if not is_reviewer_name(name):
        raise InputError(
            "this name cannot be a reviewer's",
            got=repr(name),
            expected=f"letters, digits, dots, dashes and underscores, and not {AUTOMATIC_REVIEWER}",
            remedy="Choose another name.",
        )
    token = secrets.token_urlsafe(TOKEN_BYTES)
    with _locked(path):
        if path.exists() and name in read_reviewers(path):
            raise InputError(
                f"{path} has this reviewer already",
                got=name,
                expected="a new name",
                remedy="Revoke the old token first: "
                f"halosign review token revoke {name} --tokens {path}",
            )
        _replace(path, [*_lines(path), f"{name} {sha256(token)} {role.value}"])
    return token


def revoke_reviewer(path: Path, name: str) -> None:
    """Remove a reviewer; a running server ends the sessions with the next request.

    Raises:
        InputError: There is no such reviewer, or the file cannot be used.
    """
    if not path.exists():
        read_reviewers(path)  # says what is wrong
    with _locked(path):
        reviewers = read_reviewers(path)
        if name not in reviewers:
            raise InputError(
                f"{path} has no such reviewer",
                got=name,
                expected=f"one of: {', '.join(sorted(reviewers)) or 'nobody yet'}",
                remedy="Check the name.",
            )
        _replace(path, [line for line in _lines(path) if line.split()[:1] != [name]])


class ReviewersFile:
    """The reviewers as the file says now: it is read again whenever it has changed."""

    def __init__(self, path: Path, reviewers: Mapping[str, Reviewer]) -> None:
        self._path = path
        self._reviewers = reviewers
        self._version: tuple[int, ...] | None = _version(path)
        self._lock = Lock()

    @classmethod
    def open(cls, path: Path) -> "ReviewersFile":
        """Open the file; raises InputError where it cannot be used or names nobody."""
        reviewers = read_reviewers(path)
        if not reviewers:
            raise _bad(
                path,
                "no reviewer",
                "one line for each",
                "Add one with `halosign review token NAME`.",
            )
        return cls(path, reviewers)

    def find(self, name: str) -> Reviewer | None:
        """Return a reviewer; None if there is none of that name, or the file cannot be used now."""
        with self._lock:
            version = _version(self._path)
            if version is None or version != self._version:
                self._version = version
                self._reviewers = self._read()
            return self._reviewers.get(name)

    def _read(self) -> dict[str, Reviewer]:
        try:
            return read_reviewers(self._path)
        except InputError as error:
            logger.error("nobody can sign in: %s", error)
            return {}


def sha256(token: str) -> str:
    """Return the SHA-256 of a token as the file holds it."""
    return hashlib.sha256(token.encode()).hexdigest()


def _reviewer(words: list[str]) -> Reviewer | None:
    """Return what a line says after its name; None if it is invalid."""
    if len(words) not in (2, 3) or not is_reviewer_name(words[0]) or not _HASH.fullmatch(words[1]):
        return None
    role = words[2] if len(words) == 3 else Role.CURATOR.value
    return Reviewer(words[1], Role(role)) if role in set(Role) else None


def _version(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_mode


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def _replace(path: Path, lines: list[str]) -> None:
    """Write the whole file, so that a server never reads a part of it."""
    partial = path.with_name(f".{path.name}.partial")
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.writelines(f"{line}\n" for line in lines)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Exclude other commands that change the file."""
    try:
        folder = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise _bad(path, error, "a folder that exists", "Check the path.") from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    except OSError as error:
        raise _bad(path, error, "a file that can be written", "Check its permissions.") from error
    finally:
        os.close(folder)


def _bad(path: Path, got: object, expected: str, remedy: str) -> InputError:
    return InputError(
        f"the reviewers' file {path} cannot be used", got=got, expected=expected, remedy=remedy
    )

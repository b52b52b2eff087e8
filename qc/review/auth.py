"""Sign-in: by name on the reviewer's own machine, by name and token on any other.

The session is one cookie that the browser sends to this page only: the name, and the token or,
without tokens, a random number. The server keeps no sessions, so it may be restarted at any time.
The token against cross-site request forgery is derived from that cookie, which no other site can
read.
"""

import hashlib
import hmac
import re
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from matting.errors import InputError

COOKIE = "halosign_session"
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""Names of reviewers, nodules, digests and studies: safe in a path, and of limited length."""
TOKEN_BYTES = 32

_NAME = re.compile(NAME_PATTERN)
_SECRET = re.compile(r"[A-Za-z0-9_-]{32,128}")
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Authenticator:
    """Checks who may sign in, and whose a session is."""

    token_hashes: Mapping[str, str] | None
    """SHA-256 of each reviewer's token, by name; None if a name is enough."""

    def sign_in(self, name: str, token: str) -> str | None:
        """Return a new session for a reviewer; None if the name or token is not accepted."""
        secret = secrets.token_urlsafe(TOKEN_BYTES) if self.token_hashes is None else token
        session = f"{name}~{secret}"
        return session if self.reviewer(session) else None

    def reviewer(self, session: str | None) -> str | None:
        """Return the reviewer whose session it is; None if it is not valid."""
        name, _, secret = (session or "").partition("~")
        if not is_name(name) or not _SECRET.fullmatch(secret):
            return None
        if self.token_hashes is None:
            return name
        # An unknown name takes the same time as a wrong token.
        expected = self.token_hashes.get(name, "0" * 64)
        return name if hmac.compare_digest(_sha256(secret), expected) else None


def is_name(text: str) -> bool:
    """Return whether a text may name a reviewer, a nodule, a case or a study."""
    return bool(_NAME.fullmatch(text)) and not text.endswith("\n")


def csrf_token(session: str) -> str:
    """Derive from a session the token that a page sends with every change."""
    return hmac.new(session.encode(), b"halosign: sent by our own page", hashlib.sha256).hexdigest()


def read_tokens(path: Path) -> dict[str, str]:
    """Read the reviewers' file: on each line a name and the SHA-256 of a token.

    Raises:
        InputError: The file cannot be read, may be read by others, or holds something else.
    """
    try:
        open_to_others = path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise _bad(
            path, error, "a readable file", "Make it with `halosign review token NAME`."
        ) from error
    if open_to_others:
        raise _bad(
            path,
            "a file that others on this machine may read",
            "mode 600",
            f"Run: chmod 600 {path}",
        )
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if (
            len(words) != 2
            or not is_name(words[0])
            or not _HASH.fullmatch(words[1])
            or words[0] in found
        ):
            raise _bad(
                path,
                f"line {number}",
                "a new name and a SHA-256 on every line",
                "Add reviewers with `halosign review token NAME`.",
            )
        found[words[0]] = words[1]
    if not found:
        raise _bad(
            path, "no reviewer", "one line for each", "Add one with `halosign review token NAME`."
        )
    return found


def add_token(path: Path, name: str) -> str:
    """Add a reviewer to the file; return the token, of which only the SHA-256 is stored."""
    if not is_name(name):
        raise _bad(
            path,
            repr(name),
            "a name of letters, digits, dots, dashes and underscores",
            "Choose another name.",
        )
    if path.exists() and path.stat().st_size and name in read_tokens(path):
        raise _bad(
            path,
            f"{name}, who is in it already",
            "a new name",
            "Remove that line first to give a new token.",
        )
    token = secrets.token_urlsafe(TOKEN_BYTES)
    if not path.exists():
        path.touch(mode=0o600)
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{name} {_sha256(token)}\n")
    return token


def _sha256(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _bad(path: Path, got: object, expected: str, remedy: str) -> InputError:
    return InputError(
        f"the reviewers' file {path} cannot be used", got=got, expected=expected, remedy=remedy
    )

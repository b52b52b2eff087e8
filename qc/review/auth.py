"""Sign-in: by name on the reviewer's own machine, by name and token on any other.

The session is one cookie that the browser sends to this page only. With tokens it holds the name,
the time, a random number and their signature, whose key is the stored SHA-256 of the token: so it
is not the token, and ends when the reviewer's line leaves the reviewers' file. Without tokens it is
the name and a random number. The server keeps no sessions, so it may be restarted at any time and
several may serve one store. The token against cross-site request forgery is derived from that
cookie, which no other site can read.
"""

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from qc.review.reviewers import TOKEN_BYTES, ReviewersFile, Role, is_reviewer_name, sha256

COOKIE = "halosign_session"
SESSION_S = 30 * 86_400
"""A session ends after this time, whatever the browser keeps."""

_SECRET = re.compile(r"[A-Za-z0-9_-]{32,128}")
_SIGNED = re.compile(r"([0-9]{1,12})\.([A-Za-z0-9_-]{32,128})\.([0-9a-f]{64})")
_NOBODY = "0" * 64
"""Stands for the hash of an unknown name, so that it takes the same time as a wrong token."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is signed in."""

    name: str
    role: Role


@dataclass(frozen=True, slots=True)
class Authenticator:
    """Checks who may sign in, and whose a session is."""

    reviewers: ReviewersFile | None
    """The reviewers and their tokens; None if a name is enough, and everybody is a curator."""
    clock: Callable[[], float] = time.time

    @property
    def needs_token(self) -> bool:
        """Whether a name alone is not enough."""
        return self.reviewers is not None

    def sign_in(self, name: str, token: str) -> str | None:
        """Return a new session for a reviewer; None if the name or token is not accepted."""
        if not is_reviewer_name(name):
            return None
        nonce = secrets.token_urlsafe(TOKEN_BYTES)
        if self.reviewers is None:
            return f"{name}~{nonce}"
        if not _SECRET.fullmatch(token):
            return None
        known = self.reviewers.find(name)
        token_hash = known.token_sha256 if known else _NOBODY
        if not hmac.compare_digest(sha256(token), token_hash):
            return None
        signed = f"{int(self.clock())}.{nonce}"
        return f"{name}~{signed}.{_signature(token_hash, name, signed)}"

    def identify(self, session: str | None) -> Identity | None:
        """Return the reviewer whose session it is; None if it is not valid, or not any more."""
        name, _, secret = (session or "").partition("~")
        if not is_reviewer_name(name):
            return None
        if self.reviewers is None:
            return Identity(name, Role.CURATOR) if _SECRET.fullmatch(secret) else None
        match = _SIGNED.fullmatch(secret)
        if match is None:
            return None
        known = self.reviewers.find(name)
        token_hash = known.token_sha256 if known else _NOBODY
        signature = _signature(token_hash, name, f"{match[1]}.{match[2]}")
        is_fresh = 0 <= self.clock() - int(match[1]) <= SESSION_S
        if known is None or not hmac.compare_digest(match[3], signature) or not is_fresh:
            return None
        return Identity(name, known.role)


def csrf_token(session: str) -> str:
    """Derive from a session the token that a page sends with every change."""
    return hmac.new(session.encode(), b"halosign: sent by our own page", hashlib.sha256).hexdigest()


def _signature(token_hash: str, name: str, signed: str) -> str:
    message = f"halosign session: {name}~{signed}"
    return hmac.new(bytes.fromhex(token_hash), message.encode(), hashlib.sha256).hexdigest()

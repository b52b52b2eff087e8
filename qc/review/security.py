"""What every request passes before anything of ours sees it, and what every answer carries.

The right host on one's own machine (no other name may be made to point here), changes only from our own pages, bodies
of a known and small size; a policy that lets the browser load nothing from elsewhere.
"""

import json
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_LIMIT_BYTES = 16_384
"""No verdict is longer, its note included."""
LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


class SecurityMiddleware:
    """Turns away what no page of ours would send; adds the headers."""

    def __init__(self, app: ASGIApp, hosts: Sequence[str] | None) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        refused = self._complaint(scope["method"], Headers(scope=scope))
        if refused:
            await _answer(send_with_headers, *refused)
            return
        body = await _whole_body(receive)
        if body is None:
            await _answer(
                send_with_headers, 413, f"a request holds at most {BODY_LIMIT_BYTES} bytes"
            )
            return
        await self._app(scope, _replay(body, receive), send_with_headers)

    def _complaint(self, method: str, headers: Headers) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if self._hosts is not None and urlsplit(f"//{host}").hostname not in self._hosts:
            return 421, f"this page answers to {', '.join(self._hosts)} only"
        if method in {"GET", "HEAD"}:
            return None
        if method != "POST":
            return 405, "only GET and POST are answered"
        if not _is_from_here(headers, host):
            return 403, "changes are taken from this page only"
        length = headers.get("content-length", "")
        if not length.isdigit():
            return 411, "a change must say how long it is"
        if int(length) > BODY_LIMIT_BYTES:
            return 413, f"a request holds at most {BODY_LIMIT_BYTES} bytes"
        return None


def _is_from_here(headers: Headers, host: str) -> bool:
    site = headers.get("sec-fetch-site")
    if site is not None and site != "same-origin":
        return False
    origin = headers.get("origin")
    if origin is None:
        return site == "same-origin"
    return urlsplit(origin).netloc == host != ""


async def _whole_body(receive: Receive) -> bytes | None:
    """Read the body; None as soon as it is longer than it may be, whatever its header said."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return bytes(body)
        body += message.get("body", b"")
        if len(body) > BODY_LIMIT_BYTES:
            return None
        if not message.get("more_body"):
            return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    pending = [body]

    async def replayed() -> Message:
        if pending:
            return {"type": "http.request", "body": pending.pop(), "more_body": False}
        return await receive()

    return replayed


async def _answer(send: Send, status: int, error: str) -> None:
    body = json.dumps({"error": error}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

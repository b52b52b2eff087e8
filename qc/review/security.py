"""Checks on every request before it reaches a route, and security headers on every response.

On the reviewer's own machine the Host header must be a loopback name (against DNS rebinding);
changes come only from this page's own origin; bodies have a declared and small size; the content
security policy lets the browser load nothing from elsewhere.
"""

import ipaddress
import json
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_LIMIT_BYTES = 16_384
"""More than the longest verdict, its note included."""

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
    """Refuses requests that this page would not send; adds the headers."""

    def __init__(self, app: ASGIApp, *, local: bool) -> None:
        self._app = app
        self._local = local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with an error."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        refusal = self._refusal(scope["method"], Headers(scope=scope))
        if refusal:
            await _answer(send_with_headers, *refusal)
            return
        body = await _read_body(receive)
        if body is None:
            await _answer(
                send_with_headers, 413, f"a request holds at most {BODY_LIMIT_BYTES} bytes"
            )
            return
        await self._app(scope, _replay(body, receive), send_with_headers)

    def _refusal(self, method: str, headers: Headers) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if self._local and not is_loopback(_hostname(host)):
            return 421, "this page answers to loopback addresses and localhost only"
        if method in {"GET", "HEAD"}:
            return None
        if method != "POST":
            return 405, "only GET and POST are allowed"
        if not _is_same_origin(headers, host):
            return 403, "changes are accepted from this page only"
        length = headers.get("content-length", "")
        if not length.isdigit():
            return 411, "Content-Length is required"
        if int(length) > BODY_LIMIT_BYTES:
            return 413, f"a request holds at most {BODY_LIMIT_BYTES} bytes"
        return None


def is_loopback(host: str) -> bool:
    """Return whether a host is a loopback address or `localhost`, which no DNS entry changes."""
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_same_origin(headers: Headers, host: str) -> bool:
    site = headers.get("sec-fetch-site")
    if site is not None and site != "same-origin":
        return False
    origin = headers.get("origin")
    if origin is None:
        return site == "same-origin"
    try:
        return urlsplit(origin).netloc == host != ""
    except ValueError:
        return False


async def _read_body(receive: Receive) -> bytes | None:
    """Read the body; return None once it exceeds the limit, whatever its header declared."""
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

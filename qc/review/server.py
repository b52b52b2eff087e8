"""Runs the page: on this machine for anybody who sits at it, on any other address for those with a token only."""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from matting.errors import InputError
from qc.review.auth import Authenticator, read_tokens
from qc.review.routes import make_app
from qc.review.service import ReviewService
from storage.recipe import ReviewSettings
from storage.store import Store

LOCALHOST = "localhost"


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where the page is to be reached."""

    host: str
    port: int
    tokens: Path | None
    """The reviewers' file; needed on every address but this machine's own."""
    certificate: Path | None = None
    key: Path | None = None
    """For TLS; both or none."""

    @property
    def is_local(self) -> bool:
        """Tell whether only this machine can reach it."""
        try:
            return self.host == LOCALHOST or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def url(self) -> str:
        """Where to go."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.certificate else 'http'}://{host}:{self.port}/"


def open_authenticator(place: ServerAddress) -> Authenticator:
    """Decide who may come in; raises InputError for an address that others reach without tokens."""
    if place.tokens is None and not place.is_local:
        raise InputError(
            "others can reach this address, so every reviewer needs a token",
            got=f"--host {place.host} without --tokens",
            expected="--tokens FILE, or --host 127.0.0.1",
            remedy="Make the file with `halosign review token NAME --tokens FILE`.",
        )
    if (place.certificate is None) != (place.key is None):
        raise InputError(
            "TLS needs a certificate and its key",
            got="one of them",
            expected="--certificate FILE and --key FILE",
            remedy="Give both, or none.",
        )
    return Authenticator(read_tokens(place.tokens) if place.tokens else None)


def serve(
    store: Store,
    rule: ReviewSettings,
    place: ServerAddress,
    *,
    blind: bool,
    tell: Callable[[str], None],
) -> None:
    """Serve the page until it is interrupted; verdicts are stored before they are answered, so it may be killed.

    Args:
        store: What is reviewed.
        rule: How several people's verdicts are joined.
        place: Where.
        blind: Whether everybody reviews without names.
        tell: Says to the user where to go.
    """
    door = open_authenticator(place)
    desk = ReviewService(store, rule, blind=blind)
    count = desk.warm_up()
    secure = place.certificate is not None
    app = make_app(desk, door, local=place.is_local, secure=secure)
    tell(
        f"{count} nodules to review at {place.url}  (Ctrl-C ends it; every verdict is stored at once)"
    )
    uvicorn.run(
        app,
        host=place.host,
        port=place.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        ssl_certfile=str(place.certificate) if place.certificate else None,
        ssl_keyfile=str(place.key) if place.key else None,
        # Never believe a header about where a request comes from
        proxy_headers=False,
    )

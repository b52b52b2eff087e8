"""Run the review server: without tokens on a loopback address, with tokens on any other."""

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
    """Where the server listens."""

    host: str
    port: int
    tokens: Path | None
    """The reviewers' file; required on any address but a loopback one."""
    certificate: Path | None = None
    key: Path | None = None
    """The TLS certificate and its key; both or none."""

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return self.host == LOCALHOST or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def url(self) -> str:
        """The address to open in a browser."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.certificate else 'http'}://{host}:{self.port}/"


def open_authenticator(address: ServerAddress) -> Authenticator:
    """Return who may sign in.

    Raises:
        InputError: Other machines can reach the address and there are no tokens, or TLS has only a
            certificate or only a key.
    """
    if address.tokens is None and not address.is_local:
        raise InputError(
            "other machines can reach this address, so every reviewer needs a token",
            got=f"--host {address.host} without --tokens",
            expected="--tokens FILE, or --host 127.0.0.1",
            remedy="Make the file with `halosign review token NAME --tokens FILE`.",
        )
    if (address.certificate is None) != (address.key is None):
        raise InputError(
            "TLS needs a certificate and its key",
            got="one of them",
            expected="--certificate FILE and --key FILE",
            remedy="Give both, or none.",
        )
    return Authenticator(read_tokens(address.tokens) if address.tokens else None)


def serve(
    store: Store,
    settings: ReviewSettings,
    address: ServerAddress,
    *,
    blind: bool,
    on_ready: Callable[[str], None],
) -> None:
    """Serve the review page until interrupted. A verdict is stored before it is acknowledged.

    Args:
        store: The store under review.
        settings: How the verdicts of several people are combined.
        address: Where to listen.
        blind: Whether everybody reviews without names.
        on_ready: Called with one line that says where to go.
    """
    authenticator = open_authenticator(address)
    review = ReviewService(store, settings, blind=blind)
    count = review.warm_up()
    secure = address.certificate is not None
    app = make_app(review, authenticator, local=address.is_local, secure=secure)
    on_ready(f"{count} nodules to review at {address.url} (Ctrl-C stops it; verdicts are saved)")
    uvicorn.run(
        app,
        host=address.host,
        port=address.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        ssl_certfile=str(address.certificate) if address.certificate else None,
        ssl_keyfile=str(address.key) if address.key else None,
        # Never trust a header about where a request comes from
        proxy_headers=False,
    )

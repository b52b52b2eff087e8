"""Run the review server: without tokens on a loopback address, with tokens on any other."""

import functools
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from matting.errors import InputError
from qc.review.auth import Authenticator
from qc.review.connections import (
    ACCEPTED_AT_ONCE,
    REQUEST_S,
    ConnectionGate,
    LimitedProtocol,
    Listener,
)
from qc.review.reviewers import ReviewersFile
from qc.review.routes import make_app
from qc.review.security import is_loopback
from qc.review.service import ReviewService
from storage.recipe import ReviewSettings
from storage.store import Store


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
        return is_loopback(self.host)

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
    return Authenticator(ReviewersFile.open(address.tokens) if address.tokens else None)


def open_listener(host: str, port: int, gate: ConnectionGate) -> Listener:
    """Bind an address; raises InputError where it is none, is not this machine's, or is in use."""
    listener = None
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        listener = Listener(family, gate)
        listener.bind(address)
    except OSError as error:
        if listener is not None:
            listener.close()
        raise InputError(
            "the review page cannot listen there",
            got=f"{host}, port {port}: {error.strerror or error}",
            expected="an address of this machine and a free port",
            remedy="Give others with --host and --port, or stop what uses the port.",
        ) from error
    return listener


def make_server(
    app: ASGIApp,
    gate: ConnectionGate,
    *,
    certificate: Path | None = None,
    key: Path | None = None,
) -> uvicorn.Server:
    """Return a server of an application for a `Listener` with the same gate.

    Raises:
        InputError: The certificate or its key cannot be used.
    """
    config = uvicorn.Config(
        app,
        http=functools.partial(LimitedProtocol, gate),  # type: ignore[arg-type]
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="off",
        ws="none",
        backlog=ACCEPTED_AT_ONCE,
        timeout_graceful_shutdown=int(REQUEST_S),
        ssl_certfile=str(certificate) if certificate else None,
        ssl_keyfile=str(key) if key else None,
        # Never trust a header about where a request comes from
        proxy_headers=False,
    )
    try:
        config.load()
    except OSError as error:
        raise InputError(
            "TLS cannot be used",
            got=f"{certificate} and {key}: {error.strerror or error}",
            expected="a certificate and its private key in PEM",
            remedy="Check both files.",
        ) from error
    return uvicorn.Server(config)


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

    Raises:
        InputError: The address, the reviewers' file or the certificate cannot be used.
    """
    authenticator = open_authenticator(address)
    review = ReviewService(store, settings, blind=blind)
    secure = address.certificate is not None
    app = make_app(review, authenticator, local=address.is_local, secure=secure)
    gate = ConnectionGate()
    server = make_server(app, gate, certificate=address.certificate, key=address.key)
    with open_listener(address.host, address.port, gate) as listener:
        count = review.warm_up()
        on_ready(
            f"{count} nodules to review at {address.url} (Ctrl-C stops it; verdicts are saved)"
        )
        if not (address.is_local or secure):
            on_ready("no --certificate: tokens are readable on the way unless a TLS proxy is used")
        logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
        server.run(sockets=[listener])

"""Connections of the review server: time-outs, and limits per client and in all.

uvicorn has no time-out for a request that is begun and never finished, and its limit counts only
such connections against everybody. So each connection is registered when it is accepted, before
TLS, and from then on is in one of four stages. Where a limit is reached, the connection that can
best be spared is closed in favour of the new one: first a half request, then an idle connection,
then a response that is not read. A request that is being processed is never interrupted.
"""

import asyncio
import socket
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

PER_CLIENT_AT_MOST = 128
"""Connections of one address. Behind a proxy all reviewers have the proxy's address; a browser
opens up to six."""
IN_ALL_AT_MOST = 512
"""Connections of all clients, well below the usual limit of 1,024 open files."""
ACCEPTED_AT_ONCE = 16
"""Connections accepted before others are served: far fewer than one client may have, so that a
new connection can send its request before later ones could displace it."""
REQUEST_S = 10.0
"""Time for TLS and the head of a request, and again for its body, which is small."""
SENDING_S = 120.0
"""Time for a client to read one response."""
SWEEP_S = 1.0
"""Interval at which time-outs are checked."""


class Stage(IntEnum):
    """What a connection waits for; the lower, the sooner it can be spared."""

    RECEIVING = 0
    """For the rest of a request."""
    IDLE = 1
    """For the next request; uvicorn closes it after five seconds."""
    SENDING = 2
    """For the client to read a response."""
    PROCESSING = 3
    """For the application."""


TIME_OUTS_S = {Stage.RECEIVING: REQUEST_S, Stage.IDLE: REQUEST_S, Stage.SENDING: SENDING_S}


@dataclass(slots=True, eq=False)
class Connection:
    """One connection, from being accepted until its socket is closed."""

    socket: socket.socket
    client: str
    since: float
    """When its stage began, by the event loop's clock."""
    protocol: "LimitedProtocol | None" = None
    """None until TLS is agreed on."""
    stage: Stage = Stage.RECEIVING

    @property
    def is_open(self) -> bool:
        """Whether the socket is open still."""
        return self.socket.fileno() >= 0

    def update(self, now: float) -> None:
        """Set the stage, and its beginning where it is a new one."""
        stage = self.protocol.stage if self.protocol else Stage.RECEIVING
        if stage != self.stage:
            self.stage, self.since = stage, now

    def close(self) -> None:
        """Close it, whatever it does."""
        if self.protocol is not None:
            self.protocol.transport.abort()
        elif self.is_open:
            self.socket.shutdown(socket.SHUT_RDWR)


@dataclass(slots=True)
class ConnectionGate:
    """All connections of a server."""

    per_client: int = PER_CLIENT_AT_MOST
    in_all: int = IN_ALL_AT_MOST
    _known: dict[tuple[str, int], Connection] = field(default_factory=dict)
    """By the client's address and port."""
    _is_sweeping: bool = False

    @property
    def open_count(self) -> int:
        """How many connections are open."""
        return sum(one.is_open for one in self._known.values())

    def admit(self, accepted: socket.socket, address: tuple[Any, ...]) -> None:
        """Register a new connection; close it, or one that can be spared, where a limit is met."""
        loop = asyncio.get_running_loop()
        client = str(address[0])
        new = Connection(accepted, client, loop.time())
        self._forget_closed()
        theirs = [one for one in self._known.values() if one.client == client]
        if len(theirs) >= self.per_client:
            self._spare(theirs, new)
        elif len(self._known) >= self.in_all:
            self._spare(list(self._known.values()), new)
        if new.is_open:
            self._known[client, int(address[1])] = new
        if not self._is_sweeping:
            self._is_sweeping = True
            loop.call_later(SWEEP_S, self._sweep)

    def find(self, address: tuple[Any, ...]) -> Connection | None:
        """Return the connection from an address and port; None if it was refused."""
        return self._known.get((str(address[0]), int(address[1])))

    def _spare(self, candidates: list[Connection], new: Connection) -> None:
        now = asyncio.get_running_loop().time()
        for one in candidates:
            one.update(now)
        spared = min(candidates, key=lambda one: (one.stage, one.since))
        if spared.stage == Stage.PROCESSING:
            spared = new
        spared.close()
        self._forget(spared)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self._forget_closed()
        for one in list(self._known.values()):
            one.update(loop.time())
            if loop.time() - one.since > TIME_OUTS_S.get(one.stage, float("inf")):
                one.close()
        self._is_sweeping = bool(self._known)
        if self._is_sweeping:
            loop.call_later(SWEEP_S, self._sweep)

    def _forget_closed(self) -> None:
        for one in [one for one in self._known.values() if not one.is_open]:
            self._forget(one)

    def _forget(self, connection: Connection) -> None:
        for key in [key for key, one in self._known.items() if one is connection]:
            del self._known[key]


class Listener(socket.socket):
    """A listening TCP socket whose connections pass a gate."""

    def __init__(self, family: socket.AddressFamily, gate: ConnectionGate) -> None:
        super().__init__(family, socket.SOCK_STREAM)
        self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._gate = gate

    def listen(self, _: int = 0, /) -> None:
        """Listen with the longest queue that the system allows, whatever is accepted at once."""
        super().listen(socket.SOMAXCONN)

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection and register it."""
        accepted, address = super().accept()
        self._gate.admit(accepted, address)
        return accepted, address


class LimitedProtocol(H11Protocol):
    """uvicorn's protocol, which lets the gate know what its connection waits for."""

    def __init__(self, gate: ConnectionGate, **uvicorn_values: Any) -> None:
        super().__init__(**uvicorn_values)
        self._gate = gate
        self._connection: Connection | None = None

    @property
    def stage(self) -> Stage:
        """What the connection waits for now."""
        if self.transport.get_write_buffer_size():
            return Stage.SENDING
        if self.cycle is not None and not self.cycle.response_complete:
            return Stage.RECEIVING if self.cycle.more_body else Stage.PROCESSING
        is_partial = self.conn.trailing_data[0] or self.conn.their_state is h11.SEND_BODY
        return Stage.RECEIVING if self.cycle is None or is_partial else Stage.IDLE

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, once TLS is agreed on where there is TLS; close what the gate refused."""
        super().connection_made(transport)
        self._connection = self._gate.find(transport.get_extra_info("peername"))
        if self._connection is None:
            transport.abort()
        else:
            self._connection.protocol = self

    def data_received(self, data: bytes) -> None:
        """Receive; a time-out begins with a request and is not extended by each byte of it."""
        known, was_idle = self.cycle, self.stage == Stage.IDLE
        super().data_received(data)
        if was_idle or self.cycle is not known:
            self._restart_time_out()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._restart_time_out()

    def _restart_time_out(self) -> None:
        if self._connection is not None:
            self._connection.since = self.loop.time()

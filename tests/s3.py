"""A bucket to test on: moto's server as a process, and a proxy before it that fails on command."""

import contextlib
import http.client
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BUCKET = "halosign"
PATIENCE_S = 120
ENVIRONMENT = {
    "AWS_ALLOW_HTTP": "true",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_REGION": "us-east-1",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def moto_server() -> Iterator[int]:
    """An S3 server with one bucket; gives its port."""
    port = free_port()
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "moto.server",
        "-H",
        "127.0.0.1",
        "-p",
        str(port),
    ]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
                connection.request("PUT", f"/{BUCKET}")
                assert connection.getresponse().status == 200
                break
            except OSError:
                if time.monotonic() > until or server.poll() is not None:
                    raise
                time.sleep(0.1)
        yield port
    finally:
        server.kill()
        server.wait()


@dataclass
class Proxy:
    """Passes requests on, counts them, and misbehaves while `mode` says so."""

    server_port: int
    mode: str = "pass"
    """pass; 403, 503: refuses; reset: cuts the connection; lost: does what was asked, then cuts
    it."""
    conflicts: int = 0
    """So many of the next writes are answered with 409."""
    fail_times: int | None = None
    """So often, then it is well again; None for as long as `mode` says."""
    requests: list[tuple[str, str]] = field(default_factory=list)
    """Method and path with query, in order."""
    port: int = field(init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> "Proxy":
        self._http = ThreadingHTTPServer(
            ("127.0.0.1", 0), type("ProxyHandler", (Handler,), {"proxy": self})
        )
        self._http.daemon_threads = True
        self.port = self._http.server_address[1]
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    @property
    def environment(self) -> dict[str, str]:
        return {**ENVIRONMENT, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}"}

    def next_mode(self) -> str:
        with self._lock:
            mode = self.mode
            if mode != "pass" and self.fail_times is not None:
                self.fail_times -= 1
                if self.fail_times == 0:
                    self.mode = "pass"
        return mode

    @contextlib.contextmanager
    def failing(self, mode: str) -> Iterator[None]:
        self.mode, self.fail_times = mode, None
        yield
        self.mode = "pass"


class Handler(BaseHTTPRequestHandler):
    proxy: Proxy
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        mode = self.proxy.next_mode()
        if self.command == "PUT" and self.proxy.conflicts:
            self.proxy.conflicts -= 1
            mode = "409"
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.proxy.requests.append((self.command, self.path))
        if mode == "reset":
            self.cut()
        elif mode in REFUSALS:
            self.reply(int(mode), {}, f"<Error><Code>{REFUSALS[mode]}</Code></Error>".encode())
        else:
            status, headers, content = self.pass_on(body)
            if mode == "lost":
                self.cut()
            else:
                self.reply(status, headers, content)

    def pass_on(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        upstream = http.client.HTTPConnection(
            "127.0.0.1", self.proxy.server_port, timeout=PATIENCE_S
        )
        upstream.request(self.command, self.path, body, dict(self.headers.items()))
        answer = upstream.getresponse()
        content = answer.read()
        upstream.close()
        kept = {name: value for name, value in answer.getheaders() if name.lower() not in DROPPED}
        length = answer.getheader("Content-Length")
        return answer.status, kept | {"Content-Length": length or str(len(content))}, content

    def reply(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response_only(status)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def cut(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def finish(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            super().finish()

    def log_message(self, *_: object) -> None:
        pass

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer


REFUSALS = {"403": "AccessDenied", "409": "ConditionalRequestConflict", "503": "SlowDown"}
"""Codes by status."""
DROPPED = {"connection", "transfer-encoding", "content-length"}


@contextlib.contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """Set variables for a while, for this process and those it starts."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value

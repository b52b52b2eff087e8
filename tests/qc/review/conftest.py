"""The page in this process for what is said and refused, and as a user starts it for what a browser
does."""

import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from qc.review.auth import Authenticator
from qc.review.connections import ConnectionGate
from qc.review.reviewers import ReviewersFile
from qc.review.routes import make_app
from qc.review.server import make_server, open_listener
from qc.review.service import ReviewService
from qc.review.sign_in import CSRF_HEADER
from storage.cases.outcomes import find_outcome
from storage.recipe import ReviewSettings
from storage.store import Store
from tests.reviewable import reviewable_store

ROOT = Path(__file__).parents[3]
PATIENCE_S = 120


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class InThisProcess:
    """The page on a port, in a thread of this process."""

    def __init__(
        self,
        app: Any,
        gate: ConnectionGate | None = None,
        certificate: tuple[Path, Path] | tuple[None, None] = (None, None),
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        gate = gate or ConnectionGate()
        self._server = make_server(app, gate, certificate=certificate[0], key=certificate[1])
        listener = open_listener("127.0.0.1", self.port, gate)
        self._thread = threading.Thread(target=self._server.run, args=([listener],))
        self._thread.start()
        wait_until(lambda: self._server.started)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


class Caller:
    """A reviewer who speaks HTTP."""

    def __init__(self, url: str, store: Store, name: str, token: str = "") -> None:
        self.client = httpx.Client(base_url=url, timeout=PATIENCE_S, trust_env=False)
        self.url, self.store, self.name = url, store, name
        self.client.post("/sign-in", data={"name": name, "token": token}, headers={"origin": url})
        found = re.search(r'data-csrf-token="([0-9a-f]{64})"', self.client.get("/").text)
        self.csrf_token = found.group(1) if found else ""
        self.sent = 0

    def verdict(
        self, nodule: str = "P-1-a1", verdict: str = "choose", **more: Any
    ) -> dict[str, Any]:
        self.sent += 1
        outcome = find_outcome(self.store, nodule)
        basis = {
            "id": f"{self.name.encode().hex():0>8}{self.sent:024x}"[-32:],
            "reviewer": self.name,
            "nodule": nodule,
            "digest": outcome.digest if outcome else "none",
            "verdict": verdict,
        }
        return {**basis, **({"place": 1} if verdict == "choose" else {}), **more}

    def send_verdict(self, verdict: Any, **headers: str) -> httpx.Response:
        standard = {"origin": self.url, CSRF_HEADER: self.csrf_token}
        return self.client.post("/api/verdicts", json=verdict, headers={**standard, **headers})


@pytest.fixture
def reviewed(tmp_path: Path) -> Store:
    return reviewable_store(tmp_path / "store")


@pytest.fixture
def enter(reviewed: Store) -> Iterator[Callable[..., Caller]]:
    """Let a reviewer in; several share one page."""
    pages: dict[Any, InThisProcess] = {}
    callers: list[Caller] = []

    def caller(
        name: str = "ann", *, blind: bool = False, token: str = "", tokens: Path | None = None
    ) -> Caller:
        key = (blind, bool(tokens))
        if key not in pages:
            pages[key] = InThisProcess(
                make_app(
                    ReviewService(reviewed, ReviewSettings(), blind=blind),
                    Authenticator(ReviewersFile.open(tokens) if tokens else None),
                    local=True,
                )
            )
        callers.append(Caller(pages[key].url, reviewed, name, token))
        return callers[-1]

    yield caller
    for one in callers:
        one.client.close()
    for page in pages.values():
        page.stop()


class Page:
    """The page as a user starts it, which can be killed and started again."""

    def __init__(self, store: str, port: int, *options: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._command = [
            sys.executable,
            "-m",
            "flows.cli",
            "review",
            "serve",
            "--store",
            store,
            "--port",
            str(port),
        ]
        self._command += options
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        wait_until(self._is_up)

    def _is_up(self) -> bool:
        assert self._process.poll() is None, "the page ended by itself"
        try:
            return httpx.get(f"{self.url}/health", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def page_of() -> Iterator[Callable[..., Page]]:
    started: list[Page] = []

    def start(store: Store, *options: str) -> Page:
        started.append(Page(store.url, free_port(), *options))
        return started[-1]

    yield start
    for page in started:
        page.kill()


@pytest.fixture
def visit(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Open a browser of one's own at a page, as a reviewer; errors in the page fail the test."""
    contexts, complaints = [], []

    def open_page(url: str, name: str = "ann", *, width: int = 1280, height: int = 800) -> Any:
        context = chromium.new_context(viewport={"width": width, "height": height})
        context.set_default_timeout(PATIENCE_S * 1000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(url)
        page.fill("#name", name)
        page.keyboard.press("Enter")
        page.wait_for_selector("main.wide")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []

"""The review server is struck at a random system call while verdicts are sent to it."""

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from flows.cli.commands import INTERRUPTED
from storage.reviews.verdicts import read_verdicts
from tests.faults.commands import damages, store_in
from tests.faults.disk_faults import FAULTS, FaultyDisk
from tests.faults.harness import CommandReport, seeds
from tests.faults.test_commands import stages
from tests.flows.conftest import environment, halosign
from tests.qc.review.conftest import PATIENCE_S, Caller
from tests.s3 import free_port

__all__ = ["environment", "halosign", "stages"]

VERDICTS = 16
SEEDS = 4
CODES = {
    "kill": {-signal.SIGKILL},
    "term": {INTERRUPTED},
    "write-eio": {INTERRUPTED},
    "write-enospc": {INTERRUPTED},
    "read-eio": {INTERRUPTED, 2},
}
"""How the server may end, which is terminated in the end; 2 where it could not start."""


@dataclass
class Server:
    """The page as a user starts it."""

    folder: Path
    disk: FaultyDisk
    port: int = field(default_factory=free_port)

    def __enter__(self) -> "Server":
        self.log = self.folder.with_name(f"{self.port}.log")
        command = ["review", "serve", "--store", f"{self.folder}/store", "--port", f"{self.port}"]
        with self.log.open("wb") as words:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "flows.cli", *command],
                env={**os.environ, **self.disk.environment},
                stdout=words,
                stderr=words,
                start_new_session=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def is_up(self) -> bool:
        """Wait until the page answers; False where the server ended instead."""
        until = time.monotonic() + PATIENCE_S
        while self._process.poll() is None:
            assert time.monotonic() < until, "waited in vain"
            try:
                if httpx.get(f"{self.url}/health", trust_env=False).status_code == 200:
                    return True
            except httpx.TransportError:
                time.sleep(0.1)
        return False

    def stop(self) -> int:
        """Terminate it, if it did not end; return its exit code."""
        self._process.terminate()
        return self._process.wait(timeout=PATIENCE_S)


def review(server: Server) -> set[str]:
    """Send verdicts until the server is gone; return the ids of those that it acknowledged."""
    store, acknowledged = store_in(server.folder), set()
    if not server.is_up():
        return set()
    caller = None
    try:
        caller = Caller(server.url, store, "ann")
        for n in range(VERDICTS):
            verdict = caller.verdict(f"n{n % 8}", "discard", reason="other")
            answer = caller.send_verdict(verdict)
            if answer.is_success:
                acknowledged.add(verdict["id"])
            else:
                assert answer.status_code == 503, answer.text
    except httpx.TransportError:
        pass  # it is gone
    finally:
        if caller:
            caller.client.close()
    return acknowledged


def recorded(folder: Path) -> list[str]:
    """Return the ids of the stored verdicts."""
    store = store_in(folder)
    return [one.id for n in range(8) for one in read_verdicts(store, f"n{n}")]


@pytest.fixture(scope="module")
def calls(library, stages, tmp_path_factory):
    """Return the calls of a server that nothing happens to."""
    folder = stages.copy("curated", tmp_path_factory.mktemp("undisturbed") / "work")
    with Server(folder, FaultyDisk(library, folder)) as server:
        assert len(review(server)) == VERDICTS
        assert server.stop() == INTERRUPTED
    return server.disk.calls


@pytest.mark.slow
@pytest.mark.parametrize("seed", seeds(SEEDS))
@pytest.mark.parametrize("fault", FAULTS)
def test_no_acknowledged_verdict_is_lost(fault, seed, calls, library, stages, reports, tmp_path):
    dice = random.Random(f"{fault} {seed}")
    folder = stages.copy("curated", tmp_path / "work")
    at = dice.randrange(calls.of(fault)) + 1
    with Server(folder, FaultyDisk(library, folder, fault, at, lasts=seed % 2 == 0)) as server:
        acknowledged = review(server)
        code = server.stop()
    words = server.log.read_text()
    print(f"call {at} of {calls.of(fault)}: {code}, {len(acknowledged)} acknowledged\n{words}")
    assert code in CODES[fault]
    assert ("every verdict that was acknowledged is stored" in words) == (code == INTERRUPTED)
    lost = acknowledged - set(recorded(folder))
    with Server(folder, FaultyDisk(library, folder)) as server:
        again = review(server)
        assert server.stop() == INTERRUPTED
    words += server.log.read_text()
    report = CommandReport(
        "review serve",
        fault,
        seed,
        code,
        lost=len(lost),
        damaged=len(damages(folder)),
        tracebacks=words.count("Traceback"),
        other_bytes=len(again) < VERDICTS or sorted(recorded(folder)) != sorted(again),
    )
    print(report)
    reports.append(report)
    assert report.is_harmless

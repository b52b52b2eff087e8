"""The review server under attack, while one reviewer works on.

    python -m benchmarks.attack_review

Attackers are processes of their own on this machine and have the reviewer's own address, which is
the worst case. 2,000 connections are held half open and opened again when they are closed; 10,000
wrong tokens are sent; and 1,000 requests that no page of ours sends, made from the kinds of
tests/qc/review/test_hostile.py. Wanted: the reviewer's 95th percentile below 300 ms, not a byte
written, and memory that does not grow.
"""

import http.client
import json
import multiprocessing
import os
import random
import selectors
import socket
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, MutableSequence
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from benchmarks.measure import command_line, save, table
from benchmarks.review import Served
from qc.review.auth import COOKIE, csrf_token
from qc.review.reviewers import Role, add_reviewer
from qc.review.sign_in import CSRF_HEADER
from tests.qc.review.test_hostile import PATHS, PLACES, WRONG_VALUES
from tests.reviewable import reviewable_store

HALF_OPEN, WRONG_TOKENS, HOSTILE = 2_000, 10_000, 1_000
ATTACKERS = 4
REOPENED_AT_ONCE = 5
"""Connections that an attacker opens again every tenth of a second."""
REQUESTS_AT_LEAST = 200
"""The reviewer's requests in each phase; a phase lasts until its attack is over, too."""
ATTACKS = HALF_OPEN + WRONG_TOKENS + HOSTILE
WANTED_P95_MS, WANTED_GROWTH_MB, WANTED_LOG_BYTES = 300, 32, 100_000
ADDRESSES = ("/", "/api/last", "/nodule/P-1-a1", "/api/nodule/P-2-a2")
HALVES = (b"", b"GET / HT", b"POST /sign-in HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\nname")

Answers = MutableSequence[tuple[str, int]]
"""Kind of attack and status."""


def main() -> None:
    command_line(__doc__).parse_args()
    report = attack()
    rows = [
        (name, *(phase[key] for key in ("requests", "p95_ms", "most_ms", "memory_mb")))
        for name, phase in report["phases"].items()
    ]
    print(table(("phase", "requests", "p95, ms", "most, ms", "memory, MB"), rows))
    print(f"answers to wrong tokens: {report['wrong_token_answers']}")
    print(f"answers to hostile requests: {report['hostile_answers']}")
    print(f"files of the store changed: {report['files_changed']}")
    print(f"log: {report['log_bytes']} bytes, {report['tracebacks']} tracebacks")
    print("not as wanted:", "; ".join(broken_promises(report)) or "nothing")
    save("attack_review", report)


def attack() -> dict[str, Any]:
    """Run all phases; return their numbers."""
    with tempfile.TemporaryDirectory() as folder:
        store = reviewable_store(Path(folder) / "store")
        file = Path(folder) / "reviewers.txt"
        token = add_reviewer(file, "ann", Role.CURATOR)
        before = contents(store.url)
        log_path = Path(folder) / "log"
        options = ("--host", "0.0.0.0", "--tokens", str(file))
        with log_path.open("wb") as log, Served(store.url, *options, log=log) as page:
            ann = sign_in(page.url, token)
            answers = multiprocessing.Manager().list()
            phases = {
                "undisturbed": measure(page, ann),
                f"{HALF_OPEN} half-open connections": under(
                    page, ann, hold_half_open, HALF_OPEN, multiprocessing.Event()
                ),
                f"{WRONG_TOKENS} wrong tokens": under(
                    page, ann, send_wrong_tokens, WRONG_TOKENS, answers
                ),
                f"{HOSTILE} hostile requests": under(
                    page, ann, send_hostile, HOSTILE, ann.cookies[COOKIE].strip('"'), answers
                ),
                "undisturbed again": measure(page, ann),
            }
            ann.close()
        token_answers = Counter(status for kind, status in answers if kind == "token")
        hostile_answers = Counter(status for kind, status in answers if kind == "hostile")
        return {
            "cores": os.cpu_count(),
            "load": os.getloadavg()[0],
            "phases": phases,
            "wrong_token_answers": token_answers,
            "hostile_answers": hostile_answers,
            "files_changed": sum(before.get(k) != v for k, v in contents(store.url).items()),
            "log_bytes": log_path.stat().st_size,
            "tracebacks": log_path.read_bytes().count(b"Traceback"),
        }


def broken_promises(report: dict[str, Any]) -> list[str]:
    """Return in words what did not hold."""
    phases = report["phases"]
    memory = [phase["memory_mb"] for phase in phases.values()]
    broken = [
        f"{name}: p95 {phase['p95_ms']:.0f} ms"
        for name, phase in phases.items()
        if phase["p95_ms"] >= WANTED_P95_MS
    ]
    if max(memory) - memory[0] > WANTED_GROWTH_MB:
        broken.append(f"memory grew by {max(memory) - memory[0]:.0f} MB")
    if report["log_bytes"] > WANTED_LOG_BYTES:
        broken.append(f"{report['log_bytes']} bytes of log")
    for fault in ("files_changed", "tracebacks"):
        if report[fault]:
            broken.append(f"{report[fault]} {fault}")
    accepted = {
        status
        for kind in ("wrong_token_answers", "hostile_answers")
        for status in report[kind]
        if not 400 <= status < 500
    }
    if accepted:
        broken.append(f"answers {sorted(accepted)} to what must be refused")
    return broken


def contents(folder: str) -> dict[str, bytes]:
    """Return the bytes of all files of a folder."""
    return {str(p): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


def sign_in(url: str, token: str) -> httpx.Client:
    """Return the reviewer's client, signed in."""
    client = httpx.Client(base_url=url, timeout=120, trust_env=False)
    client.post("/sign-in", data={"name": "ann", "token": token}, headers={"origin": url})
    client.get("/api/last").raise_for_status()
    return client


def measure(
    page: Served, ann: httpx.Client, goes_on: Callable[[], bool] = lambda: False
) -> dict[str, float]:
    """Let the reviewer work; return milliseconds of the requests and the server's memory."""
    taken: list[float] = []
    while len(taken) < REQUESTS_AT_LEAST or goes_on():
        for address in ADDRESSES:
            # As a browser that opens a new connection each time: the harder case
            with httpx.Client(cookies=ann.cookies, timeout=120, trust_env=False) as client:
                begun = time.perf_counter()
                client.get(f"{page.url}{address}").raise_for_status()
                taken.append(1000 * (time.perf_counter() - begun))
    return {
        "requests": len(taken),
        "median_ms": statistics.median(taken),
        "p95_ms": statistics.quantiles(taken, n=20)[-1],
        "most_ms": max(taken),
        "memory_mb": page.memory_bytes / 1e6,
    }


def under(
    page: Served, ann: httpx.Client, attacker: Callable[..., None], count: int, *values: object
) -> dict[str, float]:
    """Measure while attackers, each with a share of the count, are at work."""
    workers = [
        multiprocessing.Process(
            target=attacker, args=(page.url, range(n, count, ATTACKERS), *values), daemon=True
        )
        for n in range(ATTACKERS)
    ]
    for worker in workers:
        worker.start()
    time.sleep(2)
    stop = next((value for value in values if hasattr(value, "set")), None)
    measured = measure(page, ann, lambda: not stop and any(w.is_alive() for w in workers))
    if stop:
        stop.set()
    for worker in workers:
        worker.join()
    return measured


def hold_half_open(url: str, share: range, stop: Event) -> None:
    """Hold a share of the connections half open; reopen those that are closed, some at a time."""
    place = (urlsplit(url).hostname, urlsplit(url).port)
    selector = selectors.DefaultSelector()
    at_once = len(share)
    while not stop.is_set():
        for n in share[: min(at_once, len(share) - len(selector.get_map()))]:
            one = socket.socket()
            one.settimeout(30)
            try:
                one.connect(place)
                one.sendall(HALVES[n % len(HALVES)])
                one.setblocking(False)
                selector.register(one, selectors.EVENT_READ, one)
            except OSError:
                one.close()
        at_once = REOPENED_AT_ONCE
        time.sleep(0.1)
        for key, _ in selector.select(0):
            selector.unregister(key.fileobj)
            key.data.close()


def send_wrong_tokens(url: str, share: range, answers: Answers) -> None:
    """Send a share of the wrong tokens, for a known name, an unknown one and ever new ones."""
    host = urlsplit(url).netloc
    headers = {"origin": f"http://{host}", "content-type": "application/x-www-form-urlencoded"}
    got = []
    with keep_alive(host) as request:
        for n in share:
            name = ("ann", "eve", f"x{n}")[n % 3]
            body = f"name={name}&token={n:043d}".encode()
            got.append(("token", request("POST", "/sign-in", body, headers)))
    answers.extend(got)


def send_hostile(url: str, share: range, session: str, answers: Answers) -> None:
    """Send a share of the hostile requests with the reviewer's own session."""
    host = urlsplit(url).netloc
    drawn = random.Random(share.start)
    headers = {
        "origin": f"http://{host}",
        "cookie": f"{COOKIE}={session}",
        "content-type": "application/json",
        CSRF_HEADER: csrf_token(session),
    }
    said = {
        "id": "a" * 32,
        "reviewer": "ann",
        "nodule": "P-1-a1",
        "digest": "01" * 32,
        "verdict": "choose",
        "place": 1,
    }
    got = []
    with keep_alive(host) as request:
        for n in share:
            if n % 2:
                target, body = "/api/verdicts", {**said, **drawn.choice(WRONG_VALUES)}
                status = request("POST", target, json.dumps(body).encode(), headers)
            else:
                target = drawn.choice(PLACES).format(drawn.choice(PATHS))
                status = request("GET", target, None, headers)
            got.append(("hostile", status))
    answers.extend(got)


@contextmanager
def keep_alive(host: str) -> Iterator[Callable[..., int]]:
    """Yield a function that sends a request and returns its status, reconnecting where needed."""
    connection = http.client.HTTPConnection(host, timeout=120)

    def request(method: str, target: str, body: bytes | None, headers: dict[str, str]) -> int:
        for _ in range(2):
            try:
                connection.putrequest(method, target, skip_accept_encoding=True)
                for name, text in headers.items():
                    connection.putheader(name, text)
                if body is not None:
                    connection.putheader("content-length", str(len(body)))
                connection.endheaders(body)
                answer = connection.getresponse()
                answer.read()
                return answer.status
            except (http.client.HTTPException, OSError):
                connection.close()
        return 0

    try:
        yield request
    finally:
        connection.close()


if __name__ == "__main__":
    main()

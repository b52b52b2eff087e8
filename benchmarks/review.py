"""Speed of the review page: the next nodule after a verdict, scrolling, twenty reviewers.

    python -m benchmarks.review [--nodules 16]

Server, browser and reviewers share this machine's cores. The nodules are real ones (synthetic
nodules where there are none) at the chain's own resolution, the largest first. In the browser:
milliseconds from the key that decides until the next nodule has been drawn, and frames a second
while slices are scrolled, at 1920 x 1080 without a graphics card. Load: each reviewer in a thread
of its own fetches a nodule, its CT and its overlays, decides and goes on without pause.
"""

import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from typing import IO, TYPE_CHECKING, Any

import httpx
import psutil

from benchmarks.measure import command_line, save, table
from benchmarks.nodules import Ready, case_facts, nodules
from matting import METHODS, estimate_alphas
from qc.review.auth import COOKIE, csrf_token
from qc.review.sign_in import CSRF_HEADER
from storage.cases.case import NewCase, write_case
from storage.cases.outcomes import write_outcome
from storage.records import Outcome
from storage.reviews.verdicts import read_verdicts
from storage.store import Store, open_store

if TYPE_CHECKING:
    from playwright.sync_api import Page

REVIEWERS, DECISIONS_EACH = 20, 25
STEPS = 60
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
]
FLAGS += ["--disable-component-update", "--disable-sync"]
WANTED_NEXT_MS, WANTED_FRAMES, WANTED_P95_MS = 150, 30, 300
SCROLL = """async ([steps]) => {
  const pane = document.querySelector("[data-plane=axial]");
  const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
  await frame();
  const start = performance.now();
  for (let n = 0; n < steps; n++) {
    const deltaY = Math.floor(n / 10) % 2 ? 1 : -1;
    pane.dispatchEvent(new WheelEvent("wheel", { deltaY, cancelable: true }));
    await frame();
  }
  return (1000 * steps) / (performance.now() - start);
}"""


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--nodules", type=int, default=16)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(folder, create=True)
        sizes = [fill(store, ready) for ready in nodules(arguments.nodules, largest=2)]
        load_before = os.getloadavg()[0]
        with Served(folder) as page:
            browser = in_the_browser(page.url)
            load = many_at_once(page.url, store)
    report = {
        "cores": os.cpu_count(),
        "nodules": len(sizes),
        "largest_voxels": max(sizes),
        **browser,
        **load,
    }
    report["load"] = load_before
    report["median_voxels"] = int(statistics.median(sizes))
    print(table(("", "measured", "wanted"), as_rows(report)))
    save("review", report)


def as_rows(report: dict[str, Any]) -> list[tuple[object, ...]]:
    return [
        ("next nodule, median ms", report["next_ms_median"], f"at most {WANTED_NEXT_MS}"),
        ("next nodule, worst ms", report["next_ms_most"], ""),
        ("first nodule with its images, ms", report["first_ms"], ""),
        (
            "scrolling, frames/s, largest nodule",
            report["frames_per_s"],
            f"at least {WANTED_FRAMES}",
        ),
        ("CPU ms a frame, all browser processes", report["frame_cpu_ms"], ""),
        ("frames/s, all eight large", report["frames_per_s_grid"], ""),
        (f"{REVIEWERS} reviewers, decision, median ms", report["decision_ms_median"], ""),
        (
            f"{REVIEWERS} reviewers, decision, p95 ms",
            report["decision_ms_p95"],
            f"below {WANTED_P95_MS}",
        ),
        ("decisions sent", report["decisions_sent"], ""),
        ("decisions lost", report["decisions_lost"], 0),
    ]


def fill(store: Store, ready: Ready) -> int:
    """Store one nodule with its eight mattes as a finished case; return its voxels."""
    solved = estimate_alphas(ready.image_hu, ready.labels, spacing_mm=ready.spacing_mm)
    digest = f"{len(ready.id):02x}" * 32
    alphas = {
        method: solved[method].alpha if solved[method].converged else None for method in METHODS
    }
    facts = case_facts(ready.id, digest, ready.patch.grid, METHODS)
    write_case(store, NewCase(facts, ready.patch, ready.labels, alphas))
    write_outcome(store, Outcome(ready.id, ready.id, "done", "write", digest=digest))
    return int(ready.labels.size)


class Served:
    """The page in a process of its own, as a user starts it."""

    def __init__(self, folder: str, *options: str, log: IO[bytes] | None = None) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        command = [
            sys.executable,
            "-m",
            "flows.cli",
            "review",
            "serve",
            "--store",
            folder,
            "--port",
            str(port),
            *options,
        ]
        self._process = subprocess.Popen(command, stderr=log)

    def __enter__(self) -> "Served":
        while self._process.poll() is None:
            try:
                httpx.get(f"{self.url}/health", trust_env=False)
                return self
            except httpx.TransportError:
                time.sleep(0.1)
        raise RuntimeError("the page did not come up")

    @property
    def memory_bytes(self) -> int:
        """Resident memory of the server."""
        return int(psutil.Process(self._process.pid).memory_info().rss)

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()


def in_the_browser(url: str) -> dict[str, Any]:
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, headless=True, args=FLAGS)
        page = browser.new_page(viewport={"width": 1920, "height": 1080})
        page.goto(f"{url}/sign-in")
        page.fill("#name", "timer")
        page.keyboard.press("Enter")
        page.wait_for_selector("main.wide")
        page.goto(f"{url}/?show=all&sort=largest")
        first = page.get_attribute("a.primary", "href")
        begun = time.perf_counter()
        page.goto(url + str(first))
        page.wait_for_selector("body[data-shown]")
        first_ms = 1000 * (time.perf_counter() - begun)
        frames, frame_cpu_ms = scroll(page)
        page.keyboard.press("g")
        grid, grid_cpu_ms = scroll(page)
        page.keyboard.press("g")
        taken = decide_all(page)
        browser.close()
    return {
        "next_ms_median": statistics.median(taken),
        "next_ms_most": max(taken),
        "next_ms": [round(ms, 1) for ms in taken],
        "first_ms": first_ms,
        "frames_per_s": frames,
        "frame_cpu_ms": frame_cpu_ms,
        "frames_per_s_grid": grid,
        "frame_cpu_ms_grid": grid_cpu_ms,
    }


def scroll(page: "Page") -> tuple[float, float]:
    """Return frames a second, and CPU milliseconds a frame over all of the browser's processes."""
    before = browser_cpu_s()
    frames = [float(page.evaluate(SCROLL, [STEPS])) for _ in range(3)]
    return statistics.median(frames), 1000 * (browser_cpu_s() - before) / (3 * STEPS)


def browser_cpu_s() -> float:
    spent = [
        child.cpu_times()
        for child in psutil.Process().children(recursive=True)
        if "chrom" in child.name()
    ]
    return sum(times.user + times.system for times in spent)


def decide_all(page: "Page") -> list[float]:
    """Decide nodule after nodule; return the milliseconds until each next one was drawn."""
    count = 0
    while page.get_attribute("#next", "disabled") is None:
        upcoming = page.evaluate("JSON.stringify(document.body.dataset.shown)").strip('"')
        page.wait_for_selector(f"body[data-ready]:not([data-ready='{upcoming}'])")
        page.keyboard.press("1")
        page.wait_for_selector(f"body:not([data-shown='{upcoming}'])")
        count += 1
    measured = page.evaluate(
        "performance.getEntriesByName('next-nodule').map((entry) => entry.duration)"
    )
    if len(measured) != count:
        raise RuntimeError(f"{count} decisions, {len(measured)} measured")
    return [float(ms) for ms in measured]


def many_at_once(url: str, store: Store) -> dict[str, Any]:
    taken: list[float] = []
    sent: list[tuple[str, str]] = []
    workers = [
        threading.Thread(target=one_reviewer, args=(url, n, taken, sent)) for n in range(REVIEWERS)
    ]
    begun = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    wall_s = time.perf_counter() - begun
    stored = {
        (nodule, d.id) for nodule in {n for n, _ in sent} for d in read_verdicts(store, nodule)
    }
    if len(sent) != REVIEWERS * DECISIONS_EACH:
        raise RuntimeError(
            f"{len(sent)} decisions were answered, {REVIEWERS * DECISIONS_EACH} wanted"
        )
    return {
        "reviewers": REVIEWERS,
        "decision_ms_median": statistics.median(taken),
        "decision_ms_p95": statistics.quantiles(taken, n=20)[-1],
        "decisions_sent": len(sent),
        "decisions_lost": len(set(sent) - stored),
        "decisions_per_s": len(sent) / wall_s,
    }


def one_reviewer(url: str, number: int, taken: list[float], sent: list[tuple[str, str]]) -> None:
    name = f"reviewer-{number}"
    with httpx.Client(base_url=url, timeout=120, trust_env=False) as client:
        client.post("/sign-in", data={"name": name}, headers={"origin": url})
        headers = {"origin": url, CSRF_HEADER: csrf_token(client.cookies[COOKIE].strip('"'))}
        listed = re.findall(
            r'<th scope="row"><a href="/nodule/([^"]+)"', client.get("/?show=all").text
        )
        start = listed[number % len(listed)]
        for n in range(DECISIONS_EACH):
            view = client.get(f"/api/nodule/{start}").json()
            for images in ("ct", "overlays"):
                client.get(view[images]).raise_for_status()
            said = {
                "id": f"{number:08x}{n:024x}",
                "reviewer": name,
                "nodule": view["nodule"],
                "digest": view["digest"],
            }
            begun = time.perf_counter()
            answer = client.post(
                "/api/verdicts", json={**said, "verdict": "choose", "place": 1}, headers=headers
            )
            taken.append(1000 * (time.perf_counter() - begun))
            answer.raise_for_status()
            sent.append((view["nodule"], said["id"]))
            start = (view["next"] or f"/api/nodule/{listed[0]}").removeprefix("/api/nodule/")


if __name__ == "__main__":
    main()

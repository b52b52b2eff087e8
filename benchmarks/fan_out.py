"""Cost of orchestration: planning, memory of the client, throughput by number of workers.

    python -m benchmarks.fan_out [--real NODULES | --curated STORE]

Nodules are stubs that sleep or do nothing, so that what is measured is the orchestration; the last
part curates real nodules on two workers (`HALOSIGN_REAL_DATA` names them) and is left out without
`--real`. `--curated` takes the account of a store that one `halosign curate --workers 2` filled,
and measures nothing else.
"""

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil
from distributed import Client
from prefect import flow
from prefect.settings import PREFECT_LOGGING_LEVEL, temporary_settings

from benchmarks.measure import MEGABYTE, RESULTS, command_line, in_own_process, save, table
from flows.engine.cluster import Cluster
from flows.engine.prefect_server import prefect_server
from flows.engine.progress import ProgressTracker
from flows.engine.task_runs import run_nodules
from storage.cases.outcomes import write_outcome
from storage.layout import done_key
from storage.recipe import load_recipe
from storage.records import DoneMark, Outcome, encode
from storage.sources.base import Nodule
from storage.sources.registry import SourceSpec
from storage.store import open_store
from tasks.curation.context import CurationJob, input_fingerprint
from tasks.curation.inventory import take_inventory
from tasks.curation.plan import make_plan
from tasks.memory import peak_bytes

SLEEP_S = 1.0
THREADS = (1, 2, 4, 8, 16, 32, 64)
MANY = 10_000
SAMPLES = (1000, 2000, 4000, 6000, 8000, 10_000)
STAGES = dict.fromkeys(("scan", "crop", "resample", "trimap", "solve", "judge", "write"), 0.1)


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--real", type=int, default=0, help="real nodules to curate on two workers")
    parser.add_argument("--curated", type=Path, help="a store filled by one run on two workers")
    parser.add_argument("--plan", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.plan is not None:
        print(json.dumps(plan(arguments.folder, arguments.plan)))
        return
    known: dict[str, Any] = (
        json.loads((RESULTS / "fan_out.json").read_text())
        if (RESULTS / "fan_out.json").exists()
        else {}
    )
    if arguments.curated:
        known["real"] = account(arguments.curated)
        save("fan_out", known)
        print(known["real"])
        return
    report: dict[str, Any] = {
        "cores": os.cpu_count(),
        "sleep_s": SLEEP_S,
        "load_at_start": os.getloadavg()[0],
    }
    report["plan"] = plans()
    quiet = temporary_settings({PREFECT_LOGGING_LEVEL: "CRITICAL"})
    with quiet, prefect_server(), cluster_of_threads() as (address, grow):
        report["many"] = many(address, grow)
        report["throughput"] = [
            throughput(address, grow, threads, 12 * threads) for threads in THREADS
        ]
        report["two_workers"] = throughput(address, grow, 2, 200)
    report["real"] = real(arguments.real) if arguments.real else known.get("real")
    save("fan_out", report)
    show(report)


def show(report: dict[str, Any]) -> None:
    print(
        table(
            ("", "s", "peak MB"),
            [(f"{n:,}", row["seconds"], row["peak_mb"]) for n, row in report["plan"].items()],
        )
    )
    print(report["many"])
    print(
        table(tuple(report["throughput"][0]), [tuple(row.values()) for row in report["throughput"]])
    )
    print(report["real"])


def plans() -> dict[int, dict[str, float]]:
    """Plan over stores that are finished, each in a process of its own."""
    rows = {}
    for nodules in (MANY, 10 * MANY):
        with tempfile.TemporaryDirectory() as folder:
            finished_store(Path(folder), nodules)
            rows[nodules] = in_own_process(
                "benchmarks.fan_out", "--plan", str(nodules), "--folder", folder
            )
    return rows


def finished_store(folder: Path, nodules: int) -> None:
    """A table of nodules and a store where each has its outcome and its mark."""
    lines = [
        f"n{n:06d},P{n // 3:06d},n{n:06d}.image.nii.gz,n{n:06d}.readers.nii.gz,4"
        for n in range(nodules)
    ]
    (folder / "table.csv").write_text(
        "\n".join(["nodule,patient,image,readers,n_readers", *lines]) + "\n"
    )
    job = job_of(folder)
    store = open_store(job.store_url, create=True)
    for number, nodule in enumerate(take_inventory(job, None).nodules):
        digest = f"{number:064x}"
        outcome = stub_outcome(nodule, input_fingerprint(nodule, job), digest)
        write_outcome(store, outcome)
        store.put(done_key(nodule.id, digest), encode(DoneMark(digest, {})))


def job_of(folder: Path) -> CurationJob:
    return CurationJob(
        SourceSpec("files", str(folder / "table.csv")), str(folder / "store"), load_recipe()
    )


def stub_outcome(nodule: Nodule, inputs: dict[str, Any], digest: str) -> Outcome:
    return Outcome(
        nodule.id, nodule.patient_id, "done", "write",
        digest=digest, inputs=inputs, computed=True, seconds=STAGES,
        stored_bytes=2_500_000, unknown_voxels=8000, versions={"numpy": "2"},
    )  # fmt: skip


def plan(folder: Path, nodules: int) -> dict[str, float]:
    job = job_of(folder)
    begin = time.perf_counter()
    planned = make_plan(open_store(job.store_url), job, take_inventory(job, None))
    seconds = time.perf_counter() - begin
    expect(len(planned.unchanged) == nodules, "every nodule is found finished")
    return {"seconds": round(seconds, 2), "peak_mb": round(peak_bytes() / MEGABYTE)}


@contextlib.contextmanager
def cluster_of_threads() -> Iterator[tuple[str, Callable[[int], None]]]:
    """Start a scheduler; yield its address and a function that sets the number of threads."""
    dask = str(Path(sys.executable).parent / "dask")
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder) / "scheduler.json"
        command = [dask, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
        processes = [start([*command, "--scheduler-file", str(where)])]
        while not where.exists() or not where.read_text():
            time.sleep(0.1)
        address = json.loads(where.read_text())["address"]

        def grow(threads: int) -> None:
            while len(processes) > 1:
                worker = processes.pop()
                worker.terminate()
                worker.wait()
            command = [dask, "worker", address, "--nthreads", str(threads), "--nworkers", "1"]
            processes.append(start([*command, "--no-nanny", "--no-dashboard"]))
            with Client(address) as client:
                while sum(client.nthreads().values()) != threads:
                    time.sleep(0.1)

        try:
            yield address, grow
        finally:
            for process in processes:
                process.terminate()
                process.wait()


def start(command: list[str]) -> subprocess.Popen[bytes]:
    path = os.pathsep.join([".", os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": path},
    )


def stub(seconds: float, nodule: Nodule, job: CurationJob) -> Outcome:
    """What a worker gives back, without the work."""
    time.sleep(seconds)
    return stub_outcome(nodule, {"stamp": "0" * 64, "recipe": job.recipe.content_key()}, "0" * 64)


def stubs(nodules: int, **run: int) -> tuple[tuple[Nodule, ...], CurationJob]:
    """Return nodules of no source, and the job that they belong to."""
    made = tuple(
        Nodule(f"n{n:06d}", f"P{n // 3:06d}", {"row": {"image": "i", "readers": "r"}})
        for n in range(nodules)
    )
    return made, CurationJob(SourceSpec("files", "none.csv"), "none", load_recipe(run=run))


@flow(name="fan out stubs")
def fan_stubs(address: str, nodules: int, seconds: float, **run: int) -> None:
    made, job = stubs(nodules, **run)
    progress = ProgressTracker(nodules, 0.2)
    with progress:
        run_nodules(partial(stub, seconds), made, job, Cluster(scheduler=address), progress)
    expect(not progress.error, str(progress.error))
    states = [outcome.state for outcome in progress.outcomes.values()]
    expect(states == ["done"] * nodules, "every stub is done")


def many(address: str, grow: Callable[[int], None]) -> dict[str, Any]:
    """Run nodules that take no time, which leaves the orchestration; record memory by time."""
    grow(32)
    fan_stubs(address, 200, 0.0)
    me, add = psutil.Process(), ProgressTracker.add
    memory: dict[int, float] = {}

    def watched(progress: ProgressTracker, outcome: Outcome) -> None:
        add(progress, outcome)
        if len(progress.outcomes) in SAMPLES:
            memory[len(progress.outcomes)] = round(me.memory_info().rss / MEGABYTE, 1)

    with patch.object(ProgressTracker, "add", watched):
        used, begin = me.cpu_times(), time.perf_counter()
        fan_stubs(address, MANY, 0.0)
        wall, now = time.perf_counter() - begin, me.cpu_times()
    cpu = now.user + now.system - used.user - used.system
    return {
        "nodules": MANY,
        "wall_ms_per_nodule": round(1e3 * wall / MANY, 2),
        "client_cpu_ms_per_nodule": round(1e3 * cpu / MANY, 2),
        "client_mb_after": memory,
    }


def throughput(
    address: str, grow: Callable[[int], None], threads: int, nodules: int
) -> dict[str, Any]:
    grow(threads)
    begin = time.perf_counter()
    fan_stubs(address, nodules, SLEEP_S)
    wall = time.perf_counter() - begin
    ideal = nodules * SLEEP_S / threads
    return {
        "workers": threads,
        "nodules": nodules,
        "wall_s": round(wall, 2),
        "nodules_per_s": round(nodules / wall, 2),
        "share_of_ideal": round(ideal / wall, 3),
        "load": round(os.getloadavg()[0], 1),
    }


def real(nodules: int) -> dict[str, Any]:
    """Curate real nodules on two workers; return the share of the wall time spent in stages."""
    import pandas as pd

    data = Path(os.environ["HALOSIGN_REAL_DATA"])
    with tempfile.TemporaryDirectory() as folder:
        rows = (
            pd.read_csv(data / "nodules.csv")
            .rename(columns={"voi": "nodule"})
            .head(nodules)
            .assign(n_readers=4)
        )
        for kind in ("image", "readers"):
            rows[kind] = str(data / "nodules") + "/" + rows.nodule + f".{kind}.nii.gz"
        rows.to_csv(Path(folder) / "table.csv", index=False)
        store = f"{folder}/store"
        command = [
            "-m",
            "flows.cli",
            "curate",
            "--files",
            f"{folder}/table.csv",
            "--store",
            store,
            "--workers",
            "2",
        ]
        load = os.getloadavg()[0]
        done = subprocess.run(
            [sys.executable, *command], check=False, stdout=subprocess.PIPE, text=True
        )
        expect(done.returncode in {0, 1}, done.stdout)
        found = account(Path(store))
        shutil.rmtree(store)
    return found | {"load": [round(load, 1), round(os.getloadavg()[0], 1)]}


def account(store: Path) -> dict[str, Any]:
    """Return the seconds in stages, and in total, of the run on two workers that filled a store."""
    status = [sys.executable, "-m", "flows.cli", "status", "--store", str(store), "--json"]
    facts = json.loads(subprocess.run(status, check=True, stdout=subprocess.PIPE, text=True).stdout)
    outcomes = [json.loads(path.read_text()) for path in (store / "outcomes").iterdir()]
    stages = [sum(outcome["seconds"].values()) for outcome in outcomes]
    wall = facts["last_run"]["wall_s"]
    return {
        "nodules": len(stages),
        "states": facts["states"],
        "stage_s": round(sum(stages), 1),
        "median_stage_s": round(statistics.median(stages), 2),
        "wall_s": wall,
        "workers": 2,
        "efficiency": round(sum(stages) / (wall * 2), 3),
    }


def expect(condition: bool, what: str) -> None:
    """A figure of a run that went wrong is no figure."""
    if not condition:
        raise RuntimeError(what)


if __name__ == "__main__":
    main()

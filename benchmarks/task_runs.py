"""CPU time of Prefect per nodule: nodules as task runs one by one, in batches, and run by Dask.

    python -m benchmarks.task_runs [--nodules 200 1000]

Nodules are stubs that do nothing, on 32 threads. The server is the private one that a command
starts; its time is counted until it has recorded every task run. Prefect's own task runner for
Dask, which sends each task run to a worker, is measured where `prefect-dask` is installed; its
workers talk to the server themselves, and their time is counted apart. Rows of other numbers of
nodules are kept from runs before.
"""

import importlib
import json
import logging
import os
import time
from collections.abc import Callable
from importlib.util import find_spec

import psutil
from prefect import flow, get_client, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import wait

from benchmarks.fan_out import cluster_of_threads, expect, fan_stubs, stub, stubs
from benchmarks.measure import RESULTS, command_line, save, table
from flows.engine.prefect_server import prefect_server

NODULES = (200, 1000)
THREADS = 32
PATIENCE_S = 900
TASK_RUNNER = "DaskTaskRunner"
TASK_RUNNER_NODULES = 200


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--nodules", type=int, nargs="+", default=NODULES)
    arguments = parser.parse_args()
    rows = []
    # The command line shows none of Prefect's messages either.
    logging.disable()
    with prefect_server(), cluster_of_threads() as (address, grow):
        grow(THREADS)
        fan_stubs(address, 100, 0.0)
        ways = {
            "task runs": lambda n: fan_stubs(address, n, 0.0, nodules_as_tasks=n),
            "batches of 64": lambda n: fan_stubs(address, n, 0.0, nodules_as_tasks=0),
        }
        for nodules in arguments.nodules:
            for name, run in ways.items():
                rows.append({"nodules": nodules, "as": name, **measured(run, nodules)})
        if find_spec("prefect_dask") and TASK_RUNNER_NODULES in arguments.nodules:
            run_by_dask(address, THREADS)
            found = measured(lambda n: run_by_dask(address, n), TASK_RUNNER_NODULES)
            rows.append({"nodules": TASK_RUNNER_NODULES, "as": TASK_RUNNER, **found})
    load = round(os.getloadavg()[0], 1)
    path = RESULTS / "task_runs.json"
    known = json.loads(path.read_text())["rows"] if path.exists() else []
    rows = [row | {"load": load} for row in rows]
    rows = [row for row in known if row["nodules"] not in arguments.nodules] + rows
    rows.sort(key=lambda row: (row["as"] == TASK_RUNNER, row["nodules"]))
    save("task_runs", {"cores": os.cpu_count(), "threads": THREADS, "rows": rows})
    print(table(tuple(rows[0]), [tuple(row.values()) for row in rows]))


def run_by_dask(address: str, nodules: int) -> None:
    """Run stubs by Prefect's task runner for Dask, each as a task run on a worker."""
    runner = importlib.import_module("prefect_dask").DaskTaskRunner(address=address)
    curate = task(name="curate nodule", cache_policy=NO_CACHE)(stub)

    @flow(name="stubs by Dask", task_runner=runner)
    def run() -> None:
        made, job = stubs(nodules)
        futures = [curate.submit(0.0, nodule, job) for nodule in made]
        wait(futures)
        states = [future.state.is_completed() for future in futures]
        expect(all(states), "every stub is done")

    run()


def measured(run: Callable[[int], None], nodules: int) -> dict[str, float]:
    """Return milliseconds of wall time and of CPU time per nodule."""
    before = recorded()
    client, server, workers = cpu_of(psutil.Process()), server_seconds(), worker_seconds()
    begin = time.perf_counter()
    run(nodules)
    wall = time.perf_counter() - begin
    settle(before)
    client = cpu_of(psutil.Process()) - client
    server = server_seconds() - server
    workers = worker_seconds() - workers
    return {
        "wall_ms": round(1e3 * wall / nodules, 2),
        "client_cpu_ms": round(1e3 * client / nodules, 2),
        "server_cpu_ms": round(1e3 * server / nodules, 2),
        "dask_cpu_ms": round(1e3 * workers / nodules, 2),
    }


def server_seconds() -> float:
    """Return the CPU seconds of the server's processes."""
    return seconds_of({"prefect", "server", "start"})


def worker_seconds() -> float:
    """Return the CPU seconds of Dask's scheduler and workers."""
    return seconds_of({"scheduler", "--no-dashboard"}) + seconds_of({"worker", "--no-dashboard"})


def seconds_of(words: set[str]) -> float:
    """Return the CPU seconds of what was started with such words, and of what that started."""
    found = [
        process
        for process in psutil.Process().children(recursive=True)
        if words <= set(process.cmdline())
    ]
    expect(bool(found), f"{' '.join(sorted(words))} runs")
    family = {p for one in found for p in (one, *one.children(recursive=True))}
    return sum(map(cpu_of, family))


def cpu_of(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def recorded() -> int:
    with get_client(sync_client=True) as client:
        return int(client.request("POST", "/task_runs/count", json={}).json())


def settle(before: int) -> None:
    """Wait until the server has recorded what it was told: its count no longer changes."""
    begin, last = time.monotonic(), -1
    while (now := recorded()) == before or now != last:
        expect(time.monotonic() - begin < PATIENCE_S, "the server records what it is told")
        last = now
        time.sleep(2.0)


if __name__ == "__main__":
    main()

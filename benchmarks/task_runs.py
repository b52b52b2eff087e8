"""CPU time of Prefect per nodule: nodules as task runs one by one, and in batches.

    python -m benchmarks.task_runs

Nodules are stubs that do nothing, on 32 threads. The server is the private one that a command
starts; its time is counted until it has recorded every task run. A task runner that sends each task
run to Dask is measured where `prefect-dask` is installed.
"""

import logging
import os
import time

import psutil
from prefect import get_client

from benchmarks.fan_out import cluster_of_threads, expect, fan_stubs
from benchmarks.measure import save, table
from flows.engine.prefect_server import prefect_server

NODULES = (200, 1000)
THREADS = 32
PATIENCE_S = 120


def main() -> None:
    rows = []
    # The command line shows none of Prefect's messages either.
    logging.disable()
    with prefect_server(), cluster_of_threads() as (address, grow):
        grow(THREADS)
        fan_stubs(address, 100, 0.0)
        ways = {
            "task runs": lambda n: fan_stubs(address, n, 0.0),
            "batches of 64": lambda n: fan_stubs(address, n, 0.0, nodules_as_tasks=0),
        }
        for nodules in NODULES:
            for name, run in ways.items():
                rows.append({"nodules": nodules, "as": name, **measured(run, nodules)})
    load = round(os.getloadavg()[0], 1)
    save("task_runs", {"cores": os.cpu_count(), "load": load, "threads": THREADS, "rows": rows})
    print(table(tuple(rows[0]), [tuple(row.values()) for row in rows]))


def measured(run: object, nodules: int) -> dict[str, float]:
    """Return milliseconds of wall time and of CPU time per nodule."""
    before = recorded()
    client, server = cpu_of(psutil.Process()), server_seconds()
    begin = time.perf_counter()
    run(nodules)
    wall = time.perf_counter() - begin
    settle(before)
    client = cpu_of(psutil.Process()) - client
    server = server_seconds() - server
    return {
        "wall_ms": round(1e3 * wall / nodules, 2),
        "client_cpu_ms": round(1e3 * client / nodules, 2),
        "server_cpu_ms": round(1e3 * server / nodules, 2),
    }


def server_seconds() -> float:
    """Return the CPU seconds of the server's processes, which lead their own process group."""
    servers = [
        process
        for process in psutil.Process().children(recursive=True)
        if {"prefect", "server", "start"} <= set(process.cmdline())
    ]
    expect(bool(servers), "a private server runs")
    family = {p for one in servers for p in (one, *one.children(recursive=True))}
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

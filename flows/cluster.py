"""The Dask cluster that nodules fan out over: one of our own on this machine, or one that stands."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import dask
from distributed import Client, LocalCluster

from matting.refusal import Refusal

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
"""A worker computes on one core; libraries that start threads of their own only get in each other's way."""

LOCAL_SETTINGS = {
    "distributed.nanny.pre-spawn-environ": ONE_THREAD,
    # One death makes a suspect; it is then tried alone, so more would only cost time.
    "distributed.scheduler.allowed-failures": 0,
    "distributed.worker.daemon": True,
}


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where nodules are worked on."""

    scheduler: str | None = None
    """Address such as ``tcp://host:8786``; None for a cluster of our own on this machine."""
    workers: int | None = None
    """Processes of our own cluster; None for one a core."""


LOCAL = Cluster()


@contextmanager
def dask_client(cluster: Cluster) -> Iterator[Client]:
    """Connect to a scheduler, or start a local cluster for the time of the run; raises Refusal without an answer."""
    if cluster.scheduler is not None:
        with _connected(cluster.scheduler) as client:
            yield client
        return
    with (
        dask.config.set(LOCAL_SETTINGS),
        LocalCluster(
            n_workers=cluster.workers or os.cpu_count(),
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            # A worker that takes its time to leave is ended; it has nothing to lose, so nobody need read of it.
            silence_logs=logging.ERROR,
        ) as local,
        Client(local) as client,
    ):
        yield client


@contextmanager
def _connected(scheduler: str) -> Iterator[Client]:
    try:
        client = Client(scheduler)
    except (OSError, ValueError) as error:
        raise Refusal(
            "the Dask scheduler does not answer",
            got=f"{scheduler}: {error}",
            expected="a running scheduler, e.g. tcp://host:8786",
            remedy="Start it with `dask scheduler`, or leave --scheduler out for a local cluster.",
        ) from error
    with client:
        yield client

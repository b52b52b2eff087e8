"""The Dask cluster that nodules fan out over: our own on this machine, one that stands, or one that a file names."""

import importlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import dask
import yaml
from distributed import Client, LocalCluster
from distributed.deploy.cluster import Cluster as AnyCluster
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from matting.errors import InputError

ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
)
"""A worker computes on one core; libraries that start threads of their own only get in each other's way."""

OWN_SETTINGS = {
    "distributed.nanny.pre-spawn-environ": ONE_THREAD,
    # One death makes a suspect; it is then tried alone, so more would only cost time.
    "distributed.scheduler.allowed-failures": 0,
    # A worker holds one nodule a thread, so nobody else's goes down with it.
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.worker.daemon": True,
    # Workers keep nothing that could be spilled, and one that paused between nodules would never go on.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
}
"""Dask's settings wherever the scheduler is ours."""

_OPTIONS = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Adapt(BaseModel):
    """How many workers a cluster may have as work comes and goes."""

    model_config = _OPTIONS

    minimum: int = Field(0, ge=0)
    maximum: int = Field(ge=1)


class ClusterFile(BaseModel):
    """A cluster as a YAML file names it: an address, or a class with its arguments."""

    model_config = _OPTIONS

    address: str | None = None
    """Of a scheduler that stands, e.g. ``tcp://host:8786``."""
    class_: str | None = Field(None, alias="class")
    """Dotted path of a class derived from ``distributed.deploy.Cluster``."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """What the class is called with."""
    workers: int | None = Field(None, ge=1)
    """Scale to so many."""
    adapt: Adapt | None = None
    """Or let the number follow the work."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Dask's own settings by dotted name, e.g. ``distributed.scheduler.worker-ttl``."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.address is None) == (self.class_ is None):
            raise ValueError("give exactly one of `address` and `class`")
        if self.address and (self.arguments or self.workers or self.adapt):
            raise ValueError(
                "a scheduler at an `address` brings its own workers: no arguments, workers or adapt"
            )
        if self.workers and self.adapt:
            raise ValueError("give `workers` or `adapt`, not both")
        return self


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where nodules are worked on."""

    scheduler: str | None = None
    """Address such as ``tcp://host:8786``; None for a cluster of our own on this machine."""
    workers: int | None = None
    """Processes of our own cluster; None for one a core."""
    file: ClusterFile | None = None
    """What a file said; it goes before the other two."""


LOCAL = Cluster()


def load_cluster(path: Path) -> Cluster:
    """Read a cluster from a YAML file; raises InputError where it is not there or says what cannot be."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Cluster(file=ClusterFile.model_validate(content))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise _bad_file(path, " ".join(str(error).split()), "a readable YAML file") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise _bad_file(
            path, f"{where}: {first['msg']}".removeprefix(": "), "docs/cluster.md's names"
        ) from error


@contextmanager
def dask_client(cluster: Cluster) -> Iterator[Client]:
    """Connect to a scheduler, or start a cluster for the time of the run.

    Raises:
        InputError: No scheduler answers at the address, or the file's class cannot be had or started.
    """
    file = cluster.file
    address = file.address if file else cluster.scheduler
    settings = {**({} if address else OWN_SETTINGS), **(file.settings if file else {})}
    with dask.config.set(settings):
        if address is not None:
            with _connected(address) as client:
                yield client
        else:
            with (
                _named(file) if file else _local(cluster.workers) as started,
                Client(started) as client,
            ):
                yield client


def _local(workers: int | None) -> LocalCluster:
    return LocalCluster(
        n_workers=workers or os.cpu_count(),
        threads_per_worker=1,
        dashboard_address="127.0.0.1:0",
        # A worker that takes its time to leave is ended; it has nothing to lose, so nobody need read of it.
        silence_logs=logging.ERROR,
    )


def _named(file: ClusterFile) -> AnyCluster:
    """Start the cluster of a file's class."""
    kind = _cluster_class(str(file.class_))
    try:
        started = kind(**file.arguments)
        if file.workers:
            started.scale(file.workers)
        elif file.adapt:
            started.adapt(minimum=file.adapt.minimum, maximum=file.adapt.maximum)
    except (TypeError, ValueError, OSError, RuntimeError) as error:
        raise InputError(
            "the cluster cannot be started",
            got=f"{type(error).__name__}: {error}",
            expected=f"arguments that {file.class_} takes, and what it needs on this machine",
            remedy="Mend the cluster file; docs/cluster.md has an example of each kind.",
        ) from error
    return started


def _cluster_class(path: str) -> type[AnyCluster]:
    """Import a class by its dotted path; only a Dask cluster may be named."""
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            "the cluster's class cannot be imported",
            got=f"{path}: {error}",
            expected="the dotted path of an installed class, e.g. dask_jobqueue.SLURMCluster",
            remedy="Install its package beside Halosign, or mend `class` in the cluster file.",
        ) from error
    if not (isinstance(found, type) and issubclass(found, AnyCluster)):
        raise InputError(
            "what the cluster file names is no Dask cluster",
            got=path,
            expected="a class derived from distributed.deploy.Cluster",
            remedy="Name such a class, or start the scheduler yourself and give its `address`.",
        )
    return found


@contextmanager
def _connected(scheduler: str) -> Iterator[Client]:
    try:
        client = Client(scheduler)
    except (OSError, ValueError) as error:
        raise InputError(
            "the Dask scheduler does not answer",
            got=f"{scheduler}: {error}",
            expected="a running scheduler, e.g. tcp://host:8786",
            remedy="Start it with `dask scheduler`, or leave --scheduler out for a local cluster.",
        ) from error
    with client:
        yield client


def _bad_file(path: Path, got: str, expected: str) -> InputError:
    remedy = "Mend the file; docs/cluster.md has an example of each kind."
    return InputError(
        f"the cluster file {path} cannot be used", got=got, expected=expected, remedy=remedy
    )

"""The Dask cluster that computes nodules: local, already running, or described by a YAML file."""

import importlib
import logging
import os
import reprlib
import signal
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import dask
import yaml
from dask.system import CPU_COUNT
from distributed import Client, LocalCluster, Worker, WorkerPlugin
from distributed.deploy.cluster import Cluster as AnyCluster
from distributed.system import MEMORY_LIMIT
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from flows.engine.logs import logger
from flows.engine.repeating import repeating
from matting.errors import InputError
from storage.errors import plain_words

ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
)
"""A worker computes on one core, so libraries must not start threads of their own."""

OWN_SETTINGS = {
    "distributed.nanny.pre-spawn-environ": ONE_THREAD,
    # A nodule whose worker died is run again alone, so retries by Dask would only take time.
    "distributed.scheduler.allowed-failures": 0,
    # A worker holds one nodule per thread, so its death affects no others.
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.worker.daemon": True,
    # Workers hold nothing that could be spilled, and one that paused between nodules would never
    # resume.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
}
"""Dask settings for schedulers that Halosign starts."""

_REPLACE_EVERY_S = 30.0
"""How often workers of a cluster file whose jobs have ended are replaced."""

_OPTIONS = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Adapt(BaseModel):
    """Bounds for the number of workers of an adaptive cluster."""

    model_config = _OPTIONS

    minimum: int = Field(0, ge=0)
    maximum: int = Field(ge=1)


class ClusterFile(BaseModel):
    """Content of a cluster file: an address, or a class with its arguments."""

    model_config = _OPTIONS

    address: str | None = None
    """Of a running scheduler, e.g. ``tcp://host:8786``."""
    class_: str | None = Field(None, alias="class")
    """Dotted path of a class derived from ``distributed.deploy.Cluster``."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the class."""
    workers: int | None = Field(None, ge=1)
    """Scale the cluster to this number of workers."""
    adapt: Adapt | None = None
    """Or adapt the number of workers to the queue."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Dask settings by dotted name, e.g. ``distributed.scheduler.worker-ttl``."""

    @model_validator(mode="after")
    def _check_combination(self) -> Self:
        if (self.address is None) == (self.class_ is None):
            raise ValueError("give exactly one of `address` and `class`")
        if self.address and (self.arguments or self.workers or self.adapt):
            raise ValueError(
                "a scheduler at an `address` has its own workers: "
                "remove arguments, workers and adapt"
            )
        if self.workers and self.adapt:
            raise ValueError("give `workers` or `adapt`, not both")
        return self


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where nodules are computed."""

    scheduler: str | None = None
    """Address such as ``tcp://host:8786``; None for a local cluster."""
    workers: int | None = None
    """Processes of the local cluster; None for one per core, as far as memory reaches."""
    file: ClusterFile | None = None
    """Content of a cluster file; it takes precedence over the other two."""
    worker_bytes: float = 0.0
    """Peak memory that a process of the local cluster is expected to need."""

    @property
    def is_local(self) -> bool:
        """Whether its workers are processes of this machine, started for a run."""
        return self.scheduler is None and self.file is None


LOCAL = Cluster()


class _OfThisMachine(WorkerPlugin):
    """Has the workers of this machine leave interrupts, and words, to the process of their run.

    A terminal sends Ctrl-C to every process; that of the run hears of it too, and decides how long
    they may work. Where it is killed, each would log a traceback of its heartbeat.
    """

    name = "halosign-of-this-machine"

    def setup(self, worker: Worker) -> None:  # noqa: ARG002
        """Do so; called by Dask in the main thread of a worker process."""
        logging.getLogger("distributed.worker").setLevel(logging.CRITICAL)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def load_cluster(path: Path) -> Cluster:
    """Read a cluster file; raises InputError where it is missing or invalid."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Cluster(file=ClusterFile.model_validate(content))
    except OSError as error:
        raise _invalid_file(path, error, "a readable YAML file") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise _invalid_file(path, " ".join(str(error).split()), "a readable YAML file") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        complaint = first["msg"]
        expected = plain_words(complaint)
        if complaint == expected:
            got = f"{where}: {complaint}".removeprefix(": ")
            raise _invalid_file(path, got, "the settings of docs/cluster.md") from error
        got = f"{reprlib.repr(first['input'])} for `{where}`".removesuffix(" for ``")
        raise _invalid_file(path, got, expected) from error


@contextmanager
def dask_client(cluster: Cluster) -> Iterator[Client]:
    """Yield a client of a running scheduler, or of a cluster started for the context.

    Raises:
        InputError: No scheduler responds at the address, or the cluster of the file cannot be
            started.
    """
    file = cluster.file
    address = file.address if file else cluster.scheduler
    settings = {} if address else dict(OWN_SETTINGS)
    if file:
        settings |= file.settings
    _detach_dask_logger()
    with dask.config.set(settings):
        if address is not None:
            with _connect(address) as client:
                yield client
        else:
            with (
                _start_cluster(file) if file else _start_local_cluster(cluster) as started,
                Client(started) as client,
            ):
                if isinstance(started, LocalCluster):
                    client.register_plugin(_OfThisMachine())
                with _replacing_workers(started, file.workers if file else None):
                    yield client


def _replacing_workers(started: AnyCluster, workers: int | None) -> AbstractContextManager[None]:
    """Ask now and then for the wanted number of workers: a job that ends is not replaced else."""
    if workers is None:
        return nullcontext()
    return repeating(lambda: started.scale(workers), _REPLACE_EVERY_S, "replace workers")


def _detach_dask_logger() -> None:
    """Install a handler on Dask's logger, as `distributed` does if it is imported before Prefect.

    Imported after Prefect, it would write every INFO line to the handler that Prefect installs on
    the root logger, where `silence_logs` has no effect.
    """
    dask_logger = logging.getLogger("distributed")
    if not dask_logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter(dask.config.get("distributed.admin.log-format")))
        dask_logger.addHandler(handler)
        dask_logger.propagate = False


def count_cores() -> int:
    """Return the cores that this process may use: not all that the machine has.

    Affinity and the control group bound them, and so does the share of a SLURM job, which not every
    cluster enforces: there it is kept, with a warning.
    """
    share = os.environ.get("SLURM_CPUS_ON_NODE", "")
    if not share.isdecimal() or not 0 < int(share) < CPU_COUNT:
        return CPU_COUNT
    logger.warning(
        "this SLURM job has %s of the %d cores: %s workers. `--workers N` asks for another number",
        share,
        CPU_COUNT,
        share,
    )
    return int(share)


def count_workers(worker_bytes: float) -> int:
    """Return how many workers there are cores and memory for; warn where memory is too small.

    Args:
        worker_bytes: Peak memory of a worker, compared with that of the machine or of its control
            group; 0 where it is not known.
    """
    cores = count_cores()
    fitting = int(MEMORY_LIMIT / worker_bytes) if worker_bytes else cores
    if fitting >= cores:
        return cores
    workers = max(1, fitting)
    logger.warning(
        "%d of %d cores are used: a worker may need %.1f GB, and there are %.1f GB of memory. "
        "`--workers N` asks for another number",
        workers,
        cores,
        worker_bytes / 1e9,
        MEMORY_LIMIT / 1e9,
    )
    return workers


def _start_local_cluster(cluster: Cluster) -> LocalCluster:
    workers = cluster.workers or count_workers(cluster.worker_bytes)
    return LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        # By itself, Dask would give a worker the share of one core, however few workers there are.
        memory_limit=MEMORY_LIMIT // workers,
        dashboard_address="127.0.0.1:0",
        # A worker that is slow to exit is killed. It holds nothing, so the warning is of no use.
        silence_logs=logging.ERROR,
    )


def _start_cluster(file: ClusterFile) -> AnyCluster:
    """Start the cluster that a file describes."""
    cluster_class = _cluster_class(str(file.class_))
    try:
        started = cluster_class(**file.arguments)
        if file.workers:
            started.scale(file.workers)
        elif file.adapt:
            started.adapt(minimum=file.adapt.minimum, maximum=file.adapt.maximum)
    except (TypeError, ValueError, OSError, RuntimeError) as error:
        raise InputError(
            "the cluster cannot be started",
            got=f"{type(error).__name__}: {error}",
            expected=f"valid arguments of {file.class_}, and what it needs on this machine",
            remedy="Correct the cluster file; docs/cluster.md has an example of each kind.",
        ) from error
    return started


def _cluster_class(path: str) -> type[AnyCluster]:
    """Import a Dask cluster class by its dotted path; raises InputError for anything else."""
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            "the cluster's class cannot be imported",
            got=f"{path}: {error}",
            expected="the dotted path of an installed class, e.g. dask_jobqueue.SLURMCluster",
            remedy="Install its package beside Halosign, or correct `class` in the cluster file.",
        ) from error
    if not (isinstance(found, type) and issubclass(found, AnyCluster)):
        raise InputError(
            "the class in the cluster file is not a Dask cluster",
            got=path,
            expected="a class derived from distributed.deploy.Cluster",
            remedy="Use such a class, or start the scheduler yourself and set its `address`.",
        )
    return found


@contextmanager
def _connect(scheduler: str) -> Iterator[Client]:
    try:
        client = Client(scheduler)
    except (OSError, ValueError) as error:
        raise InputError(
            "the Dask scheduler does not respond",
            got=f"{scheduler}: {error}",
            expected="a running scheduler, e.g. tcp://host:8786",
            remedy="Start it with `dask scheduler`, or omit --scheduler to use a local cluster.",
        ) from error
    with client:
        yield client


def _invalid_file(path: Path, got: object, expected: str) -> InputError:
    return InputError(
        f"the cluster file {path} is invalid",
        got=got,
        expected=expected,
        remedy="Correct the file; docs/cluster.md has an example of each kind.",
    )

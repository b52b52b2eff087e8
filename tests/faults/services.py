"""The services that a fault strikes, as processes of this machine."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
from distributed import Client

from tests.s3 import free_port

PATIENCE_S = 180.0
BIN = Path(sys.executable).parent


def wait_until(condition: Callable[[], object], what: str, every_s: float = 0.05) -> None:
    """Wait for a condition, longer than any healthy machine needs."""
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until, f"waited in vain for {what}"
        time.sleep(every_s)


def start(*command: object, **environment: str) -> subprocess.Popen[bytes]:
    """Start a service in a session of its own."""
    return subprocess.Popen(
        list(map(str, command)),
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def end(process: subprocess.Popen[bytes]) -> None:
    """End a service and what it started, at once."""
    family = [process.pid, *(child.pid for child in _children(process.pid))]
    for pid in family:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


@dataclass
class DaskCluster:
    """A scheduler and two workers, as an operator starts them."""

    nanny: bool = True
    """True where a supervisor restarts a worker that died."""
    worker_ttl: str = "5 minutes"
    port: int = field(default_factory=free_port)
    scheduler: subprocess.Popen[bytes] | None = None
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def __enter__(self) -> "DaskCluster":
        self.start_scheduler()
        self.fill_up()
        return self

    def __exit__(self, *_: object) -> None:
        for process in (*self.workers, self.scheduler):
            end(process)

    def start_scheduler(self) -> None:
        environment = {
            "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": self.worker_ttl,
            "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0",
        }
        self.scheduler = start(
            BIN / "dask",
            "scheduler",
            "--host",
            "127.0.0.1",
            "--port",
            self.port,
            "--no-dashboard",
            **environment,
        )
        wait_until(lambda: _listens(self.port), "the scheduler")

    def fill_up(self) -> None:
        """Bring the workers up to two again, and wait until the scheduler knows them."""
        self.workers = [worker for worker in self.workers if worker.poll() is None or end(worker)]
        while len(self.workers) < 2:
            nanny = "--nanny" if self.nanny else "--no-nanny"
            threads = dict.fromkeys(
                ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
            )
            command = (
                "worker",
                self.address,
                "--nthreads",
                "1",
                "--nworkers",
                "1",
                nanny,
                "--no-dashboard",
            )
            self.workers.append(
                start(BIN / "dask", *command, "--preload", "flows.curate", **threads)
            )
        with Client(self.address) as client:
            wait_until(lambda: sum(client.nthreads().values()) == 2, "two workers")

    def end_workers(self) -> None:
        while self.workers:
            end(self.workers.pop())

    def worker_pids(self) -> list[int]:
        """The processes that compute."""
        if not self.nanny:
            return [worker.pid for worker in self.workers]
        found = [child for worker in self.workers for child in _children(worker.pid)]
        return sorted(child.pid for child in found if "spawn_main" in " ".join(child.cmdline()))


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@dataclass
class PrefectServer:
    """A Prefect server that can be stopped and started again on its port and database."""

    home: Path
    database: str | None = None
    """Connection URL; SQLite in `home` without one."""
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    def __enter__(self) -> "PrefectServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        end(self.process)

    def start(self) -> None:
        environment = {"PREFECT_HOME": str(self.home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
        if self.database:
            environment["PREFECT_API_DATABASE_CONNECTION_URL"] = self.database
        self.process = start(
            sys.executable, "-m", "prefect", "server", "start",
            "--host", "127.0.0.1", "--port", self.port,
            PREFECT_API_URL="", PREFECT_UI_ENABLED="false", **environment,
        )  # fmt: skip
        wait_until(self.is_healthy, "the Prefect server", every_s=0.2)

    def is_healthy(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=5).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False


def postgres_programs() -> Path | None:
    """Where PostgreSQL's own programs lie; None where it is not installed."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    found = installed[-1] if installed else shutil.which("initdb")
    return Path(found).parent if found else None


@dataclass
class Postgres:
    """A PostgreSQL server of the test's own; run by `postgres`, since root may not."""

    folder: Path
    port: int = field(default_factory=free_port)

    @property
    def url(self) -> str:
        return f"postgresql+asyncpg://halosign@127.0.0.1:{self.port}/postgres"

    def __enter__(self) -> "Postgres":
        self.folder.mkdir(exist_ok=True)
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres")
        self.control("initdb", "-U", "halosign", "--auth=trust", "-D", self.folder / "data")
        self.control("pg_ctl", "start", "-w", *self.options)
        return self

    def __exit__(self, *_: object) -> None:
        self.control("pg_ctl", "stop", "-m", "immediate", "-D", self.folder / "data")

    @property
    def options(self) -> tuple[object, ...]:
        settings = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1"
        return "-D", self.folder / "data", "-l", self.folder / "log", "-o", settings

    def restart(self, how: str) -> None:
        self.control("pg_ctl", "restart", "-w", "-m", how, *self.options)

    def control(self, program: str, *arguments: object) -> None:
        user = (
            {"user": "postgres", "group": "postgres", "extra_groups": []}
            if os.geteuid() == 0
            else {}
        )
        command = [str(postgres_programs() / program), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False, **user)
        assert done.returncode == 0, done.stdout + done.stderr


@contextlib.contextmanager
def tiny_disk(folder: Path, size_kb: int) -> Iterator[Callable[[int], None]]:
    """Mount a small file system, yield a function to enlarge it; PermissionError without root."""
    folder.mkdir(parents=True, exist_ok=True)
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size_kb}k", "tmpfs", folder], capture_output=True
    )
    if made.returncode != 0:
        raise PermissionError(made.stderr.decode().strip())

    def grow(size_kb: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size_kb}k", folder], check=True)

    try:
        yield grow
    finally:
        subprocess.run(["umount", "-l", folder], check=True)

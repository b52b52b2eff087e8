"""The cluster of docker-compose.yml as local processes, for development and tests.

``python -m tests.cluster.local_cluster up``, ``down`` and ``exec`` do what ``docker compose up -d
--wait``, ``down`` and ``exec`` do. What requires a container engine is missing: images, networks,
memory limits, restarts, devices.
"""

import json
import os
import pwd
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import psutil
import typer
from dotenv import dotenv_values

from matting.errors import InputError
from tests.cluster.compose import Process, read_processes

ROOT = Path(__file__).parents[2]
POLL_S = 0.3


class LocalCluster:
    """The processes of a cluster, with their logs and volumes in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._file = self.folder / "cluster.json"
        self.members: dict[str, tuple[Process, int, float]] = {}
        """By name: the process, its pid, its start time (s since the epoch)."""
        if self._file.exists():
            for entry, pid, began in json.loads(self._file.read_text(encoding="utf-8")):
                self.members[entry["name"]] = (Process(**entry), pid, began)

    def up(self, services: tuple[str, ...] = (), variables: Mapping[str, str] = os.environ) -> None:
        """Start the services that do not run, in order of dependency; wait until all are healthy.

        Args:
            services: These and what they need; all where none is named.
            variables: What the file's ``${NAME}`` stand for.

        Raises:
            InputError: A service does not become healthy; the message has the end of its log.
        """
        ports = {name: process.ports for name, (process, *_) in self.members.items()}
        waiting = read_processes(
            ROOT / "docker-compose.yml", variables, self.folder, ports, services
        )
        since: dict[str, float] = {}
        started: dict[str, subprocess.Popen[bytes]] = {}
        while waiting:
            for process in [p for p in waiting if not {q.service for q in waiting} & set(p.needs)]:
                begin = since.setdefault(process.name, time.monotonic())
                # One that was running may have ended meanwhile, e.g. a worker whose scheduler died.
                if process.name not in started and self.running(process.name) is None:
                    started[process.name] = self._start(process)
                if self._is_well(process, begin, started.get(process.name)):
                    waiting.remove(process)
            time.sleep(POLL_S if waiting else 0)

    def down(self) -> None:
        """Stop all services in reverse order, each by its stop signal; keep volumes and logs."""
        for name in reversed(list(self.members)):
            self.stop(name)
            del self.members[name]
        self._file.unlink(missing_ok=True)

    def stop(self, name: str) -> None:
        """Stop one process and its children."""
        running = self.running(name)
        if running is None:
            return
        process = self.members[name][0]
        everyone = [running, *running.children(recursive=True)]
        running.send_signal(process.stop_signal)
        with suppress(psutil.TimeoutExpired):
            running.wait(process.grace_s)
        for left in everyone:
            with suppress(psutil.NoSuchProcess):
                left.kill()
        psutil.wait_procs(everyone, timeout=10)

    def start(self, name: str) -> subprocess.Popen[bytes]:
        """Start one process again that has ended, as an engine restarts a container."""
        return self._start(self.members[name][0])

    def running(self, name: str) -> psutil.Process | None:
        """Return the process of that name, if it runs."""
        with suppress(KeyError, psutil.NoSuchProcess):
            _, pid, began = self.members[name]
            found = psutil.Process(pid)
            # A pid may be reused; the start time tells two processes apart.
            if abs(found.create_time() - began) < 1 and found.status() != psutil.STATUS_ZOMBIE:
                return found
        return None

    def environment(self, process: Process) -> dict[str, str]:
        """Return the environment of a process: that of a container, nothing of the caller."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {
            "PATH": path,
            "HOME": str(self.folder / "home"),
            "PYTHONPATH": str(ROOT),
            **process.environment,
        }

    def log(self, name: str) -> Path:
        """Return the log file of a process."""
        return self.folder / "logs" / f"{name}.log"

    def _start(self, process: Process) -> subprocess.Popen[bytes]:
        user = self._user(process)
        volumes = [Path(place) for place in process.folders]
        for folder in (self.folder / "home", self.folder / "logs", *volumes):
            folder.mkdir(parents=True, exist_ok=True)
        for volume in volumes:
            os.chown(volume, -1 if user is None else user, -1)
        with self.log(process.name).open("ab") as log:
            started = subprocess.Popen(
                process.command,
                cwd=ROOT,
                env=self.environment(process),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=user,
                extra_groups=None if user is None else [],
            )
        self.members.pop(process.name, None)
        self.members[process.name] = (process, started.pid, time.time())
        self._file.touch(mode=0o600)  # it contains passwords
        self._file.write_text(
            json.dumps([(asdict(p), pid, began) for p, pid, began in self.members.values()])
        )
        return started

    @staticmethod
    def _user(process: Process) -> int | None:
        """Return the user to switch to, since PostgreSQL refuses to run as root."""
        with suppress(KeyError):
            return pwd.getpwnam(process.user).pw_uid if os.getuid() == 0 else None
        return None

    def _is_well(
        self, process: Process, began: float, started: subprocess.Popen[bytes] | None
    ) -> bool:
        ended = None if started is None else started.poll()
        if ended is None and process.health:
            check = subprocess.run(
                process.health,
                cwd=ROOT,
                env=self.environment(process),
                capture_output=True,
                timeout=60,
                check=False,
            )
            if check.returncode == 0:
                return True
        if ended == 0 and not process.health:
            return True
        if ended is None and time.monotonic() - began < process.patience_s:
            return False
        text = self.log(process.name).read_text(errors="replace")
        raise InputError(
            f"the service {process.name} does not become healthy",
            got=("an unhealthy service" if ended is None else f"exit code {ended}")
            + f"; its log ends with\n{text[-1500:]}",
            expected=f"a healthy service within {process.patience_s:.0f} s",
            remedy=f"See {self.log(process.name)}."
            + (f" It needs {process.install}." if process.install else ""),
        )


app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__
)
FolderOption = Annotated[Path, typer.Option("--folder", help="Folder of volumes, logs and state.")]
FOLDER = Path(".cluster")


@app.command()
def up(
    services: Annotated[list[str] | None, typer.Argument()] = None, folder: FolderOption = FOLDER
) -> None:
    """Start all services, or the named ones with their dependencies."""
    settings = {name: value or "" for name, value in dotenv_values(ROOT / ".env").items()}
    cluster = LocalCluster(folder)
    cluster.up(tuple(services or ()), {**settings, **os.environ})
    for name, (process, pid, _) in cluster.members.items():
        if process.health:
            places = ", ".join(f"http://127.0.0.1:{port}" for port in process.ports.values())
            typer.echo(f"{name:12} pid {pid:<8} {places}")
    typer.echo(f"logs in {cluster.folder / 'logs'}; `make cluster-down` stops it")


@app.command()
def down(folder: FolderOption = FOLDER) -> None:
    """Stop all services; volumes are kept."""
    LocalCluster(folder).down()


@app.command(
    "exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
def execute(service: str, command: list[str], folder: FolderOption = FOLDER) -> None:
    """Run a command in the environment of a service, e.g. ``exec cpu prefect deployment ls``."""
    cluster = LocalCluster(folder)
    if service not in cluster.members:
        raise InputError(
            f"the service {service} does not run here",
            got=service,
            expected=" or ".join(cluster.members) or "a cluster that was started",
            remedy=f"Start it first: python -m tests.cluster.local_cluster up {service}",
        )
    process = cluster.members[service][0]
    raise typer.Exit(subprocess.call(command, env=cluster.environment(process)))


if __name__ == "__main__":
    try:
        app()
    except InputError as refusal:
        typer.secho(f"error: {refusal}", fg="red", err=True)
        sys.exit(2)

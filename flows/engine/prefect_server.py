"""A Prefect server for the duration of one run, where none is configured.

The server is private: its folder and database are made for the run and removed after it, so that it
neither reads nor migrates the user's own `~/.prefect`. An empty database is made once for each
version of Prefect and kept in the user's cache: creating its tables takes longer than starting.
"""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from prefect.settings import PREFECT_API_URL, PREFECT_LOGGING_TO_API_ENABLED, temporary_settings

from matting.errors import InputError
from storage.sources.cache import cache_folder

START_TIMEOUT_S = 120.0
"""The first start creates the database, which takes most of a minute on a slow disk."""

CONFIGURED_TIMEOUT_S = 10.0
"""A configured server is running already, so it responds at once or not at all."""

_PR_SET_PDEATHSIG = 1
"""Option of Linux's `prctl`: the signal to send when the parent dies."""
_UNUSED_SERVICES = tuple(
    f"PREFECT_SERVER_SERVICES_{name}_ENABLED"
    for name in (
        *("CANCELLATION_CLEANUP", "EVENT_PERSISTER", "FOREMAN", "LATE_RUNS"),
        *("PAUSE_EXPIRATIONS", "SCHEDULER", "TRIGGERS"),
    )
)
"""Services of a server for schedules, workers and automations, of which a private one has none."""
_RECORD_TOGETHER = {
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
}
"""Task runs are written many at a time: each on its own takes most of the server's CPU time."""
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_PREFECT = (sys.executable, "-P", "-m", "prefect")
"""Without the current folder on the path, which may hold a `prefect.py` of the user's."""
_DATABASE = "prefect.db"
_LOG = "server.log"
_MOST_LOG_BYTES = 2000


@contextmanager
def prefect_server() -> Iterator[str]:
    """Yield the URL of a Prefect API: the configured one, or that of a temporary server.

    Raises:
        InputError: The server does not respond.
    """
    configured = PREFECT_API_URL.value()
    if configured:
        url = str(configured).rstrip("/")
        with _without_proxy(url), temporary_settings({PREFECT_API_URL: url}):
            _wait_until_healthy(url, CONFIGURED_TIMEOUT_S)
            yield url
        return
    port = _free_port()
    url = f"http://127.0.0.1:{port}/api"
    with (
        tempfile.TemporaryDirectory(prefix="halosign-prefect-", ignore_cleanup_errors=True) as home,
        _without_proxy(url),
        _running(Path(home), port, url),
    ):
        settings = {PREFECT_API_URL: url, PREFECT_LOGGING_TO_API_ENABLED: False}
        with temporary_settings(settings):
            yield url


@contextmanager
def _running(home: Path, port: int, url: str) -> Iterator[None]:
    """Run a server until the block ends; with a new database where the kept one does not serve."""
    template = cache_folder() / f"prefect-{version('prefect')}.db"
    is_kept = _copy(template, home / _DATABASE)
    if not is_kept:
        _create_database(home, template)
    process = _start(home, port)
    try:
        try:
            _wait_until_healthy(url, START_TIMEOUT_S, process, home / _LOG)
        except InputError:
            if not is_kept:
                raise
            _stop(process)
            template.unlink(missing_ok=True)
            (home / _DATABASE).unlink(missing_ok=True)
            process = _start(home, port)
            _wait_until_healthy(url, START_TIMEOUT_S, process, home / _LOG)
        yield
    finally:
        _stop(process)


def _create_database(home: Path, template: Path) -> None:
    """Create an empty database, and keep a copy for the next run if the cache can be written."""
    command = [*_PREFECT, "server", "database", "upgrade", "-y"]
    with (home / _LOG).open("wb") as log:
        done = subprocess.run(command, env=_environment(home), stdout=log, stderr=log, check=False)
    if done.returncode == 0:
        _copy(home / _DATABASE, template)


def _copy(source: Path, to: Path) -> bool:
    """Copy a file so that others see it whole or not at all; return whether that succeeded."""
    partial = to.with_name(f"{to.name}.{os.getpid()}.partial")
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, partial)
        partial.replace(to)
    except OSError:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        return False
    return True


def _start(home: Path, port: int) -> subprocess.Popen[bytes]:
    command = [*_PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with (home / _LOG).open("ab") as log:
        return subprocess.Popen(
            command,
            env=_environment(home),
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        )


def _environment(home: Path) -> dict[str, str]:
    """Return the environment of the server: its own folder, no telemetry, no setting of others."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return {
        **others,
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{home / _DATABASE}",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_UI_ENABLED": "false",
        "PREFECT_SERVER_EVENTS_STREAM_OUT_ENABLED": "false",
        **_RECORD_TOGETHER,
        **dict.fromkeys(_UNUSED_SERVICES, "false"),
        "DO_NOT_TRACK": "1",
    }


def _die_with_parent() -> None:
    """Ask the kernel to terminate the server when its parent dies, even by SIGKILL."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Terminate the server and its children; it leads its own process group."""
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, signal_number)
            process.wait(timeout=10)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


@contextmanager
def _without_proxy(url: str) -> Iterator[None]:
    """Keep a proxy out of the way to this machine, for this process and those that it starts."""
    if urlsplit(url).hostname not in _LOOPBACK:
        yield
        return
    before = {name: os.environ.get(name) for name in ("NO_PROXY", "no_proxy")}
    excepted = ",".join([*filter(None, before.values()), *_LOOPBACK])
    os.environ.update(dict.fromkeys(before, excepted))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _wait_until_healthy(
    url: str,
    timeout_s: float,
    process: subprocess.Popen[bytes] | None = None,
    log: Path | None = None,
) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and (process is None or process.poll() is None):
        try:
            if httpx.get(f"{url}/health", timeout=5).status_code == httpx.codes.OK:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    got = f"no response from {url}"
    exit_code = process.poll() if process else None
    if exit_code is not None:
        got += f"; its process exited with code {exit_code}"
    if log is not None:
        said = log.read_bytes()[-_MOST_LOG_BYTES:].decode(errors="replace").strip()
        got += f" and said: {said}" if said else ""
    raise InputError(
        "the Prefect server does not respond",
        got=got,
        expected=f"a healthy server within {timeout_s:.0f} s",
        remedy="Check PREFECT_API_URL, or unset it so that Halosign starts its own server."
        if process is None
        else "Correct what it complains of, or set PREFECT_API_URL to a server that runs.",
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

"""A Prefect server for the duration of one run, where none is configured."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from prefect.settings import PREFECT_API_URL, PREFECT_LOGGING_TO_API_ENABLED, temporary_settings

from matting.errors import InputError

START_TIMEOUT_S = 120.0
"""The first start creates the database, which takes most of a minute on a slow disk."""

CONFIGURED_TIMEOUT_S = 10.0
"""A configured server is running already, so it responds at once or not at all."""

_PR_SET_PDEATHSIG = 1
"""Option of Linux's `prctl`: the signal to send when the parent dies."""


@contextmanager
def prefect_server() -> Iterator[str]:
    """Yield the URL of a Prefect API: the configured one, or that of a temporary server.

    Raises:
        InputError: The server does not respond.
    """
    configured = PREFECT_API_URL.value()
    if configured:
        _wait_until_healthy(configured, CONFIGURED_TIMEOUT_S, process=None)
        yield configured
        return
    port = _free_port()
    url = f"http://127.0.0.1:{port}/api"
    process = _start(port)
    try:
        _wait_until_healthy(url, START_TIMEOUT_S, process)
        with temporary_settings({PREFECT_API_URL: url, PREFECT_LOGGING_TO_API_ENABLED: False}):
            yield url
    finally:
        _stop(process)


def _start(port: int) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-m",
        "prefect",
        "server",
        "start",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    environment = {
        **os.environ,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_UI_ENABLED": "false",
    }
    return subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_die_with_parent if sys.platform == "linux" else None,
    )


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


def _wait_until_healthy(
    url: str, timeout_s: float, process: subprocess.Popen[bytes] | None
) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and (process is None or process.poll() is None):
        try:
            if httpx.get(f"{url}/health", timeout=5).status_code == httpx.codes.OK:
                return
        except httpx.HTTPError:
            time.sleep(0.2)
    got = f"no response from {url}"
    exit_code = process.poll() if process else None
    if exit_code is not None:
        got += f"; its process exited with code {exit_code}"
    raise InputError(
        "the Prefect server does not respond",
        got=got,
        expected=f"a healthy server within {timeout_s:.0f} s",
        remedy="Check PREFECT_API_URL, or unset it so that Halosign starts its own server; "
        "`prefect server start` shows why one does not start.",
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

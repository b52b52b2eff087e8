"""Prefect's worker, whose runs hear that it is stopped, and begin again after a crash.

    python -m flows.prefect_worker --pool cpu --type process

The arguments are those of `prefect worker start`. Prefect's own worker does not tell its runs that
it is stopped: they are killed, and nobody knows until they were silent for long enough
(flows/automations.py). A run that hears of it lets the nodules in hand finish, is recorded as
crashed, and begins again on the next worker, as every crashed run does (flows/crashed_runs.py).
"""

import argparse
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType

import httpx
import psutil
from prefect import get_client

from flows.crashed_runs import begin_crashed_runs_again
from flows.engine.repeating import repeating

LOOK_EVERY_S = 5.0
"""Between two looks for crashed runs."""
PATIENCE_S = 10.0
"""For an answer of the server to a look: a worker that is stopped waits for it."""

_POLL_S = 0.1


def main(arguments: Sequence[str]) -> int:
    """Run Prefect's worker until it ends, or until it is stopped; return its exit code."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-p", "--pool", required=True)
    pool = parser.parse_known_args(arguments)[0].pool

    with get_client(sync_client=True, httpx_settings={"timeout": PATIENCE_S}) as client:

        def look() -> None:
            try:
                begin_crashed_runs_again(client, pool)
            except httpx.HTTPError as error:  # of a server that is restarted; the next look is soon
                print(f"no look for crashed runs: {error!r}", file=sys.stderr, flush=True)

        with repeating(look, LOOK_EVERY_S, "look for crashed runs"):
            return supervise([sys.executable, "-m", "prefect", "worker", "start", *arguments])


def supervise(command: Sequence[str]) -> int:
    """Run a worker's command; a SIGTERM stops its runs in order, and then the worker.

    Returns:
        The worker's exit code, or 0 where it was stopped.
    """
    worker = subprocess.Popen(command)
    stopped = False

    def stop(_: int, __: FrameType | None) -> None:
        nonlocal stopped
        stopped = True
        # Held, since it would take up again at once what its runs give back.
        worker.send_signal(signal.SIGSTOP)
        runs = psutil.Process(worker.pid).children()
        for run in runs:
            run.terminate()
        while any(map(_is_running, runs)):
            time.sleep(_POLL_S)
        worker.kill()

    signal.signal(signal.SIGTERM, stop)
    code = worker.wait()
    return 0 if stopped else code


def _is_running(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)  # its parent, being held, waits not
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

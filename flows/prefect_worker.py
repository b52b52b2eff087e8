"""Prefect's worker, which a SIGTERM stops in order: the runs in hand hear of it first.

    python -m flows.prefect_worker --pool cpu --type process

The arguments are those of `prefect worker start`. Prefect's own worker does not tell its runs that
it is stopped: they are killed, and nobody knows until they were silent for long enough
(flows/automations.py). A run that hears of it lets the nodules in hand finish, is recorded as
crashed, and so begins again on the next worker.
"""

import signal
import subprocess
import sys
import time
from contextlib import suppress
from types import FrameType

import psutil

_POLL_S = 0.1


def main() -> int:
    """Run the worker until it ends, or until it is stopped; return its exit code."""
    worker = subprocess.Popen([sys.executable, "-m", "prefect", "worker", "start", *sys.argv[1:]])
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
    sys.exit(main())

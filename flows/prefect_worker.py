"""Prefect's worker, which a SIGTERM stops in order: the runs in hand hear of it as well.

    python -m flows.prefect_worker --pool cpu --type process

The arguments are those of `prefect worker start`. By itself Prefect's worker waits for its runs
until the container engine kills all of them; nobody then knows that they ended, until they were
silent for long enough (flows/automations.py). A run that hears of it lets the nodules in hand
finish, is recorded as crashed, and so begins again on the next worker.
"""

import signal
import subprocess
import sys
from contextlib import suppress
from types import FrameType

import psutil


def main() -> int:
    """Run the worker until it ends; return its exit code."""
    worker = subprocess.Popen([sys.executable, "-m", "prefect", "worker", "start", *sys.argv[1:]])

    def stop(_: int, __: FrameType | None) -> None:
        worker.terminate()  # the first, so that it begins no other run
        with suppress(psutil.NoSuchProcess):
            for run in psutil.Process(worker.pid).children():
                run.terminate()

    signal.signal(signal.SIGTERM, stop)
    return worker.wait()


if __name__ == "__main__":
    sys.exit(main())

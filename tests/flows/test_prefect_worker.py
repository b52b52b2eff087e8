"""The Prefect worker of the cluster: its runs hear that it is stopped, and it begins no other."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
RUN = """
import signal, sys, time
from pathlib import Path
def stop(*_):
    Path("heard").touch()
    time.sleep(0.5)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
Path("ready").touch()
time.sleep(10)
"""
WORKER = f"""
import subprocess, sys, time
from pathlib import Path
subprocess.Popen([sys.executable, "-c", {RUN!r}], start_new_session=True)
until = time.time() + float(sys.argv[1])
while time.time() < until:
    Path("asked").touch()
    time.sleep(0.02)
sys.exit(7)
"""
"""In the place of Prefect: a worker that asks for work, and its run in a session of its own."""


SUPERVISED = f"""
import sys
from flows.prefect_worker import supervise
sys.exit(supervise([sys.executable, "-c", {WORKER!r}, sys.argv[1]]))
"""


def start(tmp_path, lasts_s):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SUPERVISED, str(lasts_s)]
    started = subprocess.Popen(command, cwd=tmp_path, env=environment)
    until = time.monotonic() + 30
    while not (tmp_path / "ready").exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    return started


def test_a_run_hears_of_the_stop_and_meanwhile_no_other_is_asked_for(tmp_path):
    started = start(tmp_path, 60)
    try:
        started.send_signal(signal.SIGTERM)
        assert started.wait(30) == 0
    finally:
        started.kill()
    assert (tmp_path / "asked").stat().st_mtime_ns <= (tmp_path / "heard").stat().st_mtime_ns


def test_a_worker_that_ends_by_itself_gives_its_exit_code(tmp_path):
    assert start(tmp_path, 0.5).wait(30) == 7

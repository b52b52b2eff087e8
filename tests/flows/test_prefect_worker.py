"""The Prefect worker of the cluster: what is told to stop when it is."""

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
    Path("run").touch()
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
Path("ready").touch()
time.sleep(60)
"""
WORKER = f"""
import signal, subprocess, sys
from pathlib import Path
signal.signal(signal.SIGTERM, lambda *_: Path("worker").touch())
run = subprocess.Popen([sys.executable, "-c", {RUN!r}], start_new_session=True)
run.wait()
sys.exit(7)
"""
"""In the place of Prefect: a worker with one run, which leads a session of its own."""


def test_a_sigterm_reaches_the_worker_and_its_runs_and_their_end_is_waited_for(tmp_path):
    package = tmp_path / "fake" / "prefect"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(WORKER)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path / 'fake'}{os.pathsep}{ROOT}"}
    started = subprocess.Popen(
        [sys.executable, "-m", "flows.prefect_worker", "--pool", "cpu"],
        cwd=tmp_path,
        env=environment,
    )
    try:
        until = time.monotonic() + 30
        while not (tmp_path / "ready").exists():
            assert time.monotonic() < until
            time.sleep(0.05)
        started.send_signal(signal.SIGTERM)
        assert started.wait(30) == 7
    finally:
        started.kill()
    assert (tmp_path / "worker").exists()
    assert (tmp_path / "run").exists()

"""The library that strikes commands does so, at the call that it is told and nowhere else."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from tests.faults.disk_faults import FaultyDisk

CHILD = """
import os, sys
folder = sys.argv[1]
try:
    file = os.open(f"{folder}/a", os.O_CREAT | os.O_WRONLY)
    os.write(file, b"0123456789")
    os.fsync(file)
    os.close(file)
    os.rename(f"{folder}/a", f"{folder}/b")
    file = os.open(f"{folder}/b", os.O_RDONLY)
    os.read(file, 10)
    open(f"{folder}.elsewhere", "w").write("all is well")
except OSError as error:
    sys.exit(error.errno)
"""
WRITES, READS = 4, 2


def carry_out(disk, folder):
    folder.mkdir()
    return subprocess.run(
        [sys.executable, "-c", CHILD, folder],
        env={**os.environ, **disk.environment},
        start_new_session=True,
        check=False,
    ).returncode


@pytest.mark.parametrize(
    ("fault", "at", "code", "left"),
    [
        ("kill", 0, 0, {"b": 10}),
        ("kill", 2, -signal.SIGKILL, {"a": 5}),
        ("kill", 4, -signal.SIGKILL, {"a": 10}),
        ("term", 3, -signal.SIGTERM, {"a": 10}),
        ("write-eio", 1, errno.EIO, {}),
        ("write-enospc", 2, errno.ENOSPC, {"a": 0}),
        ("write-eio", 3, errno.EIO, {"a": 10}),
        ("read-eio", 2, errno.EIO, {"b": 10}),
    ],
)
def test_the_call_that_is_chosen_is_struck(fault, at, code, left, library, tmp_path):
    folder = tmp_path / "work"
    disk = FaultyDisk(library, folder, fault, at)
    assert carry_out(disk, folder) == code
    assert {path.name: path.stat().st_size for path in folder.iterdir()} == left
    calls = disk.calls
    assert (calls.of("kill"), calls.of("read-eio")) == (
        (WRITES, READS) if code == 0 or fault == "read-eio" else (at, 0)
    )
    assert folder.with_name("work.elsewhere").exists() == (code == 0)

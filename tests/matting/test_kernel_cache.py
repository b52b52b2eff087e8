"""The cache of compiled kernels: whatever is wrong with it, the kernel runs and is right."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import matting.kernel_cache
from matting.jit import kernel

ROOT = Path(__file__).parents[2]


def double(values):
    for n in range(values.size):
        values[n] = 2 * values[n]


def run(function):
    """Call a newly decorated kernel; return whether it was compiled or found."""
    compiled = kernel(function)
    values = np.arange(5.0)
    compiled(values)
    assert values.tolist() == [0, 2, 4, 6, 8]
    return "found" if sum(compiled.stats.cache_hits.values()) else "compiled"


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """The folders beside the sources and of the user."""
    pair = (tmp_path / "beside", tmp_path / "user")
    monkeypatch.setattr(matting.kernel_cache, "cache_folders", lambda: pair)
    return pair


def files(folder, kind):
    return sorted(folder.glob(f"*.{kind}"))


def test_a_kernel_is_compiled_once_and_kept_in_the_first_folder(folders):
    assert [run(double), run(double)] == ["compiled", "found"]
    assert len(files(folders[0], "nbi")) == len(files(folders[0], "nbc")) == 1
    assert not folders[1].exists()


def flip(data):
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


DAMAGES = {
    "emptied": lambda _: b"",
    "cut short": lambda data: data[: len(data) // 2],
    "one bit": flip,
    "zeros": lambda data: bytes(len(data)),
    "foreign": lambda _: b"#!/bin/sh\nexit 1\n",
    "pickled by another program": lambda _: b"\x80\x05]\x94.",
}


@pytest.mark.parametrize("kind", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_spoiled_file_is_a_miss_and_is_replaced(folders, kind, damage):
    run(double)
    (path,) = files(folders[0], kind)
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    assert [run(double), run(double)] == ["compiled", "found"]


def test_machine_code_of_other_versions_goes_once_it_was_not_used_for_long(tmp_path, monkeypatch):
    now = tmp_path / f"kernels-{0:016x}"
    monkeypatch.setattr(matting.kernel_cache, "cache_folders", lambda: (now,))
    long_ago = time.time() - (matting.kernel_cache.KEPT_DAYS + 1) * 86_400
    old, recent, foreign = (
        tmp_path / name for name in (f"kernels-{1:016x}", f"kernels-{2:016x}", "kernels-of-mine")
    )
    for folder in (old, recent, foreign):
        folder.mkdir()
        (folder / "code.nbc").write_bytes(b"machine code")
    for folder in (old, foreign):
        os.utime(folder, (long_ago, long_ago))
    run(double)
    assert sorted(tmp_path.iterdir()) == sorted((now, recent, foreign))


def test_machine_code_that_is_found_counts_as_used(folders):
    run(double)
    os.utime(folders[0], (0, 0))
    matting.kernel_cache._mark_used.cache_clear()
    assert run(double) == "found"
    assert time.time() - folders[0].stat().st_mtime < 60


@pytest.mark.parametrize("kind", ["nbi", "nbc"])
def test_a_missing_file_is_a_miss(folders, kind):
    run(double)
    files(folders[0], kind)[0].unlink()
    assert [run(double), run(double)] == ["compiled", "found"]


def test_a_file_in_place_of_the_folder_sends_kernels_to_the_next(folders):
    folders[0].write_text("not a folder")
    assert [run(double), run(double)] == ["compiled", "found"]
    assert len(files(folders[1], "nbc")) == 1


def test_where_no_folder_can_be_written_each_process_compiles(folders):
    for folder in folders:
        folder.write_text("not a folder")
    assert [run(double), run(double)] == ["compiled", "compiled"]


def test_a_folder_that_was_filled_before_serves_without_being_written(folders):
    """As in an image: the kernels of another user, beside sources that are read-only."""
    run(double)
    before = {path: path.stat().st_mtime_ns for path in folders[0].iterdir()}
    folders[0].chmod(0o555)
    assert run(double) == "found"
    assert {path: path.stat().st_mtime_ns for path in folders[0].iterdir()} == before
    folders[0].chmod(0o755)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a full file system")
def test_a_full_file_system_sends_kernels_to_the_next_folder(folders):
    folders[0].mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(folders[0])]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this machine lets root mount nothing")
    try:
        assert [run(double), run(double)] == ["compiled", "found"]
        assert files(folders[0], "nbc") == []
        assert len(files(folders[1], "nbc")) == 1
    finally:
        subprocess.run(["umount", str(folders[0])], check=True)


def test_another_source_has_another_folder(tmp_path):
    """A kernel copies what it calls, so a change anywhere in `matting` makes all of them old."""
    copy = tmp_path / "matting"
    shutil.copytree(ROOT / "matting", copy, ignore=shutil.ignore_patterns("__pycache__", "learned"))
    script = "import matting.kernel_cache as k; print(k.source_key())"

    def key():
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True,
            text=True, check=True,
        )  # fmt: skip
        return done.stdout.strip()

    before = key()
    assert key() == before
    with (copy / "geometry" / "box.py").open("a") as file:
        file.write("# changed\n")
    assert key() != before

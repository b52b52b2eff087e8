"""What a network costs: measured in a process of its own, once."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from storage.results.experiments import find_cost
from tasks.experiments import cost
from tasks.experiments.cost import measure_cost

ROOT = Path(cost.__file__).parents[2]
SMALL = """
import runpy
import matting.learned.counting as counting
counting.TABLE_3_INPUT = (1, 1, 16, 32, 32)
runpy.run_module("tasks.experiments.cost", run_name="__main__")
"""


@pytest.mark.slow
def test_a_network_is_measured_once_and_then_read(store, monkeypatch):
    calls = []

    def run(command, **how):
        calls.append(command)
        # The same in small: at 96^3 a pass takes seconds.
        return real([command[0], "-c", SMALL, command[-1]], **how)

    real = subprocess.run
    monkeypatch.setattr(cost.subprocess, "run", run)
    held_here = np.ones(10**8)  # 800 MB that are not the network's
    measured = measure_cost(store, "0.1.0", "3dmm-mg", "told", (16, 32, 32), "cpu")
    assert measured.parameters == 32_577
    # At 96^3 whatever is timed: tests/matting/learned/test_network.py holds the numbers
    assert measured.multiply_adds > 5e9
    assert measured.latency_s > 0 < measured.crop_latency_s
    assert 0 < measured.peak_mb < held_here.nbytes / 1e6 / 4
    assert (measured.crop_zyx, measured.passes) == ("16x32x32", cost.MAX_PASSES)
    assert "thread" in measured.device
    assert measure_cost(store, "0.1.0", "3dmm-mg", "told", (16, 32, 32), "cpu") == measured
    assert len(calls) == 1
    # The id that costs had before networks could be untold
    asked = {"variant": "3dmm-mg", "auxiliary": True, "crop_zyx": [16, 32, 32]}
    machine = {"device": cost.device_name("cpu"), "torch": torch.__version__}
    assert find_cost(store, "0.1.0", cost.cost_id(asked | machine)) == measured
    assert find_cost(store, "0.1.0", "none") is None


def test_what_cannot_be_measured_says_why(store, monkeypatch):
    monkeypatch.setattr(cost.sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match="3dmm-mg could not be measured"):
        measure_cost(store, "0.1.0", "3dmm-mg", "told", (16, 32, 32), "cpu")


def test_a_module_of_the_users_in_the_current_folder_is_not_taken(store, tmp_path, monkeypatch):
    (tmp_path / "tasks.py").write_text("raise ValueError('a module of the user')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with pytest.raises(RuntimeError, match="4dmm could not be measured") as error:
        measure_cost(store, "0.1.0", "4dmm", "told", (16, 32, 32), "cpu")
    assert "a module of the user" not in str(error.value)


@pytest.mark.parametrize(
    ("seconds", "median", "passes"),
    [
        # Never fewer than three, at most seven, and no more than 20 seconds
        ([15.0, 30.0, 20.0], 20.0, 3),
        ([1.0, 2.0, 2.5, 3.0, 2.0, 1.5, 2.2, 9.0], 2.0, 7),
        ([6.0, 6.5, 7.5, 8.0], 6.5, 3),
        ([6.0, 6.0, 7.0, 8.0], 6.5, 4),
    ],
)
def test_passes_are_timed_until_there_are_enough(monkeypatch, seconds, median, passes):
    clock = iter([t for s in seconds for t in (100.0, 100.0 + s)])
    monkeypatch.setattr(cost.time, "perf_counter", lambda: next(clock))
    calls = []
    image = torch.zeros(1)
    assert cost._latency(calls.append, image) == (pytest.approx(median), passes)
    assert len(calls) == passes

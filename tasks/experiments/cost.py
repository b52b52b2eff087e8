"""The cost of a network: parameters, multiply-adds, seconds and memory of a pass (Table 3).

Each network is measured in a process of its own, `python -m tasks.experiments.cost`, since peak
memory is known of a whole process only.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import asdict
from typing import Any

import psutil
import torch
from torch import Tensor

from matting.learned.counting import TABLE_3_INPUT, multiply_adds, parameter_count
from matting.learned.devices import pick_device, set_num_threads
from matting.learned.network import build_network
from matting.parameters import Auxiliary
from storage.records import Cost, stored_auxiliary
from storage.results.experiments import cost_id, find_cost, write_cost
from storage.store import Store
from tasks.memory import peak_bytes

MIN_PASSES = 3
"""Passes that are timed at least."""
MAX_PASSES = 7
"""Passes that are timed at most."""
TIMING_LIMIT_S = 20.0
"""Seconds of timing after which no further pass begins, once there are MIN_PASSES."""
_MB = 1e6


def measure_cost(
    store: Store,
    version: str,
    variant: str,
    auxiliary: Auxiliary,
    crop_zyx: tuple[int, int, int],
    device: str,
) -> Cost:
    """Measure the cost of a network on this machine, or read it from the store.

    Args:
        store: The store.
        version: Version of the release under which the cost is stored.
        variant: One of `matting.learned.network.VARIANTS`.
        auxiliary: told, untold or none.
        crop_zyx: Size of the training crops, for a second latency.
        device: auto, cpu, cuda.

    Returns:
        The cost.

    Raises:
        RuntimeError: The measurement failed.
    """
    asked = {
        "variant": variant,
        "auxiliary": stored_auxiliary(auxiliary),
        "crop_zyx": list(crop_zyx),
        "device": device_name(device),
    }
    name = cost_id(asked | {"torch": torch.__version__})
    known = find_cost(store, version, name)
    if known is None:
        asking = json.dumps([variant, auxiliary, crop_zyx, device])
        # Without the current folder on the path, which may hold a `tasks.py` of the user's
        command = [sys.executable, "-P", "-m", __name__, asking]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{variant} could not be measured: {done.stderr.strip()[-500:]}")
        known = Cost(**json.loads(done.stdout.splitlines()[-1]))
        write_cost(store, version, name, known)
    return known


def device_name(device: str) -> str:
    """Return the model of the GPU, or of the CPU with its number of threads."""
    place = pick_device(device)
    if place.type == "cuda":
        return torch.cuda.get_device_name(place)
    set_num_threads()
    threads = torch.get_num_threads()
    return f"{_cpu_model()}, {threads} thread{'' if threads == 1 else 's'}"


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(
                line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
            )
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def cost_here(
    variant: str, auxiliary: Auxiliary, crop_zyx: tuple[int, int, int], device: str
) -> Cost:
    """Measure a network in this process, which must be a new one; arguments as `measure_cost`."""
    name = device_name(device)
    place = pick_device(device)
    load, _, _ = os.getloadavg()
    network = build_network(variant, auxiliary)
    counts = parameter_count(network), multiply_adds(network)
    network.to(place).eval()
    with torch.inference_mode():
        peak_mb = _peak_mb(network, _input(TABLE_3_INPUT, place))
        latency_s, passes = _latency(network, _input(TABLE_3_INPUT, place))
        _pass(network, _input((1, 1, *crop_zyx), place))
        crop_latency_s, _ = _latency(network, _input((1, 1, *crop_zyx), place))
    size = "x".join(map(str, crop_zyx))
    return Cost(
        variant,
        auxiliary,
        *counts,
        latency_s,
        peak_mb,
        size,
        crop_latency_s,
        passes,
        name,
        torch.__version__,
        round(load, 2),
    )


def _input(shape: tuple[int, ...], device: torch.device) -> Tensor:
    image = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    return image.to(device)


def _pass(network: Any, image: Tensor) -> None:
    network(image)
    if image.device.type == "cuda":
        torch.cuda.synchronize(image.device)


def _peak_mb(network: Any, image: Tensor) -> float:
    """Return by how much the first pass raises the peak memory, in MB."""
    if image.device.type == "cuda":
        before = torch.cuda.memory_allocated(image.device)
        _pass(network, image)
        return (torch.cuda.max_memory_allocated(image.device) - before) / _MB
    before = psutil.Process().memory_info().rss
    _pass(network, image)
    return (peak_bytes() - before) / _MB


def _latency(network: Any, image: Tensor) -> tuple[float, int]:
    """Return the median seconds of a pass, and the number of passes."""
    seconds: list[float] = []
    while len(seconds) < MIN_PASSES or (
        len(seconds) < MAX_PASSES and sum(seconds) < TIMING_LIMIT_S
    ):
        begin = time.perf_counter()
        _pass(network, image)
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds), len(seconds)


if __name__ == "__main__":
    print(json.dumps(asdict(cost_here(*json.loads(sys.argv[1])))))

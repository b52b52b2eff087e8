"""Tools of the benchmarks: CPU time on one thread, peak memory of a process, tables, results.

Memory is the kernel's high-water mark of the process (`VmHWM`, what `ru_maxrss` reports), reset
after imports and compiling where the kernel allows it.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numba
from threadpoolctl import threadpool_limits

from storage.cases.case import ALGORITHM_VERSION
from tasks.memory import peak_bytes, status_bytes

RESULTS = Path(__file__).parent / "results"
PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
MEGABYTE = 1e6
T = TypeVar("T")


def command_line(text: str | None) -> argparse.ArgumentParser:
    """Return the parser of a benchmark's command line, whose help is the module's text."""
    formatter = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(description=text, formatter_class=formatter)


def one_thread() -> None:
    """Keep this process, BLAS and compiled loops included, on one thread from now on."""
    threadpool_limits(1)
    numba.set_num_threads(1)


def cpu_seconds(
    action: Callable[[], T], *, repeats: int = 5, budget_s: float = 5.0
) -> tuple[float, T]:
    """Return the median CPU seconds of an action, repeated within a budget, and its result."""
    spent: list[float] = []
    while True:
        start = time.process_time()
        result = action()
        spent.append(time.process_time() - start)
        if len(spent) >= repeats or sum(spent) >= budget_s:
            return statistics.median(spent), result


def reset_peak() -> int:
    """Reset the peak; return the bytes held now, or the peak so far where it cannot be reset."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return peak_bytes()
    return status_bytes("VmRSS")


def in_own_process(module: str, *arguments: str) -> dict[str, Any]:
    """Run `python -m module arguments` and read the JSON of its last line."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def save(name: str, report: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(
        json.dumps({"algorithm": ALGORITHM_VERSION, **report}, indent=1) + "\n"
    )


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Set rows under a header: first column to the left, numbers with four digits to the right."""
    cells = [list(header), *([_cell(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if n == 0 else cell.rjust(width)
            for n, (cell, width) in enumerate(pairs)
        )
        for pairs in (list(zip(row, widths, strict=True)) for row in cells)
    )


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

"""How much memory all eight methods take, against the unknown voxels and against the patch.

    python -m benchmarks.memory

A soft ball in textured lung; its shell is unknown. Every figure comes from a process of its own that makes the ball,
solves all eight in one call and reads its peak: in all, and beyond what it held after imports, compiling and the ball.
The first row is the target: 4.5 million voxels, about 150,000 of them unknown, under 1.5 GB in all.
"""

import argparse
import json

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import MEGABYTE, in_own_process, one_thread, peak_bytes, reset_peak, save, table
from matting import estimate_alphas
from matting.phantoms import LUNG_HU, TISSUE_HU
from matting.trimap import BACKGROUND, FOREGROUND, UNKNOWN

SPACING_MM = (0.5, 0.5, 0.5)
LIMIT_MB = 1500
SIDE, UNKNOWN_VOXELS = 165, 150_000
OF_UNKNOWN = [(SIDE, count) for count in (10_000, 50_000, 100_000)]
OF_PATCH = [(side, 50_000) for side in (104, 131, 208)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", nargs=2, type=int, metavar=("SIDE", "UNKNOWN"), help="one figure; for the processes")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(*arguments.one)))
        return
    cases = [(SIDE, UNKNOWN_VOXELS), *OF_UNKNOWN, *OF_PATCH]
    rows = [in_own_process("benchmarks.memory", "--one", str(side), str(count)) for side, count in cases]
    print(table(tuple(rows[0]), [tuple(row.values()) for row in rows]))
    met = rows[0]["peak MB"] < LIMIT_MB
    print(f"{rows[0]['peak MB']:.0f} MB against {LIMIT_MB} MB: {'met' if met else 'missed'}")
    save("memory", {"limit_mb": LIMIT_MB, "met": met, "rows": rows})


def measure(side: int, count: int) -> dict[str, float]:
    one_thread()
    estimate_alphas(*ball(24, 3000), spacing_mm=SPACING_MM)
    hu, labels = ball(side, count)
    held = reset_peak()
    solutions = estimate_alphas(hu, labels, spacing_mm=SPACING_MM)
    peak = peak_bytes()
    unknown = int((labels == UNKNOWN).sum())
    return {
        "patch voxels": labels.size,
        "unknown voxels": unknown,
        "peak MB": round(peak / MEGABYTE),
        "beyond start MB": round((peak - held) / MEGABYTE),
        "mattes themselves MB": round(sum(solution.alpha.nbytes for solution in solutions.values()) / MEGABYTE),
        "converged": sum(solution.converged for solution in solutions.values()),
    }


def ball(side: int, count: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Make a cube of lung with a ball of tissue whose shell of about `count` voxels, 7 thick, is unknown."""
    width = 7.0 if count > 5000 else 4.0
    middle = np.sqrt(count / (4 * np.pi * width))
    axis = np.arange(side, dtype=np.float32) - (side - 1) / 2
    distance = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    alpha = 1 / (1 + np.exp((distance - middle) / 1.2))
    noise = np.random.default_rng(1).normal(0, 30, distance.shape).astype(np.float32)
    hu = (LUNG_HU + alpha * (TISSUE_HU - LUNG_HU) + noise).astype(np.float32)
    labels = np.full(distance.shape, UNKNOWN, np.uint8)
    labels[distance < middle - width / 2] = FOREGROUND
    labels[distance > middle + width / 2] = BACKGROUND
    return hu, labels


if __name__ == "__main__":
    main()

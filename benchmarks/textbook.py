"""Beside the textbook: closed form in 3D as papers write it down, on one nodule.

    python -m benchmarks.textbook

The textbook's way: the Laplacian of all windows of the whole patch as a sparse matrix, (L + 100 D)
a = 100 D S, and conjugate gradients with the diagonal as preconditioner, to the same residual.
Ours: solve("cf"), which holds known voxels exactly; `ours, pulled` has the textbook's weight
instead (solver.constraint_weight), to tell what the weight changes from what the computation
changes. Each side runs in a process of its own; memory is its peak beyond what it held after
imports and compiling on a small volume. All sides use the paper's closed form (PAPER): a line in
intensity alone, every window counting the same; the chain's defaults have a second channel, which
the textbook has not.
"""

import json
import tempfile
from pathlib import Path

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, cg

from benchmarks.measure import (
    MEGABYTE,
    command_line,
    cpu_seconds,
    in_own_process,
    one_thread,
    reset_peak,
    save,
    table,
)
from benchmarks.nodules import reference_nodule
from matting import Parameters, solve
from matting.geometry.trimap import FOREGROUND, UNKNOWN
from matting.parameters import ClosedFormSettings, SolverSettings
from matting.solvers.solve_domain import to_intensity
from tasks.memory import peak_bytes

PENALTY = 100.0
PAPER = ClosedFormSettings()
SIDES = ("ours", "ours, pulled", "textbook")
ROW = 125
"""Entries a row: voxels that share a window lie within 2 of each other along each axis."""
Floats = NDArray[np.float64]


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--side", choices=SIDES, help="run this side only; for the processes")
    parser.add_argument("--folder", type=Path, help="where the nodule lies and its matte goes")
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(run_side(arguments.side, arguments.folder)))
    else:
        compare()


def compare() -> None:
    nodule = reference_nodule()
    with tempfile.TemporaryDirectory() as name:
        np.savez(
            Path(name, "nodule.npz"),
            hu=nodule.image_hu,
            labels=nodule.labels,
            spacing_mm=nodule.spacing_mm,
        )
        sides = {
            side: in_own_process("benchmarks.textbook", "--side", side, "--folder", name)
            for side in SIDES
        }
        mattes = {side: np.load(Path(name, f"{side}.npy"))[nodule.unknown] for side in SIDES}
    textbook = sides["textbook"]
    ratios = {
        figure: round(textbook[figure] / sides["ours"][figure], 1)
        for figure in ("seconds", "megabytes")
    }
    apart = {
        side: float(f"{np.abs(mattes[side] - mattes['textbook']).mean():.3g}")
        for side in SIDES
        if side != "textbook"
    }
    print(f"{nodule.id}: {nodule.unknown_voxels} unknown voxels in a patch of {nodule.labels.size}")
    print(
        table(
            ("", "CPU s", "MB", "iterations"),
            [(side, *figures.values()) for side, figures in sides.items()],
        )
    )
    print(f"ratios {ratios}; mean difference from the textbook over the unknown region {apart}")
    facts = {
        "id": nodule.id,
        "unknown_voxels": nodule.unknown_voxels,
        "patch_voxels": nodule.labels.size,
    }
    save("textbook", {**facts, **sides, "ratios": ratios, "mean_difference": apart})


def run_side(side: str, folder: Path) -> dict[str, float]:
    one_thread()
    warm_up(side)
    stored = np.load(folder / "nodule.npz")
    hu, labels, spacing_mm = stored["hu"], stored["labels"], tuple(stored["spacing_mm"].tolist())
    held = reset_peak()
    seconds, (alpha, iterations) = cpu_seconds(
        lambda: matte(side, hu, labels, spacing_mm), repeats=1 if side == "textbook" else 5
    )
    peak = peak_bytes() - held
    np.save(folder / f"{side}.npy", alpha)
    return {
        "seconds": round(seconds, 4),
        "megabytes": round(peak / MEGABYTE, 1),
        "iterations": iterations,
    }


def warm_up(side: str) -> None:
    """Compile on a small volume."""
    labels = np.zeros((6, 6, 6), np.uint8)
    labels[1:5, 1:5, 1:5], labels[3, 3, 3] = UNKNOWN, FOREGROUND
    hu = np.random.default_rng(1).normal(-400, 200, labels.shape)
    matte(side, hu, labels, (0.5, 0.5, 0.5))


def matte(
    side: str,
    hu: NDArray[np.floating],
    labels: NDArray[np.uint8],
    spacing_mm: tuple[float, float, float],
) -> tuple[Floats, int]:
    """Return the matte and the iterations it took."""
    if side == "textbook":
        return textbook_matte(to_intensity(hu, Parameters().solver.intensity_range_hu), labels)
    weight = PENALTY if side == "ours, pulled" else None
    parameters = Parameters(
        solver=SolverSettings(constraint_weight=weight, intensity_curve=0.0), closed_form=PAPER
    )
    solution = solve("cf", hu, labels, spacing_mm=spacing_mm, parameters=parameters)
    return solution.alpha, solution.iterations


def textbook_matte(intensity: Floats, labels: NDArray[np.uint8]) -> tuple[Floats, int]:
    known = (labels != UNKNOWN).ravel()
    system = laplacian(intensity, PAPER.epsilon, PENALTY * known)
    target = PENALTY * (labels == FOREGROUND).ravel().astype(np.float64)
    inverse = 1.0 / system.diagonal()
    steps: list[None] = []
    alpha, failed = cg(
        system,
        target,
        rtol=Parameters().solver.tolerance,
        maxiter=20000,
        M=LinearOperator(system.shape, matvec=lambda r: inverse * r),
        callback=lambda _: steps.append(None),
    )
    if failed:
        raise RuntimeError(f"the textbook's solver stopped after {failed} iterations")
    return np.clip(alpha, 0, 1).reshape(labels.shape), len(steps)


def laplacian(intensity: Floats, epsilon: float, penalty: Floats) -> sparse.csr_array:
    """Sum d_ij - (1 + (I_i - m)(I_j - m) / (v + epsilon/27)) / 27 over windows; add the penalty."""
    size = intensity.size
    values, columns = np.zeros((size, ROW)), np.zeros((size, ROW), np.int32)
    fill(intensity, epsilon, values, columns)
    values[:, ROW // 2] += penalty
    starts = np.arange(0, ROW * size + 1, ROW, dtype=np.int32 if ROW * size < 2**31 else np.int64)
    return sparse.csr_array((values.ravel(), columns.ravel(), starts), shape=(size, size))


@numba.njit(cache=True)
def fill(intensity: Floats, epsilon: float, values: Floats, columns: NDArray[np.int32]) -> None:
    """Fill rows of a fixed pattern; entries beyond the volume stay zero in the row's own column."""
    depth, height, width = intensity.shape
    for voxel in range(intensity.size):
        z, y, x = voxel // (height * width), voxel // width % height, voxel % width
        for entry in range(ROW):
            a, b, c = z + entry // 25 - 2, y + entry // 5 % 5 - 2, x + entry % 5 - 2
            inside = 0 <= a < depth and 0 <= b < height and 0 <= c < width
            columns[voxel, entry] = (a * height + b) * width + c if inside else voxel
    for z in range(1, depth - 1):
        for y in range(1, height - 1):
            for x in range(1, width - 1):
                add_window(intensity, epsilon, values, z, y, x)


@numba.njit(cache=True)
def add_window(intensity: Floats, epsilon: float, values: Floats, z: int, y: int, x: int) -> None:
    _, height, width = intensity.shape
    window = intensity[z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2]
    mean = window.mean()
    scale = 1.0 / (((window - mean) ** 2).mean() + epsilon / 27.0)
    for i in range(27):
        zi, yi, xi = i // 9, i // 3 % 3, i % 3
        row = ((z + zi - 1) * height + y + yi - 1) * width + x + xi - 1
        for j in range(27):
            zj, yj, xj = j // 9, j // 3 % 3, j % 3
            share = (1.0 + (window[zi, yi, xi] - mean) * (window[zj, yj, xj] - mean) * scale) / 27.0
            values[row, ((zj - zi + 2) * 5 + yj - yi + 2) * 5 + xj - xi + 2] += (i == j) - share


if __name__ == "__main__":
    main()

"""How much memory all eight methods take, against the unknown voxels and against the patch.

    python -m benchmarks.memory

A soft ball in textured lung; its shell is unknown. Every figure comes from a process of its own
that makes the ball, solves all eight in one call and reads its peak: in all, and beyond what it
held after imports, compiling and the ball. The first row is the target: 4.5 million voxels, about
150,000 of them unknown, under 1.5 GB in all. Then whole nodules, from files to a stored case, each
in a process of its own: what `halosign plan` expects of a worker (tasks/curation/plan.py) against
what it took. Real nodules of all sizes, or else such balls.
"""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from benchmarks.measure import (
    MEGABYTE,
    command_line,
    in_own_process,
    one_thread,
    reset_peak,
    save,
    table,
)
from benchmarks.nodules import FOLDER_VARIABLE, real_folder, real_ids_by_volume, spread
from flows.curate import curate_nodule
from matting import estimate_alphas
from matting.geometry.trimap import BACKGROUND, FOREGROUND, UNKNOWN
from matting.phantoms import LUNG_HU, TISSUE_HU
from storage.recipe import Recipe
from storage.records import Outcome
from storage.sources.registry import SourceSpec
from storage.store import open_store
from tasks.curation.context import CurationJob
from tasks.curation.inventory import take_inventory
from tasks.curation.plan import expected_peak_bytes
from tasks.memory import peak_bytes

SPACING_MM = (0.5, 0.5, 0.5)
LIMIT_MB = 1500
SIDE, UNKNOWN_VOXELS = 165, 150_000
OF_UNKNOWN = [(SIDE, count) for count in (10_000, 50_000, 100_000)]
OF_PATCH = [(side, 50_000) for side in (104, 131, 208)]
WHOLE_NODULES = 8
BALLS = {f"ball-{side}": side for side in (40, 80, 120)}
TABLE = "nodule,patient,image,readers,n_readers\n{name},P,{image},{readers},4\n"


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument(
        "--one",
        nargs=2,
        type=int,
        metavar=("SIDE", "UNKNOWN"),
        help="one figure; for the processes",
    )
    parser.add_argument("--whole", metavar="NODULE", help="one whole nodule; for the processes")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(*arguments.one)))
        return
    if arguments.whole:
        print(json.dumps(measure_whole(arguments.whole)))
        return
    cases = [(SIDE, UNKNOWN_VOXELS), *OF_UNKNOWN, *OF_PATCH]
    rows = [
        in_own_process("benchmarks.memory", "--one", str(side), str(count)) for side, count in cases
    ]
    print(table(tuple(rows[0]), [tuple(row.values()) for row in rows]))
    met = rows[0]["peak MB"] < LIMIT_MB
    print(f"{rows[0]['peak MB']:.0f} MB against {LIMIT_MB} MB: {'met' if met else 'missed'}")
    folder = real_folder()
    names = spread(real_ids_by_volume(folder), WHOLE_NODULES) if folder else list(BALLS)
    whole = [in_own_process("benchmarks.memory", "--whole", name) for name in names]
    whole = [row for row in whole if row["state"] == "done"]
    print(table(tuple(whole[0]), [tuple(row.values()) for row in whole]))
    save("memory", {"limit_mb": LIMIT_MB, "met": met, "rows": rows, "whole": whole})


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
        "mattes themselves MB": round(
            sum(solution.alpha.nbytes for solution in solutions.values()) / MEGABYTE
        ),
        "converged": sum(solution.converged for solution in solutions.values()),
    }


def measure_whole(name: str) -> dict[str, Any]:
    """Curate one nodule as a worker does, after another has compiled everything."""
    one_thread()
    with tempfile.TemporaryDirectory() as folder:
        curate("ball-40", Path(folder, "warm"))
        reset_peak()
        outcome = curate(name, Path(folder, "measured"))
        peak = peak_bytes()
    return {
        "id": name,
        "state": outcome.state,
        "patch voxels": outcome.patch_voxels,
        "unknown voxels": outcome.unknown_voxels,
        "expected MB": round(
            expected_peak_bytes(outcome.patch_voxels, outcome.unknown_voxels) / MEGABYTE
        ),
        "peak MB": round(peak / MEGABYTE),
    }


def curate(name: str, folder: Path) -> Outcome:
    folder.mkdir()
    image, readers = (str(folder / f"{part}.nii.gz") for part in ("image", "readers"))
    if name in BALLS:
        write_ball(BALLS[name], image, readers)
    else:
        nodules = Path(os.environ[FOLDER_VARIABLE], "nodules")
        image, readers = (str(nodules / f"{name}.{part}.nii.gz") for part in ("image", "readers"))
    Path(folder, "table.csv").write_text(
        TABLE.format(
            name=name,
            image=os.path.relpath(image, folder),
            readers=os.path.relpath(readers, folder),
        )
    )
    store = f"{folder}/store"
    open_store(store, create=True)
    job = CurationJob(SourceSpec("files", f"{folder}/table.csv"), store, Recipe())
    return curate_nodule(take_inventory(job, None).nodules[0], job)


def write_ball(side: int, image: str, readers: str) -> None:
    """Write a ball as CT and four readers' masks that differ by a voxel."""
    hu, _ = ball(side, side**2)
    axis = np.arange(side, dtype=np.float32) - (side - 1) / 2
    distance = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    bits = sum((distance < side / 6 + r).astype(np.uint8) << r for r in range(4))
    for path, values in ((image, hu.astype(np.int16)), (readers, bits)):
        volume = sitk.GetImageFromArray(values)
        volume.SetSpacing(SPACING_MM)
        sitk.WriteImage(volume, path)


def ball(side: int, count: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Make a cube of lung with a ball of tissue, whose shell of about `count` voxels is unknown."""
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

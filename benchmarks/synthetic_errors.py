"""Errors of each method on simulated nodules, beside readers' masks and trivial mattes.

    python -m benchmarks.synthetic_errors [--seeds 1 2]

Real outlines of 24 LIDC-IDRI nodules (8 of each kind; none of them in the demo), simulated CT, the
chain's own defaults. Errors are mean absolute errors over the unknown region, averaged over
nodules, against

    alpha     the known matte
    density   the known matte times q(F), the radiodensity target of the pure lesion (+ methods)

The trivial rows scale HU linearly: `trivial lung-tissue` from -870 to 40 HU (the very levels that
the simulation is built from), `trivial air-tissue` from -1000 to 40 HU. `best reader` is the
reader's mask with the smallest error against the column's own truth: a choice that needs the truth.
docs/errors.md is written from the result.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import command_line, one_thread, save
from benchmarks.nodules import (
    STAND_INS,
    known_alpha,
    make_ready,
    native_patch,
    pure_lesion_hu,
    simulated,
)
from matting import METHODS, estimate_alphas
from matting.parameters import DensitySettings, Parameters
from matting.phantoms import LUNG_HU, TISSUE_HU
from storage.sources.synthetic import PlacedLesion, SyntheticSlab

Array = NDArray[np.float64]


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2], help="of the simulation")
    arguments = parser.parse_args()
    one_thread()
    save("synthetic_errors", {"seeds": {str(seed): measure_seed(seed) for seed in arguments.seeds}})


def measure_seed(seed: int) -> dict[str, Any]:
    nodules = [row for kind in STAND_INS for row in measure_kind(kind, seed)]
    table = {kind: mean_errors([n for n in nodules if n["kind"] == kind]) for kind in STAND_INS}
    for kind, rows in table.items():
        print(f"seed {seed}, {as_text(kind, rows)}", end="\n\n", flush=True)
    return {"table": table, "nodules": nodules}


def measure_kind(kind: str, seed: int) -> Iterator[dict[str, Any]]:
    for short in STAND_INS[kind].split():
        slab, placed, spacing_mm = simulated(f"LIDC-IDRI-{short}", seed)
        if placed.marked.ratings.kind != kind:
            raise ValueError(f"{short} is {placed.marked.ratings.kind}, not {kind}")
        errors, unknown = nodule_errors(slab, placed, spacing_mm)
        yield {"id": placed.marked.id, "kind": kind, "unknown_voxels": unknown, "errors": errors}


def nodule_errors(
    slab: SyntheticSlab, placed: PlacedLesion, spacing_mm: tuple[float, float, float]
) -> tuple[dict[str, dict[str, float]], int]:
    """Run the chain on one nodule and hold every row against both truths."""
    native = native_patch(slab, placed, spacing_mm)
    nodule = make_ready(placed.marked.id, native)
    patch, unknown, pure_hu = nodule.patch, nodule.unknown, pure_lesion_hu(native, placed)
    solutions = estimate_alphas(
        nodule.image_hu,
        nodule.labels,
        spacing_mm=nodule.spacing_mm,
        methods=METHODS,
        parameters=Parameters(),
    )
    alpha = known_alpha(patch)[unknown].astype(np.float64)
    truths = {"alpha": alpha, "density": alpha * density(pure_hu[unknown])}
    masks = patch.readers[:, unknown].astype(np.float64)
    hu = patch.image_hu[unknown].astype(np.float64)
    rows = {str(name): solution.alpha[unknown] for name, solution in solutions.items()}
    rows["readers' mean"] = masks.mean(axis=0)
    rows["trivial lung-tissue"] = np.clip((hu - LUNG_HU) / (TISSUE_HU - LUNG_HU), 0, 1)
    rows["trivial air-tissue"] = np.clip((hu + 1000) / (TISSUE_HU + 1000), 0, 1)
    errors = {
        name: {truth: error(row, known) for truth, known in truths.items()}
        for name, row in rows.items()
    }
    errors["best reader"] = {
        truth: min(error(mask, known) for mask in masks) for truth, known in truths.items()
    }
    return errors, int(unknown.sum())


def density(hu: Array) -> Array:
    """Eq. 28 with the paper's window, written out once more on purpose."""
    window = DensitySettings()
    return np.clip((hu - (window.level_hu - window.width_hu / 2)) / window.width_hu, 0, 1)


def error(prediction: Array, truth: Array) -> float:
    return round(float(np.abs(prediction - truth).mean()), 4)


def mean_errors(nodules: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    rows = nodules[0]["errors"]
    return {
        row: {
            truth: round(float(np.mean([n["errors"][row][truth] for n in nodules])), 4)
            for truth in rows[row]
        }
        for row in rows
    }


def as_text(kind: str, rows: dict[str, dict[str, float]]) -> str:
    lines = [f"{kind:<22}{'alpha':>9}{'density':>9}"]
    for name, row in rows.items():
        lines.append(
            f"  {name:<20}{row['alpha']:9.4f}{row['density']:9.4f}  {lost_to(name, rows)}".rstrip()
        )
    return "\n".join(lines)


def lost_to(name: str, rows: dict[str, dict[str, float]]) -> str:
    """Name the rows that are no method and yet nearer to what this method seeks."""
    better = better_rivals(name, rows) if name in METHODS else []
    return f"loses to {', '.join(better)}" if better else ""


def better_rivals(method: str, rows: dict[str, dict[str, float]]) -> list[str]:
    truth = sought(method)
    return [
        rival for rival in rows if rival not in METHODS and rows[rival][truth] < rows[method][truth]
    ]


def sought(method: str) -> str:
    """Return the truth that a method is held against."""
    return "density" if method.endswith("+") else "alpha"


if __name__ == "__main__":
    main()

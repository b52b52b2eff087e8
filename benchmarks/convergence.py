"""Convergence of the eight methods on every real nodule, and differences between their mattes.

    python -m benchmarks.convergence [--nodules 528] [--processes 2]

Residual 1e-7, the chain's defaults. What did not converge is named with its status; nodules that
have no trimap are named with the reason. `clipped` is how far a matte left 0..1 at worst;
differences are mean |a_i - a_j| over a nodule's unknown voxels.
"""

import statistics
from collections.abc import Callable
from functools import partial
from itertools import combinations
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from benchmarks.measure import command_line, one_thread, save, table
from benchmarks.nodules import (
    FOLDER_VARIABLE,
    Ready,
    read_real,
    real_folder,
    real_ids_by_volume,
    spread,
    stand_ins,
)
from matting import METHODS, InputError, Parameters, estimate_alphas
from matting.measures.candidates import TIED

PLAIN = ("cf", "knn", "lb", "if")


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--nodules", type=int, default=528)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    measured = measure_all(arguments.nodules, arguments.processes)
    rows = [row for row in measured if "refused" not in row]
    refused = [row for row in measured if "refused" in row]
    exceptions = [
        {
            "id": row["id"],
            "method": name,
            "status": figures["status"],
            "residual": figures["residual"],
        }
        for row in rows
        for name, figures in row["methods"].items()
        if figures["status"] != "CONVERGED"
    ]
    methods = {name: summarise([row["methods"][name] for row in rows]) for name in METHODS}
    apart = {
        pair: round(statistics.median(row["apart"][pair] for row in rows), 5)
        for pair in rows[0]["apart"]
    }
    print(
        f"{len(rows)} nodules of {min(r['unknown'] for r in rows)} "
        f"to {max(r['unknown'] for r in rows)} unknown voxels"
    )
    print(
        table(
            ("", *methods["cf"]), [(name, *figures.values()) for name, figures in methods.items()]
        )
    )
    print(
        "\n"
        + table(("refused before any solve", "reason"), [tuple(row.values()) for row in refused])
    )
    print(f"\nnot converged: {len(exceptions)}")
    print(
        table(
            ("nodule", "method", "status", "residual"), [tuple(row.values()) for row in exceptions]
        )
    )
    print("\n" + table(("median difference", ""), apart.items()))
    print(f"all at least {TIED}: {min(apart.values()) >= TIED}")
    facts = {"nodules": len(rows), "refused": refused, "tolerance": Parameters().solver.tolerance}
    save(
        "convergence",
        {**facts, "methods": methods, "not_converged": exceptions, "median_difference": apart},
    )


def measure_all(count: int, processes: int) -> list[dict[str, Any]]:
    """Measure real nodules, else synthetic ones, in a few processes of one thread each."""
    folder = real_folder()
    if folder is None:
        print(
            f"{FOLDER_VARIABLE} names no folder with real nodules: synthetic nodules instead",
            flush=True,
        )
        one_thread()
        return [
            measure(nodule) for nodule in track(stand_ins(count), "solving", total=min(count, 24))
        ]
    # the largest first, so that no process is left alone with one
    ids = spread(real_ids_by_volume(folder), count)[::-1]
    with get_context("spawn").Pool(processes, initializer=one_thread) as pool:
        measured = pool.imap_unordered(partial(measure_real, folder), ids)
        return list(track(measured, "solving", total=len(ids)))


def measure_real(folder: Path, nodule_id: str) -> dict[str, Any]:
    try:
        return measure(read_real(folder, nodule_id))
    except InputError as refusal:
        return {"id": nodule_id, "refused": refusal.what}


def measure(nodule: Ready) -> dict[str, Any]:
    solutions = estimate_alphas(nodule.image_hu, nodule.labels, spacing_mm=nodule.spacing_mm)
    alphas = {name: solutions[name].alpha[nodule.unknown] for name in PLAIN}
    return {
        "id": nodule.id,
        "unknown": nodule.unknown_voxels,
        "methods": {
            name: {
                "status": solution.status.name,
                "iterations": solution.iterations,
                "residual": solution.residual,
                "clipped": solution.clipped,
            }
            for name, solution in solutions.items()
        },
        "apart": {
            f"{a} - {b}": float(np.abs(alphas[a] - alphas[b]).mean())
            for a, b in combinations(PLAIN, 2)
        },
    }


def summarise(rows: list[dict[str, Any]]) -> dict[str, float]:
    def of(figure: str, how: Callable[[list[float]], float]) -> float:
        return float(f"{how([row[figure] for row in rows]):.4g}")

    return {
        "converged": sum(row["status"] == "CONVERGED" for row in rows),
        "median iterations": of("iterations", statistics.median),
        "most": of("iterations", max),
        "worst residual": of("residual", max),
        "median clipped": of("clipped", statistics.median),
        "worst clipped": of("clipped", max),
    }


if __name__ == "__main__":
    main()

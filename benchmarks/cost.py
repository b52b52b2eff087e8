"""What a matte costs: CPU seconds of each method and of all eight, over real nodules of all sizes.

    python -m benchmarks.cost [--nodules 40]

Warm (compiled before), one thread, median of up to five repeats. `all eight` is one call for all of
them: the two forms of a method share its operator. Writes the table's figures and
docs/pictures/cost.png.
"""

import os
import statistics
from functools import partial
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt

from benchmarks.measure import PICTURES, command_line, cpu_seconds, one_thread, save, table
from benchmarks.nodules import Ready, nodules
from matting import METHODS, Solution, estimate_alphas

MEDIAN_UNKNOWN = 8000
"""The nodule nearest to this many unknown voxels is reported as the median nodule."""
BUDGET_S = 20.0
"""Enough for five repeats of all eight of nearly every nodule: with fewer of the large ones, a
neighbour's use of the shared cache would count for them alone."""
CALLS: dict[str, tuple[str, ...]] = {method: (method,) for method in METHODS} | {
    "all eight": METHODS
}


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--nodules", type=int, default=40)
    arguments = parser.parse_args()
    one_thread()
    rows: list[dict[str, Any]] = []
    for nodule in nodules(arguments.nodules, largest=min(3, arguments.nodules)):
        if not rows:
            estimate(nodule, METHODS)
        rows.append(measure(nodule))
        print(
            f"{nodule.id}: {nodule.unknown_voxels} unknown voxels, "
            f"{rows[-1]['seconds']['all eight']:.3g} s"
        )
    rows.sort(key=lambda row: row["unknown_voxels"])
    median = min(rows, key=lambda row: abs(row["unknown_voxels"] - MEDIAN_UNKNOWN))
    for title, row in (("the median nodule", median), ("the largest nodule", rows[-1])):
        print(f"\n{title}: {row['id']}, {row['unknown_voxels']} unknown voxels")
        print(table(("", "CPU s", "us / unknown voxel", "iterations", "residual"), as_rows(row)))
    print(f"\nover {len(rows)} nodules, microseconds per unknown voxel")
    print(table(("", "least", "median", "most"), spread_of_cost(rows)))
    save("cost", {"cores": os.cpu_count(), "threads": 1, "median_nodule": median, "nodules": rows})
    plot(rows)


def estimate(nodule: Ready, methods: tuple[str, ...]) -> dict[str, Solution]:
    return estimate_alphas(
        nodule.image_hu, nodule.labels, spacing_mm=nodule.spacing_mm, methods=methods
    )


def measure(nodule: Ready) -> dict[str, Any]:
    seconds = {}
    for name, methods in CALLS.items():
        seconds[name], solutions = cpu_seconds(
            partial(estimate, nodule, methods), budget_s=BUDGET_S
        )
    return {
        "id": nodule.id,
        "unknown_voxels": nodule.unknown_voxels,
        "patch_voxels": nodule.labels.size,
        "seconds": {name: round(spent, 5) for name, spent in seconds.items()},
        "microseconds_per_unknown": {
            name: round(1e6 * s / nodule.unknown_voxels, 3) for name, s in seconds.items()
        },
        "iterations": {name: solution.iterations for name, solution in solutions.items()},
        "residual": {
            name: float(f"{solution.residual:.3g}") for name, solution in solutions.items()
        },
    }


def as_rows(row: dict[str, Any]) -> list[tuple[object, ...]]:
    figures = ("seconds", "microseconds_per_unknown", "iterations", "residual")
    return [(name, *(row[figure].get(name, "") for figure in figures)) for name in CALLS]


def spread_of_cost(rows: list[dict[str, Any]]) -> list[tuple[object, ...]]:
    costs = {name: [row["microseconds_per_unknown"][name] for row in rows] for name in CALLS}
    return [(name, min(cost), statistics.median(cost), max(cost)) for name, cost in costs.items()]


def plot(rows: list[dict[str, Any]]) -> None:
    mpl.use("Agg")
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    unknown = [row["unknown_voxels"] for row in rows]
    for name in ("cf", "knn", "lb", "if", "all eight"):
        for axis, figures in zip(axes, ("seconds", "microseconds_per_unknown"), strict=True):
            axis.loglog(
                unknown, [row[figures][name] for row in rows], ".-", label=name, linewidth=0.8
            )
    for axis, label in zip(
        axes, ("CPU seconds", "CPU microseconds per unknown voxel"), strict=True
    ):
        axis.set(xlabel="unknown voxels", ylabel=label)
        axis.grid(alpha=0.3)
    axes[0].legend()
    PICTURES.mkdir(exist_ok=True)
    figure.savefig(PICTURES / "cost.png", dpi=80)
    plt.close(figure)


if __name__ == "__main__":
    main()

"""What searching 10 mm around the unknown voxels changes against searching the whole patch.

    python -m benchmarks.margin [--nodules 12]

Real nodules of all sizes, the base methods with the chain's defaults, once with
solver.search_margin_mm as it is and once with one that reaches across any patch. Differences are |a
- a'| over the unknown voxels. Closed form and learning based see two voxels and the reach of their
means beyond the unknown region, which both runs hold.
"""

import math
import statistics
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.measure import command_line, one_thread, save, table
from benchmarks.nodules import Ready, nodules
from matting import Parameters, estimate_alphas
from matting.geometry.box import box_around

BASE = ("cf", "knn", "lb", "if")
WHOLE_MM = 1e4


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--nodules", type=int, default=12)
    arguments = parser.parse_args()
    one_thread()
    rows = []
    for nodule in nodules(arguments.nodules, largest=min(3, arguments.nodules)):
        rows.append(measure(nodule))
        largest = ", ".join(f"{name} {rows[-1][f'{name} largest']:.2g}" for name in BASE)
        print(f"{nodule.id}, {rows[-1]['share']:.0%} of the patch searched: {largest}", flush=True)
    methods = {name: summarise(name, rows) for name in BASE}
    print(
        table(
            ("", *methods["cf"]), [(name, *figures.values()) for name, figures in methods.items()]
        )
    )
    save(
        "margin",
        {"margin_mm": Parameters().solver.search_margin_mm, "methods": methods, "nodules": rows},
    )


def measure(nodule: Ready) -> dict[str, Any]:
    defaults = Parameters()
    whole = replace(defaults, solver=replace(defaults.solver, search_margin_mm=WHOLE_MM))
    near, far = (
        estimate_alphas(
            nodule.image_hu,
            nodule.labels,
            spacing_mm=nodule.spacing_mm,
            methods=BASE,
            parameters=parameters,
        )
        for parameters in (defaults, whole)
    )
    row: dict[str, Any] = {
        "id": nodule.id,
        "unknown": nodule.unknown_voxels,
        "share": searched_share(nodule),
    }
    for name in BASE:
        apart = np.abs(near[name].alpha - far[name].alpha)[nodule.unknown]
        row |= {
            f"{name} mean": float(f"{apart.mean():.3g}"),
            f"{name} largest": float(f"{apart.max():.3g}"),
        }
    return row


def searched_share(nodule: Ready) -> float:
    """Return how much of the patch the search box holds by default."""
    margin_mm = Parameters().solver.search_margin_mm
    z, y, x = (int(margin_mm / spacing) for spacing in nodule.spacing_mm)
    box = box_around(nodule.unknown, (z, y, x))
    return round(math.prod(side.stop - side.start for side in box) / nodule.labels.size, 3)


def summarise(name: str, rows: list[dict[str, Any]]) -> dict[str, float]:
    means, largest = ([row[f"{name} {figure}"] for row in rows] for figure in ("mean", "largest"))
    return {
        "nodules that change": sum(value > 0 for value in largest),
        "median of means": float(f"{statistics.median(means):.3g}"),
        "largest mean": max(means),
        "median of largest": float(f"{statistics.median(largest):.3g}"),
        "largest": max(largest),
    }


if __name__ == "__main__":
    main()

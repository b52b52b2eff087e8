"""Write docs/errors.md from benchmarks/results/synthetic_errors.json.

python -m benchmarks.errors_page
"""

import json
from pathlib import Path
from typing import Any

from benchmarks.measure import PICTURES, RESULTS, command_line
from benchmarks.synthetic_errors import better_rivals, sought
from matting import METHODS
from storage.cases.case import ALGORITHM_VERSION

PAGE = PICTURES.parent / "errors.md"
Rows = dict[str, dict[str, float]]
INTRODUCTION = """# Errors on synthetic nodules

The true matte of a real nodule is unknown. Synthetic scans have one: real outlines and ratings of
LIDC-IDRI with simulated radiodensity. **All values on this page were measured on synthetic data.**

Mean absolute error in the unknown region, eight nodules of each kind. The plain methods are compared
with the known alpha. The + methods estimate a matte that is calibrated to radiodensity (Eq. 28), so
they are compared with the known alpha times the density of the lesion. Trivial mattes are compared
with both (alpha / density):

- *readers' mean*: the share of readers that marked the voxel;
- *best reader*: the binary mask of the reader with the smallest error, chosen by the known alpha;
- *trivial*: HU scaled linearly from lung (-870) or air (-1000) to tissue (40).
"""
TITLES = {
    "1": "Seed 1, on which `trimap.min_core_voxels` and `knn.position_weights` were chosen:",
    "2": "Seed 2, for confirmation (the same nodules, simulated again):",
}
CLOSE = """`python -m benchmarks.synthetic_errors` measures the tables, `python -m benchmarks.errors_page` writes
this page.

Two known properties of the simulation favour the methods: its rims are somewhat sharper than real
ones (20-80 % width 1.3 against 1.5 mm in solids), and its foreground and background obey the
compositing equation that the methods assume.
"""


def main() -> None:
    command_line(__doc__).parse_args()
    report = json.loads((RESULTS / "synthetic_errors.json").read_text())
    PAGE.write_text(page(report))
    print(f"wrote {Path('docs', PAGE.name)}")


def page(report: dict[str, Any]) -> str:
    seeds = {seed: found["table"] for seed, found in report["seeds"].items()}
    tables = [
        f"{TITLES.get(seed, f'Seed {seed}:')}\n\n{table(kinds)}\n" for seed, kinds in seeds.items()
    ]
    return "\n".join([INTRODUCTION, f"{age(report)}\n", *tables, f"{losses(seeds)}\n", CLOSE])


def age(report: dict[str, Any]) -> str:
    version = report.get("algorithm", 1)
    old = (
        ""
        if version == ALGORITHM_VERSION
        else f", not with the current version {ALGORITHM_VERSION}"
    )
    return f"Measured with algorithm version {version}{old}."


def table(kinds: dict[str, Rows]) -> str:
    lines = [f"| | {' | '.join(kinds)} |", "|---" * (len(kinds) + 1) + "|"]
    for name in next(iter(kinds.values())):
        lines.append(
            f"| {name} | {' | '.join(cell(name, rows[name]) for rows in kinds.values())} |"
        )
    return "\n".join(lines)


def cell(name: str, row: dict[str, float]) -> str:
    truths = (sought(name),) if name in METHODS else ("alpha", "density")
    return " / ".join(f"{row[truth]:.4f}" for truth in truths)


def losses(seeds: dict[str, dict[str, Rows]]) -> str:
    """Return which methods have a larger error than a trivial matte."""
    found = [
        f"- {method} on {kind}, seed {seed}: to {', '.join(rivals)}"
        for seed, kinds in seeds.items()
        for kind, rows in kinds.items()
        for method in METHODS
        if (rivals := better_rivals(method, rows))
    ]
    if not found:
        return "Every method has a smaller error than every trivial matte, in every kind."
    head = "Every method has a smaller error than every trivial matte, except:\n"
    return "\n".join([head, *found])


if __name__ == "__main__":
    main()

"""Write docs/errors.md from benchmarks/results/standin_errors.json.

python -m benchmarks.errors_page
"""

import json
from pathlib import Path

from benchmarks.measure import PICTURES, RESULTS
from benchmarks.standin_errors import better_rivals, sought
from matting import METHODS
from storage.cases.case import ALGORITHM_VERSION

PAGE = PICTURES.parent / "errors.md"
Rows = dict[str, dict[str, float]]
INTRODUCTION = """# How far off the mattes are

Nobody knows the true matte of a real nodule. Stand-in scans have one: LIDC-IDRI's real outlines and ratings, simulated
radiodensity. **Everything on this page is measured on stand-in data.**

Mean absolute error in the unknown region, eight nodules of each kind. The plain methods are held against the known
alpha. The + methods estimate a matte tied to radiodensity (Eq. 28), so they are held against the known alpha times
the lesion's own density. Trivial rows are held against both (alpha / density):

- *readers' mean*: the share of readers that marked the voxel;
- *best reader*: the one reader's binary mask that happens to be nearest, chosen with the truth in hand;
- *trivial*: HU scaled linearly from lung (-870) or air (-1000) to tissue (40), no method at all.
"""
TITLES = {
    "1": "Seed 1, on which `trimap.min_core_voxels` and `knn.position_weights` were chosen:",
    "2": "Seed 2, for confirmation (the same nodules simulated anew):",
}
CLOSE = """`python -m benchmarks.standin_errors` measures the tables, `python -m benchmarks.errors_page` sets them here.

What would make it less kind to the methods, and is known: simulated rims are somewhat sharper than real ones (20-80 %
width 1.3 against 1.5 mm in solids), and the simulation's sharp foreground and background obey the very equation that
the methods assume.
"""


def main() -> None:
    report = json.loads((RESULTS / "standin_errors.json").read_text())
    PAGE.write_text(page(report))
    print(f"wrote {Path('docs', PAGE.name)}")


def page(report: dict[str, object]) -> str:
    seeds = {seed: found["table"] for seed, found in report["seeds"].items()}
    tables = [
        f"{TITLES.get(seed, f'Seed {seed}:')}\n\n{table(kinds)}\n" for seed, kinds in seeds.items()
    ]
    return "\n".join([INTRODUCTION, f"{age(report)}\n", *tables, f"{losses(seeds)}\n", CLOSE])


def age(report: dict[str, object]) -> str:
    version = report.get("algorithm", 1)
    old = "" if version == ALGORITHM_VERSION else f", which is not the present {ALGORITHM_VERSION}"
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
    """Say which methods lose to a row that is none."""
    found = [
        f"- {method} on {kind}, seed {seed}: to {', '.join(rivals)}"
        for seed, kinds in seeds.items()
        for kind, rows in kinds.items()
        for method in METHODS
        if (rivals := better_rivals(method, rows))
    ]
    if not found:
        return "Every method is nearer to what it seeks than every row that is no method, in every kind."
    head = "A method is nearer to what it seeks than every row that is no method, but for these, where it loses:\n"
    return "\n".join([head, *found])


if __name__ == "__main__":
    main()

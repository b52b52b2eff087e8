"""Write docs/benchmarks.md from benchmarks/results/*.json: the figures of the page are those that were measured.

python -m benchmarks.page
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.cost import MEDIAN_UNKNOWN, spread_of_cost
from benchmarks.measure import PICTURES, RESULTS
from matting.candidates import TIED
from storage.cases import ALGORITHM_VERSION

PAGE = PICTURES.parent / "benchmarks.md"
INTRODUCTION = """# Benchmarks

Measured on one machine of two cores that other programs shared, one thread: seconds are CPU seconds, and what counts
are the ratios, each taken inside one run. `make bench` measures everything anew and writes this page. Real nodules are
LIDC-IDRI's, prepared with the chain's defaults (0.5 mm). Errors against known mattes: [errors.md](errors.md).
"""
NAMES = ("cost", "peers", "textbook", "convergence", "memory", "search")
WANTED_TIMES, WANTED_MEMORY, WANTED_DIFFERENCE = 200, 15, 1e-3


def main() -> None:
    writers = (cost, peers, textbook, convergence, memory, search)
    reports = {writer: read(writer.__name__) for writer in writers}
    PAGE.write_text(
        "\n".join([INTRODUCTION, age(reports.values()), *(writer(report) for writer, report in reports.items())])
    )
    print(f"wrote {Path('docs', PAGE.name)}")


def age(reports: Iterable[dict[str, object]]) -> str:
    """Say which figures were measured before the solvers last changed."""
    old = [
        section
        for section, report in zip(NAMES, reports, strict=True)
        if report.get("algorithm", 1) != ALGORITHM_VERSION
    ]
    if not old:
        return f"All were measured with algorithm version {ALGORITHM_VERSION}.\n"
    return f"Measured with an earlier version of the solvers than the present {ALGORITHM_VERSION}: {', '.join(old)}.\n"


def read(name: str) -> dict[str, object]:
    return json.loads((RESULTS / f"{name}.json").read_text())


def cost(report: dict[str, object]) -> str:
    rows = report["nodules"]
    median, largest = report["median_nodule"], rows[-1]
    figures = [
        (name, *(nodule["seconds"][name] for nodule in (median, largest)), *rest)
        for name, *rest in spread_of_cost(rows)
    ]
    header = ("", "median nodule, s", "largest, s", "least", "median", "most")
    return f"""## Cost

`python -m benchmarks.cost`: {len(rows)} nodules of {rows[0]["unknown_voxels"]:,} to {largest["unknown_voxels"]:,}
unknown voxels. Seconds of the nodule nearest {MEDIAN_UNKNOWN:,} unknown voxels ({median["unknown_voxels"]:,}), called
the median nodule, and of the largest; then microseconds per unknown voxel over all. All eight at
once cost less than their sum: both forms of a method share its operator.

{markdown(header, figures)}

![CPU time against unknown voxels](pictures/cost.png)
"""


def peers(report: dict[str, object]) -> str:
    times, errors = report["times"], report["truth_errors"]
    unsolved = sum(row["unsolved"] for row in times) / sum(row["slices"] for row in times)
    shown = [key for key in times[0] if "ratio" not in key or "whole" not in key]
    summary = [(name, value) for name, value in report["median_ratios"].items()]
    rows = [(name, row["3D"], row["2D"], row["ratio"]) for name, row in errors.items()]
    return f"""## Beside PyMatting

`python -m benchmarks.peers`: PyMatting solves the same nodules slice by slice, on whole slices or on slices cut to the
box that our methods look at. It cannot solve slices without known foreground: {unsolved:.0%} of the slices with unknown
voxels here (`share` is the part of the unknown voxels that it does reach). `three` is closed form, KNN and learning
based together. Ratios are its seconds over ours, and ours solve all slices; the last sets closed form's seconds against
voxels solved.

{markdown(shown, [[row[key] for key in shown] for row in times])}

{markdown(("median over nodules", "theirs / ours"), summary)}

Mean error against the known matte of {len(report["stand_ins"])} stand-ins, over the unknown voxels of the slices that
PyMatting solves (its defaults, ours). A ratio below 1 says that PyMatting does better, here and above:

{markdown(("", "3D", "PyMatting", "ratio"), rows)}
"""


def textbook(report: dict[str, object]) -> str:
    ratios, apart = report["ratios"], report["mean_difference"]
    sides = [(side, *report[side].values()) for side in ("ours", "ours, pulled", "textbook")]
    return f"""## Beside the textbook

`python -m benchmarks.textbook`: closed form with the whole patch's sparse Laplacian, known voxels pulled by a weight of
100, on {report["id"]} ({report["unknown_voxels"]:,} unknown voxels in a patch of {report["patch_voxels"]:,}).
*ours, pulled* is ours with that weight instead of holding known voxels exactly. All use the paper's form of closed
form: epsilon 1e-7, a line in intensity alone, all windows counting the same.

{markdown(("", "CPU s", "MB", "iterations"), sides)}

- Time: {ratios["seconds"]} times less; {WANTED_TIMES} wanted: {verdict(ratios["seconds"] >= WANTED_TIMES)}.
- Memory: {ratios["megabytes"]} times less; {WANTED_MEMORY} wanted: {verdict(ratios["megabytes"] >= WANTED_MEMORY)}.
- Mean difference over the unknown region, both posing the same problem (*ours, pulled*): {apart["ours, pulled"]:.2g};
  below {WANTED_DIFFERENCE:g} wanted: {verdict(apart["ours, pulled"] < WANTED_DIFFERENCE)}.
  With known voxels held exactly, as by default, it is {apart["ours"]:.2g}:
  that rest is the textbook's weight, which lets known voxels drift.
"""


def convergence(report: dict[str, object]) -> str:
    methods, apart, failed = report["methods"], report["median_difference"], report["not_converged"]
    rows = [(name, *figures.values()) for name, figures in methods.items()]
    exceptions = markdown(("nodule", "method", "status", "residual"), [tuple(row.values()) for row in failed])
    tied = [pair for pair, difference in apart.items() if difference < TIED]
    return f"""## Convergence

`python -m benchmarks.convergence`: all eight on {report["nodules"]} nodules, spread evenly over the
sizes of all there are, to a residual of {report["tolerance"]:g}.
`clipped` is how far a matte left 0..1 at worst before it was clipped.

{markdown(("", *methods["cf"]), rows)}

Not converged: {len(failed)}. Refused before any solve: {len(report["refused"])}{"." if not report["refused"] else ": "}
{", ".join(f"{row['id']} ({row['refused']})" for row in report["refused"])}

{exceptions if failed else ""}

Median over nodules of the mean difference of two methods over the unknown region; {TIED} is where two mattes count as
tied. Below it: {", ".join(tied) or "none"}.

{markdown(("", "median difference"), apart.items())}
"""


def memory(report: dict[str, object]) -> str:
    rows = report["rows"]
    return f"""## Memory

`python -m benchmarks.memory`: all eight in one call on a soft ball, each row a process of its own. Peak in all, and
beyond what the process held before the call; the eight mattes, which the call returns, are part of both. First row:
under {report["limit_mb"]:,} MB wanted: {verdict(report["met"])}.

{markdown(tuple(rows[0]), [tuple(row.values()) for row in rows])}

{whole_nodules(report.get("whole", []))}
"""


def whole_nodules(rows: list[dict[str, object]]) -> str:
    if not rows:
        return ""
    held = all(row["peak MB"] <= row["expected MB"] for row in rows)
    return f"""Whole nodules, from a table of files to a stored case, each in a process of its own. Expected is what
`halosign plan` says of a worker for a nodule of that size; {"held by all" if held else "not held by all"}.

{markdown(tuple(rows[0]), [tuple(row.values()) for row in rows])}
"""


def search(report: dict[str, object]) -> str:
    sets = report["sets"]
    parts = []
    for method, rows in report["rows"].items():
        header = ("", *next(iter(rows.values())))
        parts.append(f"### {method}\n\n{markdown(header, [(name, *row.values()) for name, row in rows.items()])}")
    tables = "\n\n".join(parts)
    return f"""## How the defaults were chosen

`python -m benchmarks.search`: each base method's parameters turned one at a time around the defaults, on
{len(sets["development"])} simulated nodules for development and {len(sets["confirmation"])} others, with other noise,
for confirmation. Mean absolute error over the unknown region, averaged over solid, part-solid and ground-glass: `alpha`
of the plain form against the known matte, `density` of the + form against the known matte times the lesion's own
radiodensity target. A default follows the development set only where the confirmation set agrees and the base methods
stay different mattes. {report.get("note", "")}

{tables}
"""


def verdict(met: bool) -> str:
    return "met" if met else "missed"


def markdown(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(cell, line)) + " |" for line in lines)


def cell(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    main()

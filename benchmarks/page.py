"""Write docs/benchmarks.md from benchmarks/results/*.json: the figures of the page are those that were measured.

python -m benchmarks.page
"""

import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.cost import MEDIAN_UNKNOWN, spread_of_cost
from benchmarks.measure import PICTURES, RESULTS
from benchmarks.review import WANTED_FRAMES, WANTED_NEXT_MS, WANTED_P95_MS
from matting.measures.candidates import TIED
from storage.cases.case import ALGORITHM_VERSION

PAGE = PICTURES.parent / "benchmarks.md"
INTRODUCTION = """# Benchmarks

Measured on one machine of two cores that other programs shared, one thread: seconds are CPU seconds, and what counts
are the ratios, each taken inside one run. `make bench` measures everything anew and writes this page. Real nodules are
LIDC-IDRI's, prepared with the chain's defaults (0.5 mm). Errors against known mattes: [errors.md](errors.md).
"""
WANTED_SECONDS, FLAT = 0.5, 1.25
WANTED_PEER_TIMES, WANTED_LOWER = 20, 0.2
WANTED_TIMES, WANTED_MEMORY, WANTED_DIFFERENCE = 200, 15, 1e-3
BANDS = ((1_000, 10_000), (10_000, 30_000), (30_000, 100_000), (100_000, 1_000_000))
"""Unknown voxels from and to, over which costs are averaged."""


def main() -> None:
    writers = (
        cost,
        peers,
        textbook,
        convergence,
        margin,
        memory,
        search,
        reading,
        publishing,
        fan_out,
        review,
    )
    reports = {writer: read(writer.__name__) for writer in writers}
    sections = [writer(report) for writer, report in reports.items()]
    PAGE.write_text(
        "\n".join(
            [
                INTRODUCTION,
                age({writer.__name__: report for writer, report in reports.items()}),
                *sections,
            ]
        )
    )
    print(f"wrote {Path('docs', PAGE.name)}")


def age(reports: dict[str, dict[str, object]]) -> str:
    """Say which figures were measured before the solvers last changed."""
    old = [
        section
        for section, report in reports.items()
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
    seconds, bands = median["seconds"]["all eight"], cost_by_size(rows)
    flat = len(bands) > 2 and bands[2][2] <= FLAT * bands[0][2]
    return f"""## Cost

`python -m benchmarks.cost`: {len(rows)} nodules of {rows[0]["unknown_voxels"]:,} to {largest["unknown_voxels"]:,}
unknown voxels. Seconds of the nodule nearest {MEDIAN_UNKNOWN:,} unknown voxels ({median["unknown_voxels"]:,}), called
the median nodule, and of the largest; then microseconds per unknown voxel over all. All eight at
once cost less than their sum: both forms of a method share its operator.

{markdown(header, figures)}

- All eight of the median nodule: at most {WANTED_SECONDS} s wanted: {verdict(seconds <= WANTED_SECONDS)}.
- Cost per unknown voxel flat up to 100,000 (medians of all eight, the third at most {FLAT} times the first):
  {verdict(flat)}.

{markdown(("unknown voxels", "nodules", "microseconds per unknown voxel"), bands)}

![CPU time against unknown voxels](pictures/cost.png)
"""


def cost_by_size(rows: list[dict[str, dict[str, float]]]) -> list[tuple[str, int, float]]:
    """Give for each band its name, how many nodules it has and the median cost of all eight per unknown voxel."""
    bands = []
    for first, last in BANDS:
        costs = [
            r["microseconds_per_unknown"]["all eight"]
            for r in rows
            if first <= r["unknown_voxels"] < last
        ]
        if costs:
            bands.append((f"{first:,} to {last:,}", len(costs), statistics.median(costs)))
    return bands


def peers(report: dict[str, object]) -> str:
    times, errors = report["times"], report["truth_errors"]
    unsolved = sum(row["unsolved"] for row in times) / sum(row["slices"] for row in times)
    shown = [key for key in times[0] if "ratio" not in key or "whole" not in key]
    summary = [(name, value) for name, value in report["median_ratios"].items()]
    rows = [(name, *row.values()) for name, row in errors.items()]
    times_less, closed_form = (
        report["median_ratios"][name] for name in ("whole ratio", "cf whole ratio")
    )
    lower = {name: 1 - row["3D"] / row["2D"] for name, row in errors.items()}
    said = "\n".join(
        f"- {name}: ours {abs(share):.0%} {'lower' if share > 0 else 'higher'}; {WANTED_LOWER:.0%} lower wanted:"
        f" {verdict(share >= WANTED_LOWER)}."
        for name, share in lower.items()
    )
    return f"""## Beside PyMatting

`python -m benchmarks.peers`: PyMatting solves the same nodules slice by slice, on whole slices or on slices cut to the
box that our methods look at. It cannot solve slices without known foreground: {unsolved:.0%} of the slices with unknown
voxels here (`share` is the part of the unknown voxels that it does reach). `three` is closed form, KNN and learning
based together. Ratios are its seconds over ours, and ours solve all slices; the last sets closed form's seconds against
voxels solved.

{markdown(shown, [[row[key] for key in shown] for row in times])}

{markdown(("median over nodules", "theirs / ours"), summary)}

- The three on whole slices: {times_less:.1f} times ours; {WANTED_PEER_TIMES} wanted:
  {verdict(times_less >= WANTED_PEER_TIMES)}.
- Closed form on whole slices: {closed_form:.2f} times ours; at least 1 wanted: {verdict(closed_form >= 1)}.

Mean error against the known matte of {len(report["stand_ins"])} stand-ins that no default was chosen on, over the
unknown voxels of the slices that PyMatting solves (its defaults, ours). Defaults come from the two sets under *How the
defaults were chosen*. On these stand-ins four earlier sets of values were measured as well, two of which fell short of
a fifth, so they are not quite unseen. A ratio below 1 says that PyMatting does better, here and above; the last
column is the median of the single nodules' ratios:

{markdown(("", "3D", "PyMatting", "ratio", "median ratio"), rows)}

{said}
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
    exceptions = markdown(
        ("nodule", "method", "status", "residual"), [tuple(row.values()) for row in failed]
    )
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


def margin(report: dict[str, object]) -> str:
    methods, nodules = report["methods"], report["nodules"]
    rows = [(name, *figures.values()) for name, figures in methods.items()]
    shares = [row["share"] for row in nodules]
    return f"""## Search margin

`python -m benchmarks.margin`: mattes with candidates within {report["margin_mm"]:g} mm of the unknown voxels' box, as
by default, against mattes with the whole patch searched: |difference| over the unknown voxels of {len(nodules)} nodules
of {nodules[0]["unknown"]:,} to {nodules[-1]["unknown"]:,} unknown voxels. The box holds {min(shares):.0%} to
{max(shares):.0%} of the patch (median {statistics.median(shares):.0%}).

{markdown(("", *methods["cf"]), rows)}
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
        parts.append(
            f"### {method}\n\n{markdown(header, [(name, *row.values()) for name, row in rows.items()])}"
        )
    tables = "\n\n".join(parts)
    return f"""## How the defaults were chosen

`python -m benchmarks.search`: each base method's parameters turned one at a time around the defaults, on
{len(sets["development"])} simulated nodules for development and {len(sets["confirmation"])} others, with other noise,
for confirmation. Mean absolute error over the unknown region, averaged over solid, part-solid and ground-glass: `alpha`
of the plain form against the known matte, `density` of the + form against the known matte times the lesion's own
radiodensity target. A default follows the development set only where the confirmation set agrees and the base methods
stay different mattes.

{tables}
"""


def reading(report: dict[str, object]) -> str:
    wanted = "\n".join(
        f"- Against {name}: {times} times as many wanted: {verdict(report['met'][name])}."
        for name, times in report["wanted"].items()
    )
    rows = report["rows"]
    return f"""## Reading a release

`python -m benchmarks.reading`: boxes of 96 x 96 x 96 at random places of {len(report["shapes"])} nodules, each with
image, released matte, the readers' masks and validity, from files in the page cache; CPU seconds of one thread.

{markdown(tuple(rows[0]), [tuple(row.values()) for row in rows])}

{wanted}
- Bytes: no more than .nii.gz wanted: {verdict(report["met"]["bytes"])}.
- `ReleaseDataset` gives {report["items_a_second"]:.0f} items a second, padding to the full crop and tensors included.
"""


def publishing(report: dict[str, object]) -> str:
    return f"""## Publishing

`python -m benchmarks.publishing`: {report["nodules"]:,} synthetic nodules ({report["megabytes"]:,} MB in
{report["files"]:,} files), each gate passed: {report["gather_s"]} s to gather and check, {report["publish_s"]} s to
publish, {report["verify_s"]} s to verify, with a peak of {report["peak_mb"]:,} MB
({report["limit_mb"]:,} MB wanted: {verdict(report["met"])}). Wall seconds.
"""


def fan_out(report: dict[str, object]) -> str:
    many, rows, plans, real = report["many"], report["throughput"], report["plan"], report["real"]
    small, large, two = plans["10000"], plans["100000"], report["two_workers"]
    grown = many["client_mb_after"]["10000"] - many["client_mb_after"]["2000"]
    speed = {row["workers"]: row["nodules_per_s"] for row in rows}
    text = f"""## Fan-out

`python -m benchmarks.fan_out`: the flow and its client with stubs in place of nodules, on a Dask scheduler in a process
of its own; wall times, with a load of {report["load_at_start"]:.1f} on the {report["cores"]} cores when it began.

- Planning over a store of 10,000 finished nodules: {small["seconds"]:.1f} s; under 10 s wanted:
  {verdict(small["seconds"] < 10)}. Over 100,000: {large["seconds"]:.0f} s and {large["peak_mb"]} MB at most in that
  process; under 1,000 MB wanted: {verdict(large["peak_mb"] < 1000)}.
- {many["nodules"]:,} nodules that cost nothing: {many["wall_ms_per_nodule"]:.1f} ms of wall time each, of which
  {many["client_cpu_ms_per_nodule"]:.1f} ms are the client's CPU; at most 10 ms wanted:
  {verdict(many["wall_ms_per_nodule"] <= 10)}. The client grew by {grown:.0f} MB from the 2,000th to the last, to
  {many["client_mb_after"]["10000"]:.0f} MB: what it keeps is one small record a nodule.
- A stub that sleeps {report["sleep_s"]:g} s: 32 workers do {speed[32] / speed[1]:.1f} times what one does,
  {max(speed)} do {speed[max(speed)] / speed[1]:.1f} times. The share lost is the flow's start and end, about a second.
- The same stub, {two["nodules"]} nodules on two workers: {two["share_of_ideal"]:.1%} of the workers' time went into it;
  90% wanted: {verdict(two["share_of_ideal"] >= 0.9)} (load {two["load"]} then).

{markdown(tuple(rows[0]), [tuple(row.values()) for row in rows])}
"""
    if real:
        load = (
            f" Load {real['load'][0]} when it began, {real['load'][1]} when it ended."
            if "load" in real
            else ""
        )
        text += f"""
`python -m benchmarks.fan_out --real N` curates real nodules on two workers: {real["nodules"]} nodules,
{real["stage_s"]} seconds in stages over {real["wall_s"]} s of the whole run, cluster start included: efficiency
{real["efficiency"]:.3f}; 0.90 wanted: {verdict(real["efficiency"] >= 0.9)}.{load}
"""
    return text


def review(report: dict[str, object]) -> str:
    kept = report["decision_ms_p95"] < WANTED_P95_MS and not report["decisions_lost"]
    rows = [
        (
            "next nodule drawn after the key that decides, ms",
            report["next_ms_median"],
            report["next_ms_most"],
        ),
        ("first nodule of a visit with its images, ms", report["first_ms"], ""),
        ("scrolling: planes, surface and eight candidates, frames/s", report["frames_per_s"], ""),
        ("the same, CPU ms a frame", report["frame_cpu_ms"], ""),
        ("scrolling: all eight large, frames/s", report["frames_per_s_grid"], ""),
        ("the same, CPU ms a frame", report["frame_cpu_ms_grid"], ""),
        ("a decision among many, ms", report["decision_ms_median"], report["decision_ms_p95"]),
        ("decisions sent, lost", report["decisions_sent"], report["decisions_lost"]),
    ]
    return f"""## Review page

`python -m benchmarks.review`: server, headless Chromium without a graphics card (1920 x 1080) and reviewers share
{report["cores"]} cores with whatever else ran (load {report["load"]:.1f} before); wall times, unlike those above.
{report["nodules"]} nodules of {report["median_voxels"]:,} (median) to {report["largest_voxels"]:,} voxels; the largest
is scrolled. {report["reviewers"]} reviewers at once never pause to think and fetch every nodule's images.

{markdown(("", "median", "worst, or 95th percentile among many"), rows)}

- Next nodule: at most {WANTED_NEXT_MS} ms wanted: {verdict(report["next_ms_median"] <= WANTED_NEXT_MS)}.
- Scrolling: at least {WANTED_FRAMES} frames/s wanted: {verdict(report["frames_per_s"] >= WANTED_FRAMES)}.
  Left alone, the CPU time of a frame would allow {1000 / report["frame_cpu_ms"]:.0f}.
- Many at once: 95th percentile below {WANTED_P95_MS} ms and none lost wanted: {verdict(kept)}.
"""


def verdict(met: bool) -> str:
    return "met" if met else "missed"


def markdown(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(cell, line)) + " |" for line in lines)


def cell(value: object) -> str:
    return (
        f"{value:.3g}"
        if isinstance(value, float)
        else f"{value:,}"
        if isinstance(value, int)
        else str(value)
    )


if __name__ == "__main__":
    main()

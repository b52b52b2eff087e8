"""Write docs/benchmarks.md from benchmarks/results/*.json, so that the page has measured values only.

python -m benchmarks.page
"""

import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.cost import MEDIAN_UNKNOWN, spread_of_cost
from benchmarks.measure import PICTURES, RESULTS, command_line
from benchmarks.review import WANTED_FRAMES, WANTED_NEXT_MS, WANTED_P95_MS
from benchmarks.task_runs import TASK_RUNNER
from matting.measures.candidates import TIED
from storage.cases.case import ALGORITHM_VERSION

PAGE = PICTURES.parent / "benchmarks.md"
INTRODUCTION = """# Benchmarks

Measured on a shared machine with two cores, on one thread: seconds are CPU seconds. Ratios are more
reliable than seconds, since both sides were measured in one run. `make bench` repeats all
measurements and writes this page. Real nodules are from LIDC-IDRI, preprocessed with the default
recipe (0.5 mm). Errors against known mattes: [errors.md](errors.md).
"""
WANTED_SECONDS, FLAT = 0.5, 1.25
WANTED_PEER_TIMES = 8
WANTED_TIMES, WANTED_MEMORY, WANTED_DIFFERENCE = 200, 15, 1e-3
BANDS = ((1_000, 10_000), (10_000, 30_000), (30_000, 100_000), (100_000, 1_000_000))
"""Unknown voxels from and to, over which costs are averaged."""


def main() -> None:
    command_line(__doc__).parse_args()
    writers = (
        cost,
        against,
        peers,
        textbook,
        convergence,
        margin,
        memory,
        reading,
        publishing,
        fan_out,
        whole_archive,
        review,
    )
    # That of the archive takes an hour and 6 GB, and is not part of `make bench`.
    reports = {
        writer: read(writer.__name__)
        for writer in writers
        if writer is not whole_archive or (RESULTS / "whole_archive.json").exists()
    }
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


def age(reports: dict[str, dict[str, Any]]) -> str:
    """Return which sections were measured with an earlier algorithm version."""
    old = [
        section
        for section, report in reports.items()
        if report.get("algorithm", 1) != ALGORITHM_VERSION
    ]
    if not old:
        return f"All sections were measured with algorithm version {ALGORITHM_VERSION}.\n"
    sections = ", ".join(old)
    return f"Measured before algorithm version {ALGORITHM_VERSION}: {sections}.\n"


def read(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text())


def cost(report: dict[str, Any]) -> str:
    rows = report["nodules"]
    median, largest = report["median_nodule"], rows[-1]
    figures = [
        (name, *(nodule["seconds"][name] for nodule in (median, largest)), *rest)
        for name, *rest in spread_of_cost(rows)
    ]
    header = ("", "median nodule, s", "largest, s", "minimum", "median", "maximum")
    seconds, bands = median["seconds"]["all eight"], cost_by_size(rows)
    flat = len(bands) > 2 and bands[2][2] <= FLAT * bands[0][2]
    return f"""## Cost

`python -m benchmarks.cost`: {len(rows)} nodules of {rows[0]["unknown_voxels"]:,} to {largest["unknown_voxels"]:,}
unknown voxels. Seconds for the nodule closest to {MEDIAN_UNKNOWN:,} unknown voxels
({median["unknown_voxels"]:,}), called the median nodule, and for the largest one; then microseconds
per unknown voxel over all nodules. All eight together cost less than their sum, since both forms of
a method share its operator.

{markdown(header, figures)}

- All eight of the median nodule, target at most {WANTED_SECONDS} s: {verdict(seconds <= WANTED_SECONDS)}.
- Constant cost per unknown voxel up to 100,000 (medians of all eight, the third at most {FLAT} times
  the first): {verdict(flat)}.

{markdown(("unknown voxels", "nodules", "microseconds per unknown voxel"), bands)}

![CPU time against unknown voxels](pictures/cost.png)
"""


def cost_by_size(rows: list[dict[str, Any]]) -> list[tuple[str, int, float]]:
    """Return for each band its name, number of nodules and median cost per unknown voxel."""
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


def against(report: dict[str, Any]) -> str:
    nodules = len(report["nodules"]) // len(report["forms"])
    titles = {
        "older": "With the older version's defaults",
        "paper": "With the papers' values",
    }
    header = ("", "then", "now", "ratio", "median ratio")
    tables = "\n\n".join(
        f"{titles[form]}, microseconds per unknown voxel:\n\n"
        + markdown(header, [(stage, *figures.values()) for stage, figures in stages.items()])
        for form, stages in report["forms"].items()
    )
    return f"""## Against an older version

`python -m benchmarks.against`: all eight of {nodules} nodules with the code of commit
{report["older"]} and with today's, in turns on one thread, with the same parameters but each with its
own default tolerance. The ratio is that of the sums over all nodules; `median ratio` is the median
over nodules.

{tables}
"""


def peers(report: dict[str, Any]) -> str:
    times, errors = report["times"], report["truth_errors"]
    unsolved = sum(row["unsolved"] for row in times) / sum(row["slices"] for row in times)
    shown = [key for key in times[0] if "ratio" not in key or "whole" not in key]
    summary = [(name, value) for name, value in report["median_ratios"].items()]
    rows = [(name, *row.values()) for name, row in errors.items()]
    cut, closed_form = (
        report["median_ratios"][name] for name in ("cut ratio", "cf cut, a voxel, ratio")
    )
    return f"""## Comparison with PyMatting

`python -m benchmarks.peers`: PyMatting solves the same nodules slice by slice, on whole slices or on slices cut to the
box that our methods use. It cannot solve slices without known foreground: {unsolved:.0%} of the slices with unknown
voxels here (`share` is the fraction of the unknown voxels that it solves). `three` is closed form, KNN and
learning based together. Ratios are its seconds over ours, while ours solve all slices; the last one
is for closed form per solved voxel.

{markdown(shown, [[row[key] for key in shown] for row in times])}

{markdown(("median over nodules", "theirs / ours"), summary)}

- The three on the cut box: {cut:.1f} times ours, target {WANTED_PEER_TIMES}: {verdict(cut >= WANTED_PEER_TIMES)}.
- Closed form on the cut box, per solved voxel: {closed_form:.2f} times ours, target at least 1:
  {verdict(closed_form >= 1)}.

Mean error against the known matte of {len(report["stand_ins"])} synthetic nodules, over the unknown voxels of the slices that
PyMatting solves: its defaults, ours (the paper form, whose formulas are the same but in 3D). A ratio below 1 means that PyMatting is
better; the last column is the median of the ratios of single nodules. What the improved form changes: [truth.md](truth.md).

{markdown(("", "3D", "PyMatting", "ratio", "median ratio"), rows)}
"""


def textbook(report: dict[str, Any]) -> str:
    ratios, apart = report["ratios"], report["mean_difference"]
    sides = [(side, *report[side].values()) for side in ("ours", "ours, pulled", "textbook")]
    return f"""## Comparison with the textbook form

`python -m benchmarks.textbook`: closed form with the sparse Laplacian of the whole patch and a constraint
weight of 100, on {report["id"]} ({report["unknown_voxels"]:,} unknown voxels in a patch of {report["patch_voxels"]:,}).
*ours, pulled* is ours with that weight instead of exact constraints. All use the paper's closed form:
epsilon 1e-7, intensity alone, equal weights of all windows.

{markdown(("", "CPU s", "MB", "iterations"), sides)}

- Time: {ratios["seconds"]} times less, target {WANTED_TIMES}: {verdict(ratios["seconds"] >= WANTED_TIMES)}.
- Memory: {ratios["megabytes"]} times less, target {WANTED_MEMORY}: {verdict(ratios["megabytes"] >= WANTED_MEMORY)}.
- Mean difference over the unknown region for the same problem (*ours, pulled*):
  {apart["ours, pulled"]:.2g}, target below {WANTED_DIFFERENCE:g}: {verdict(apart["ours, pulled"] < WANTED_DIFFERENCE)}.
  With exact constraints, the default, it is {apart["ours"]:.2g}; the remainder is due to the finite
  constraint weight.
"""


def convergence(report: dict[str, Any]) -> str:
    methods, apart, failed = report["methods"], report["median_difference"], report["not_converged"]
    rows = [(name, *figures.values()) for name, figures in methods.items()]
    exceptions = markdown(
        ("nodule", "method", "status", "residual"), [tuple(row.values()) for row in failed]
    )
    tied = [pair for pair, difference in apart.items() if difference < TIED]
    return f"""## Convergence

`python -m benchmarks.convergence`: all eight on {report["nodules"]} nodules of evenly
distributed size, to a residual of {report["tolerance"]:g}. `clipped` is the largest distance of a
matte from 0..1 before clipping.

{markdown(("", *methods["cf"]), rows)}

Not converged: {len(failed)}. Refused before any solve: {len(report["refused"])}{"." if not report["refused"] else ": "}
{", ".join(f"{row['id']} ({row['refused']})" for row in report["refused"])}

{exceptions if failed else ""}

Median over nodules of the mean difference of two methods over the unknown region. Mattes that differ
by less than {TIED} count as tied: {", ".join(tied) or "none"}.

{markdown(("", "median difference"), apart.items())}
"""


def margin(report: dict[str, Any]) -> str:
    methods, nodules = report["methods"], report["nodules"]
    rows = [(name, *figures.values()) for name, figures in methods.items()]
    shares = [row["share"] for row in nodules]
    return f"""## Search margin

`python -m benchmarks.margin`: mattes with candidates within {report["margin_mm"]:g} mm of the box of the
unknown voxels, the default, against mattes with the whole patch searched: |difference| over the unknown voxels of {len(nodules)} nodules
of {nodules[0]["unknown"]:,} to {nodules[-1]["unknown"]:,} unknown voxels. The box holds {min(shares):.0%} to
{max(shares):.0%} of the patch (median {statistics.median(shares):.0%}).

{markdown(("", *methods["cf"]), rows)}
"""


def memory(report: dict[str, Any]) -> str:
    rows = report["rows"]
    return f"""## Memory

`python -m benchmarks.memory`: all eight in one call on a soft ball, each row in a process of its own. Total
peak, and peak beyond what the process held before the call; both include the eight returned mattes.
First row, target under {report["limit_mb"]:,} MB: {verdict(report["met"])}.

{markdown(tuple(rows[0]), [tuple(row.values()) for row in rows])}

{whole_nodules(report.get("whole", []))}
"""


def whole_nodules(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return ""
    held = all(row["peak MB"] <= row["expected MB"] for row in rows)
    return f"""Whole nodules, from a table of files to a stored case, each in a process of its own. Expected is the
prediction of `halosign plan` for a nodule of that size; {"no" if held else "some"} nodule exceeds it.

{markdown(tuple(rows[0]), [tuple(row.values()) for row in rows])}
"""


def reading(report: dict[str, Any]) -> str:
    wanted = "\n".join(
        f"- Against {name}, target {times} times as many: {verdict(report['met'][name])}."
        for name, times in report["wanted"].items()
    )
    rows = report["rows"]
    return f"""## Reading a release

`python -m benchmarks.reading`: boxes of 96 x 96 x 96 at random positions in {len(report["shapes"])} nodules, each with
image, released matte, the readers' masks and validity, from files in the page cache; CPU seconds of one thread.

{markdown(tuple(rows[0]), [tuple(row.values()) for row in rows])}

{wanted}
- Bytes, target no more than .nii.gz: {verdict(report["met"]["bytes"])}.
- `ReleaseDataset` yields {report["items_a_second"]:.0f} items per second, including padding and tensors.
"""


def publishing(report: dict[str, Any]) -> str:
    return f"""## Publishing

`python -m benchmarks.publishing`: {report["nodules"]:,} synthetic nodules ({report["megabytes"]:,} MB in
{report["files"]:,} files), all checks passed: {report["gather_s"]} s to read and check, {report["publish_s"]} s to
publish, {report["verify_s"]} s to verify, with a peak of {report["peak_mb"]:,} MB
(target {report["limit_mb"]:,} MB: {verdict(report["met"])}). Wall seconds.
"""


def fan_out(report: dict[str, Any]) -> str:
    many, rows, plans, real = report["many"], report["throughput"], report["plan"], report["real"]
    small, large, two = plans["10000"], plans["100000"], report["two_workers"]
    grown = many["client_mb_after"]["10000"] - many["client_mb_after"]["2000"]
    speed = {row["workers"]: row["nodules_per_s"] for row in rows}
    text = f"""## Fan-out

`python -m benchmarks.fan_out`: the flow and its client with stubs instead of nodules, on a Dask scheduler
in a process of its own; wall times, at an initial load of {report["load_at_start"]:.1f} on
{report["cores"]} cores.

- Planning with 10,000 finished nodules: {small["seconds"]:.1f} s, target under 10 s:
  {verdict(small["seconds"] < 10)}. With 100,000: {large["seconds"]:.0f} s and a peak of
  {large["peak_mb"]} MB in that process, target under 1,000 MB: {verdict(large["peak_mb"] < 1000)}.
- {many["nodules"]:,} empty nodules: {many["wall_ms_per_nodule"]:.1f} ms of wall time each, of which
  {many["client_cpu_ms_per_nodule"]:.1f} ms are CPU time of the client, target at most 10 ms:
  {verdict(many["wall_ms_per_nodule"] <= 10)}. The client grew by {grown:.0f} MB from the 2,000th to the
  last, to {many["client_mb_after"]["10000"]:.0f} MB: it keeps one small record per nodule.
- A stub that sleeps {report["sleep_s"]:g} s: 32 workers are {speed[32] / speed[1]:.1f} times as fast
  as one, {max(speed)} are {speed[max(speed)] / speed[1]:.1f} times as fast. The loss is the start and end of
  the flow, about a second.
- The same stub, {two["nodules"]} nodules on two workers: {two["share_of_ideal"]:.1%} of the workers' time
  was spent in it, target 90%: {verdict(two["share_of_ideal"] >= 0.9)} (at a load of {two["load"]}).

{markdown(tuple(rows[0]), [tuple(row.values()) for row in rows])}
"""
    tasks = read("task_runs")
    ours = [row for row in tasks["rows"] if row["as"] != TASK_RUNNER]
    dearest = max(row["client_cpu_ms"] + row["server_cpu_ms"] for row in ours)
    text += f"""
`python -m benchmarks.task_runs`: milliseconds per nodule of Prefect's part, with stubs on {tasks["threads"]} threads; the
server is the private one. Client and server together, target at most 30: {verdict(dearest <= 30)}.
`{TASK_RUNNER}` is Prefect's own way (`prefect-dask`), for comparison: its task runs are the workers', so Dask's time counts too.

{markdown(tuple(tasks["rows"][0]), [tuple(row.values()) for row in tasks["rows"]])}
"""
    if real:
        load = f" Load {' to '.join(map(str, real['load']))}." if "load" in real else ""
        text += f"""
`python -m benchmarks.fan_out --real N` curates real nodules on two workers: {real["nodules"]} nodules,
{real["stage_s"]} seconds in stages over {real["wall_s"]} s of the whole run, cluster start included: efficiency
{real["efficiency"]:.3f}, target 0.95: {verdict(real["efficiency"] >= 0.95)}.{load}
"""
    return text


def whole_archive(report: dict[str, Any]) -> str:
    runs = report["runs"]
    header = ("workers", "ended", "begun", "wall s", "CPU s", "load", "stored", "killed")
    rows = [
        (
            run["workers"],
            run["ended"],
            run["starts"],
            run["wall_s"],
            run["cpu_s"],
            run["load"],
            f"{run['done']} cases, {run['store_gb']} GB",
            ", ".join(f"{name} {count}" for name, count in run["kills"].items()),
        )
        for run in runs
    ]
    same = "the same" if len({run["digest"] for run in runs}) == 1 else "other"
    return f"""## An archive through the services, with kills

`python -m benchmarks.whole_archive FOLDER`: synthetic DICOM at the places of the four-reader nodules of {report["patients"]}
of LIDC-IDRI's 554 patients that have one ({report["dicom_gb"]} GB), curated by the nightly deployment in a cluster of local processes
({report["cores"]} cores for all services), once for each number of workers, while one service after another was killed at
random moments and started again. Nothing was begun again by hand. The files of all cases were {same} bytes in every run.
CPU seconds are those of the whole machine but for programs of low priority.

{markdown(header, rows)}
"""


def review(report: dict[str, Any]) -> str:
    kept = report["decision_ms_p95"] < WANTED_P95_MS and not report["decisions_lost"]
    rows = [
        (
            "next nodule drawn after a verdict, ms",
            report["next_ms_median"],
            report["next_ms_most"],
        ),
        ("first nodule with its images, ms", report["first_ms"], ""),
        ("scrolling: planes, surface and eight candidates, frames/s", report["frames_per_s"], ""),
        ("the same, CPU ms per frame", report["frame_cpu_ms"], ""),
        ("scrolling: all eight large, frames/s", report["frames_per_s_grid"], ""),
        ("the same, CPU ms per frame", report["frame_cpu_ms_grid"], ""),
        (
            "storing a verdict under load, ms",
            report["decision_ms_median"],
            report["decision_ms_p95"],
        ),
        ("verdicts sent, lost", report["decisions_sent"], report["decisions_lost"]),
    ]
    return f"""## Review page

`python -m benchmarks.review`: server, headless Chromium without a graphics card (1920 x 1080) and
reviewers share {report["cores"]} cores with other programs (load {report["load"]:.1f} before); wall times.
{report["nodules"]} nodules of {report["median_voxels"]:,} (median) to {report["largest_voxels"]:,} voxels; the largest
is scrolled. {report["reviewers"]} concurrent reviewers decide without pauses and fetch every nodule's images.

{markdown(("", "median", "maximum, or 95th percentile under load"), rows)}

- Next nodule, target at most {WANTED_NEXT_MS} ms: {verdict(report["next_ms_median"] <= WANTED_NEXT_MS)}.
- Scrolling, target at least {WANTED_FRAMES} frames/s: {verdict(report["frames_per_s"] >= WANTED_FRAMES)}.
  The CPU time of a frame would allow {1000 / report["frame_cpu_ms"]:.0f} on an idle machine.
- Under load, target 95th percentile below {WANTED_P95_MS} ms and none lost: {verdict(kept)}.
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

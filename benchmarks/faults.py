"""All faults with all seeds, for the tables of docs/faults.md: two hours on two cores.

    python -m benchmarks.faults [--page-only]

The reports are kept in benchmarks/results/faults.json.
"""

import argparse
import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measure import RESULTS
from benchmarks.page import markdown

REPORTS = RESULTS / "faults.json"
PAGE = Path(__file__).parents[1] / "docs" / "faults.md"
END = "<!-- end of table -->"
HEADER = (
    "fault",
    "runs",
    "lost",
    "recomputed",
    "continued by itself",
    "median recovery, s",
    "longest",
)
DEPLOYMENT_HEADER = (
    "fault",
    "runs",
    "lost",
    "recomputed",
    "completed by itself",
    "next nodule, median s",
    "longest",
)
STRUCK = {
    "kill": "killed",
    "term": "terminated",
    "write-enospc": "disk full",
    "write-eio": "EIO on writes",
    "read-eio": "EIO on reads",
}
"""Columns by the faults that strike one command."""
HARM = ("lost", "damaged", "tracebacks", "other bytes")
BESIDE = "two at once"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--page-only", action="store_true", help="write the page from the kept reports"
    )
    if not parser.parse_args().page_only:
        environment = {**os.environ, "HALOSIGN_FAULT_REPORTS": str(REPORTS)}
        subprocess.run(
            [sys.executable, "-m", "pytest", "-m", "slow or not slow", "tests/faults"],
            env=environment,
        )
    page = PAGE.read_text()
    tables = {
        "faults": faults(),
        "deployments": deployments(),
        "commands": commands(),
        "pairs": pairs(),
    }
    for name, rows in tables.items():
        begin = f"<!-- table of {name}: python -m benchmarks.faults -->\n"
        head, rest = page.split(begin)
        page = f"{head}{begin}\n{rows}\n\n{END}{rest.split(END, 1)[1]}"
    PAGE.write_text(page)
    print(f"wrote {PAGE}")


def read_reports() -> list[dict[str, Any]]:
    """Return the kept reports."""
    return list(json.loads(REPORTS.read_text()))


def faults() -> str:
    """Return the table of the faults of machines and services."""
    by_fault = defaultdict(list)
    for report in read_reports():
        if not {"command", "deployment"} & set(report):
            by_fault[report["fault"]].append(report)
    return markdown(HEADER, [row(fault, reports) for fault, reports in by_fault.items()])


def deployments() -> str:
    """Return the table of the faults of services that runs of a deployment need."""
    by_fault = defaultdict(list)
    for report in read_reports():
        if "deployment" in report:
            by_fault[report["fault"]].append(report)
    return markdown(
        DEPLOYMENT_HEADER, [deployment_row(fault, reports) for fault, reports in by_fault.items()]
    )


def deployment_row(fault: str, reports: list[dict[str, Any]]) -> tuple[object, ...]:
    next_s = [report["next_nodule_s"] for report in reports if report["next_nodule_s"] is not None]
    ended = sum(report["ending"] == "Completed" for report in reports)
    return (
        fault,
        len(reports),
        sum(report["lost"] for report in reports),
        sum(report["recomputed"] for report in reports),
        f"{ended} of {len(reports)}",
        float(median(next_s)),
        float(max(next_s)),
    )


def commands() -> str:
    """Return the table of the commands that were struck: runs of each fault, and the harm."""
    rows = []
    for name, reports in _by_command(struck=True).items():
        runs = [sum(report["fault"] == fault for report in reports) for fault in STRUCK]
        rows.append((name, *runs, *_harm(reports)))
    return markdown(("command", *STRUCK.values(), *HARM), rows)


def pairs() -> str:
    """Return the table of two commands at once."""
    rows = [
        (name, len(reports), *_harm(reports)) for name, reports in _by_command(struck=False).items()
    ]
    return markdown(("commands", "runs", *HARM), rows)


def _by_command(*, struck: bool) -> dict[str, list[dict[str, Any]]]:
    grouped = defaultdict(list)
    for report in read_reports():
        if "command" in report and (report["fault"] != BESIDE) == struck:
            grouped[report["command"]].append(report)
    return grouped


def _harm(reports: list[dict[str, Any]]) -> tuple[int, ...]:
    return tuple(
        sum(report[name] for report in reports)
        for name in ("lost", "damaged", "tracebacks", "other_bytes")
    )


def row(fault: str, reports: list[dict[str, int | float]]) -> tuple[object, ...]:
    recovery_s = [report["recovery_s"] for report in reports]
    alone = sum(report["first_exit"] == 0 and report["second_computed"] == 0 for report in reports)
    return (
        fault,
        len(reports),
        sum(report["lost"] for report in reports),
        sum(report["recomputed"] for report in reports),
        f"{alone} of {len(reports)}",
        float(median(recovery_s)),
        float(max(recovery_s)),
    )


if __name__ == "__main__":
    main()

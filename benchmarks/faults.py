"""All faults with all seeds, for the tables of docs/faults.md: two hours on two cores.

    python -m benchmarks.faults [--page-only]

The reports are kept in benchmarks/results/faults.json.
"""

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measure import RESULTS, command_line
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
    parser = command_line(__doc__)
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
    rows = []
    for fault, reports in _grouped("fault", _is_of_a_service).items():
        alone = sum(one["first_exit"] == 0 and one["second_computed"] == 0 for one in reports)
        rows.append(_row(fault, reports, alone, [one["recovery_s"] for one in reports]))
    return markdown(HEADER, rows)


def deployments() -> str:
    """Return the table of the faults of services that runs of a deployment need."""
    rows = []
    for fault, reports in _grouped("fault", lambda report: "deployment" in report).items():
        ended = sum(one["ending"] == "Completed" for one in reports)
        next_s = [one["next_nodule_s"] for one in reports if one["next_nodule_s"] is not None]
        rows.append(_row(fault, reports, ended, next_s))
    return markdown(DEPLOYMENT_HEADER, rows)


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
    return _grouped(
        "command",
        lambda report: "command" in report and (report["fault"] != BESIDE) == struck,
    )


def _is_of_a_service(report: dict[str, Any]) -> bool:
    return not {"command", "deployment"} & set(report)


def _grouped(key: str, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, list[dict[str, Any]]]:
    """Return the reports that are wanted, by one of their entries."""
    grouped = defaultdict(list)
    for report in filter(wanted, read_reports()):
        grouped[report[key]].append(report)
    return grouped


def _harm(reports: list[dict[str, Any]]) -> tuple[int, ...]:
    return tuple(
        sum(report[name] for report in reports)
        for name in ("lost", "damaged", "tracebacks", "other_bytes")
    )


def _row(
    fault: str, reports: list[dict[str, Any]], well: int, seconds: list[float]
) -> tuple[object, ...]:
    """Return the row of a fault: of how many runs all went well, and how long it took."""
    return (
        fault,
        len(reports),
        sum(report["lost"] for report in reports),
        sum(report["recomputed"] for report in reports),
        f"{well} of {len(reports)}",
        float(median(seconds)),
        float(max(seconds)),
    )


if __name__ == "__main__":
    main()

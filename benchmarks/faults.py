"""All faults with all seeds, for the table of docs/faults.md: half an hour on two cores.

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

from benchmarks.measure import RESULTS
from benchmarks.page import markdown

REPORTS = RESULTS / "faults.json"
PAGE = Path(__file__).parents[1] / "docs" / "faults.md"
BEGIN, END = "<!-- table: python -m benchmarks.faults -->\n", "<!-- end of table -->"
HEADER = (
    "fault",
    "runs",
    "lost",
    "recomputed",
    "continued by itself",
    "median recovery, s",
    "longest",
)


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
    head, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(head + BEGIN + "\n" + table() + "\n\n" + END + rest.split(END)[1])
    print(f"wrote {PAGE}")


def table() -> str:
    by_fault = defaultdict(list)
    for report in json.loads(REPORTS.read_text()):
        by_fault[report["fault"]].append(report)
    return markdown(HEADER, [row(fault, reports) for fault, reports in by_fault.items()])


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

"""What was tried to break the product and what it survived, by area.

    python -m benchmarks.attack [--only AREA ...] [--seeds N]

The attacks are the tests that `AREAS` names, the slow ones included, so that whatever is closed
stays closed by `make test`; another area is another line. A test counts once, or as often as it
says by `record_property("tried", n)`; a failed one counts as broken as a whole. The review server
under load is measured by `benchmarks.attack_review`. All together take hours: `--seeds` bounds how
often each struck command is tried. The counts of an area are kept when it is done, in
benchmarks/results/attack.json, where `--only` leaves those of other areas, and written into
docs/faults.md.
"""

import json
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks import attack_review
from benchmarks.measure import RESULTS, command_line, save, table
from benchmarks.page import markdown

ROOT = Path(__file__).parents[1]
WANTED_PERCENT = 99
AREAS: Mapping[str, tuple[str, ...]] = {
    "faults of machines and services": (
        "tests/faults/test_faults.py",
        "tests/faults/test_gc.py",
        "tests/faults/test_source.py",
    ),
    "commands struck, two at once": (
        "tests/faults/test_commands.py",
        "tests/faults/test_review_server.py",
        "tests/faults/test_two_at_once.py",
    ),
    "loss of power": ("tests/faults/test_power.py", "tests/storage/test_failing_disk.py"),
    "damaged files": (
        "tests/storage/maintenance/test_check.py",
        "tests/storage/test_corruption.py",
        "tests/storage/results/test_checkpoints.py",
    ),
    "contradictions": (
        "tests/storage/releases/test_consistency.py",
        "tests/tasks/learning/test_load.py",
    ),
    "garbage collection": (
        "tests/storage/maintenance/test_gc.py",
        "tests/storage/maintenance/test_gc_bucket.py",
    ),
    "source away": ("tests/tasks/curation/test_away.py",),
    "private data": (
        "tests/flows/test_private_data.py",
        "tests/storage/sources/test_pseudonyms.py",
        "tests/storage/sources/test_private_names.py",
        "tests/storage/sources/test_redaction.py",
        "tests/storage/sources/test_burned_in.py",
        "tests/storage/exports/test_dicom_seg.py",
        "tests/storage/test_csv_cells.py",
    ),
    "hostile input": (
        "tests/storage/test_hostile_records.py",
        "tests/storage/test_recipe.py",
        "tests/storage/sources/test_table.py",
        "tests/storage/sources/test_kinds.py",
    ),
    "keys of the cluster": ("tests/cluster/test_keys.py", "tests/cluster/test_policy.py"),
    "review server: requests": ("tests/qc/review/test_hostile.py", "tests/qc/review/test_roles.py"),
    "review server: connections": ("tests/qc/review/test_connections.py",),
    "review server: sign-in": (
        "tests/qc/review/test_auth.py",
        "tests/qc/review/test_reviewers.py",
        "tests/qc/review/test_throttle.py",
    ),
}
LOAD = "review server: load"
RESULT = RESULTS / "attack.json"
PAGE = ROOT / "docs" / "faults.md"
BEGIN = "<!-- table: python -m benchmarks.attack -->\n"
END = "<!-- end of table -->"


@dataclass(frozen=True, slots=True)
class Count:
    """How often one area was attacked, and what broke."""

    tried: int
    broken: int
    names: tuple[str, ...] = ()
    """Of the attacks that were not survived."""
    skipped: int = 0
    """Tests that this machine cannot run."""


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--only", nargs="+", choices=[*AREAS, LOAD], default=[*AREAS, LOAD])
    parser.add_argument("--seeds", type=int, help="of each command and fault (all)")
    options = parser.parse_args()
    if options.seeds:
        os.environ["HALOSIGN_FAULT_SEEDS"] = str(options.seeds)
    chosen = options.only
    counts = {}
    for area in chosen:
        counts[area] = load() if area == LOAD else run(AREAS[area])
        keep(area, counts[area])
    print(page(counts))
    sys.exit(survived_percent(counts) < WANTED_PERCENT)


def keep(area: str, one: Count) -> None:
    """Write the counts of an area beside those of the others, as a file and on the page."""
    kept = json.loads(RESULT.read_text())["areas"] if RESULT.exists() else {}
    kept[area] = {"tried": one.tried, "broken": one.broken, "names": one.names}
    report = {name: kept[name] for name in (*AREAS, LOAD) if name in kept}
    save("attack", {"areas": report})
    head, rest = PAGE.read_text().split(BEGIN)
    rows = [(name, of["tried"], of["tried"] - of["broken"]) for name, of in report.items()]
    text = markdown(("area", "tried", "survived"), rows)
    PAGE.write_text(f"{head}{BEGIN}\n{text}\n\n{END}{rest.split(END, 1)[1]}")


def run(places: tuple[str, ...]) -> Count:
    """Run the tests of one area."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-m", "slow or not slow"]
        # The older format of JUnit, which has properties
        command += ["-o", "junit_family=xunit1"]
        subprocess.run([*command, f"--junit-xml={result}", *places], cwd=ROOT)
        return count(result.read_text())


def count(junit_xml: str) -> Count:
    """Count the attacks of a report of pytest."""
    tried = broken = skipped = 0
    names = []
    for case in ElementTree.fromstring(junit_xml).iter("testcase"):
        if case.find("skipped") is not None:
            skipped += 1
            continue
        properties = {one.get("name"): one.get("value") for one in case.iter("property")}
        attacks = int(properties.get("tried") or 1)
        tried += attacks
        if case.find("failure") is not None or case.find("error") is not None:
            broken += attacks
            names.append(f"{case.get('classname')}::{case.get('name')}")
    return Count(tried, broken, tuple(names), skipped)


def load() -> Count:
    """Attack the review server; each promise that is broken in a phase counts."""
    report = attack_review.attack()
    names = attack_review.broken_promises(report)
    return Count(attack_review.ATTACKS, len(names), tuple(names))


def survived_percent(counts: Mapping[str, Count]) -> float:
    """Return the share that was survived in all areas."""
    tried = sum(one.tried for one in counts.values())
    return 100 - 100 * sum(one.broken for one in counts.values()) / max(tried, 1)


def page(counts: Mapping[str, Count]) -> str:
    """Return the table, and the names of what was not survived."""
    figures = {
        area: (one.tried, one.tried - one.broken, one.skipped) for area, one in counts.items()
    }
    total = [sum(column) for column in zip(*figures.values(), strict=True)]
    rows = [(area, *row) for area, row in [*figures.items(), ("all", total)]]
    lines = [table(("area", "tried", "survived", "not run here"), rows)]
    lines += [f"not survived: {name}" for one in counts.values() for name in one.names]
    lines.append(f"{survived_percent(counts):.2f} % survived, wanted at least {WANTED_PERCENT} %")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

"""Known vulnerabilities of the pinned packages, by pip-audit.

    python -m benchmarks.advisories

pip-audit asks the package registry for its advisories. It is no part of the environment whose
packages it judges: `make bench` installs it into one of its own. Where it is not there, or the
registry has no advisories, a sentence says that nothing was judged: silence is no good news.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import command_line, save, table

ROOT = Path(__file__).parents[1]
AUDITOR = Path(sys.prefix) / "audit" / "bin" / "pip-audit"
PROBE = "zarr=="
"""A package that is asked about first, so that a registry without advisories is asked once."""


@dataclass(frozen=True, slots=True)
class Audit:
    """What is known of some packages."""

    judged: int
    found: tuple[tuple[str, str, str, str], ...]
    """Package, version, advisory and the versions that mend it."""
    unknown: tuple[str, ...]
    """Packages that could not be judged."""
    skipped: str = ""
    """Why nothing could be judged at all, in a sentence."""


def main() -> None:
    command_line(__doc__).parse_args()
    report = audit((ROOT / "constraints.txt").read_text().splitlines())
    print(page(report))
    save(
        "advisories",
        {
            "judged": report.judged,
            "found": report.found,
            "unknown": report.unknown,
            "skipped": report.skipped,
        },
    )


def audit(pins: Sequence[str], auditor: Path = AUDITOR) -> Audit:
    """Ask for the advisories of packages.

    Args:
        pins: Lines of a file of requirements, each with one version.
        auditor: The command.
    """
    command = str(auditor) if auditor.exists() else shutil.which("pip-audit")
    if command is None:
        return _skipped("pip-audit is not installed: `make bench` installs it where it can")
    pins = [pin for pin in pins if "==" in pin]
    first = [pin for pin in pins if pin.startswith(PROBE)] or pins[:1]
    try:
        if read(_ask(command, first)).judged == 0:
            return _skipped("the package registry has no advisories, or cannot be reached")
        return read(_ask(command, pins))
    except ValueError:
        return _skipped("pip-audit did not finish; it says why above")


def _ask(command: str, pins: Sequence[str]) -> str:
    """Return pip-audit's report as JSON; its exit code says whether it found something."""
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text("\n".join(pins) + "\n")
        options = ["--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off"]
        return subprocess.run(
            [command, "--requirement", str(requirements), *options],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        ).stdout


def read(report: str) -> Audit:
    """Read a report of pip-audit; raises ValueError for anything else."""
    packages = json.loads(report)["dependencies"]
    unknown = tuple(one["name"] for one in packages if "skip_reason" in one)
    found = tuple(
        (one["name"], one["version"], advisory["id"], ", ".join(advisory["fix_versions"]) or "none")
        for one in packages
        for advisory in one.get("vulns", ())
    )
    return Audit(len(packages) - len(unknown), found, unknown)


def page(report: Audit) -> str:
    """Return what to print."""
    if report.skipped:
        return f"Advisories were not compared: {report.skipped}."
    lines = [f"{len(report.found)} known vulnerabilities of {report.judged} packages"]
    if report.found:
        lines.append(table(("package", "version", "advisory", "mended in"), report.found))
    if report.unknown:
        lines.append(f"not judged, since the registry does not know: {', '.join(report.unknown)}")
    return "\n".join(lines)


def _skipped(reason: str) -> Audit:
    return Audit(0, (), (), reason)


if __name__ == "__main__":
    main()

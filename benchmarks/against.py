"""CPU time of all eight methods against an older checkout, stage by stage, as ratios.

    git worktree add /tmp/older 7770cc5
    HALOSIGN_OLDER=/tmp/older python -m benchmarks.against [--nodules 40]

Both sides solve the same real nodules of all sizes with the same parameters, but each with its own
default tolerance, one thread each, in two processes that take turns: nodule by nodule, form by
form, the least of three runs. Forms: `older`, the older checkout's defaults without the ramp and
rim terms that it had; `paper`, the papers' values. A ratio is seconds now over seconds then, summed
over all nodules. Without an older checkout nothing is measured.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from benchmarks.measure import command_line, save, table
from benchmarks.nodules import Ready, nodules
from matting import Parameters
from matting.geometry.box import box_around

VARIABLE = "HALOSIGN_OLDER"
HERE = Path(__file__).parents[1]
NO_RAMP = {"ramp_strength": 0.0, "rim_strength": 0.0}
"""Settings that only the older side knows."""
ONE_CHANNEL = {"mean_reach_mm": 0.0, "trusted_variance": None}
PAPER: dict[str, dict[str, Any]] = {
    "closed_form": {"epsilon": 1e-7, **ONE_CHANNEL},
    "learning_based": {"ridge": 1e-7, "windows": "centred", **ONE_CHANNEL},
    "knn": {"position_weights": (1.0, 0.01)},
    "information_flow": {
        "local_epsilon": 1e-6,
        "local_mean_reach_mm": 0.0,
        "local_trusted_variance": None,
        "local_strength": 1 / 27,
        "intra_strength": 0.01,
    },
}


class Side:
    """A process that solves with one checkout's code."""

    def __init__(self, checkout: Path) -> None:
        """Start it and read its default parameters."""
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(HERE / "benchmarks" / "stages.py"), str(checkout)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(checkout)},
            cwd=checkout,
        )
        self._tasks = cast(IO[str], self._process.stdin)
        self._answers = cast(IO[str], self._process.stdout)
        self.defaults = json.loads(self._answers.readline())

    def solve(self, nodule: Path, parameters: dict[str, dict[str, Any]]) -> dict[str, Any]:
        task = {"nodule": str(nodule), "parameters": parameters}
        self._tasks.write(json.dumps(task) + "\n")
        self._tasks.flush()
        return json.loads(self._answers.readline())

    def close(self) -> None:
        self._tasks.close()
        self._process.wait()


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--older", type=Path, default=os.environ.get(VARIABLE))
    parser.add_argument("--nodules", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.older is None:
        print(f"{VARIABLE} names no older checkout: nothing to compare")
        return
    then, now = Side(arguments.older.resolve()), Side(HERE)
    defaults = {name: without_ramp(fields) for name, fields in then.defaults.items()}
    del defaults["solver"]["tolerance"]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for nodule in nodules(arguments.nodules, largest=min(3, arguments.nodules)):
            path = Path(folder, "nodule.npz")
            write(nodule, path)
            for form, parameters in (("older", defaults), ("paper", paper_form(nodule))):
                if len(rows) < 2:
                    compare(then, now, path, parameters, 1)
                seconds = compare(then, now, path, parameters, arguments.repeats)
                rows.append({"id": nodule.id, "form": form, "unknown": nodule.unknown_voxels})
                rows[-1] |= seconds
                ratio = seconds["now"]["all eight"] / seconds["then"]["all eight"]
                print(
                    f"{nodule.id}, {nodule.unknown_voxels} unknown, {form}: {ratio:.3f}", flush=True
                )
    then.close()
    now.close()
    forms = {
        form: summary([row for row in rows if row["form"] == form]) for form in ("older", "paper")
    }
    for form, stages in forms.items():
        print(f"\n{form} form, over {len(rows) // 2} nodules")
        header = ("", "us / unknown voxel then", "now", "ratio", "median ratio")
        print(table(header, [(stage, *figures.values()) for stage, figures in stages.items()]))
    save("against", {"older": commit_of(arguments.older), "forms": forms, "nodules": rows})


def write(nodule: Ready, path: Path) -> None:
    np.savez(path, image_hu=nodule.image_hu, labels=nodule.labels, spacing_mm=nodule.spacing_mm)


def paper_form(nodule: Ready) -> dict[str, dict[str, Any]]:
    """Return the papers' values, with positions over the longest side of the searched box."""
    margin_mm = Parameters().solver.search_margin_mm
    z, y, x = (max(2, int(margin_mm / side + 1e-6)) for side in nodule.spacing_mm)
    box = box_around(nodule.unknown, (z, y, x))
    sides = [
        (side.stop - side.start) * spacing
        for side, spacing in zip(box, nodule.spacing_mm, strict=True)
    ]
    return PAPER | {"solver": {"intensity_curve": 0.0, "position_scale_mm": float(max(sides))}}


def without_ramp(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if not name.startswith(("ramp", "rim"))}


def with_no_ramp(
    parameters: dict[str, dict[str, Any]], defaults: dict[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Return parameters with the ramp and rim of the sections that have them switched off."""
    return {
        section: fields | (NO_RAMP if "ramp_strength" in defaults[section] else {})
        for section, fields in parameters.items()
    }


def compare(
    then: Side, now: Side, nodule: Path, parameters: dict[str, dict[str, Any]], repeats: int
) -> dict[str, dict[str, float]]:
    """Return the least seconds of each stage on both sides, which take turns."""
    answers: dict[str, list[dict[str, Any]]] = {"then": [], "now": []}
    for _ in range(repeats):
        answers["then"].append(then.solve(nodule, with_no_ramp(parameters, then.defaults)))
        answers["now"].append(now.solve(nodule, parameters))
    return {
        side: {
            stage: round(min(run["seconds"][stage] for run in runs), 6)
            for stage in runs[0]["seconds"]
        }
        | {"converged": runs[0]["converged"]}
        for side, runs in answers.items()
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return, for each stage, cost per unknown voxel on both sides and their ratios."""
    unknown = sum(row["unknown"] for row in rows)
    stages = {}
    for stage in rows[0]["then"]:
        if stage == "converged":
            continue
        then, now = (sum(row[side][stage] for row in rows) for side in ("then", "now"))
        each = [row["now"][stage] / row["then"][stage] for row in rows if row["then"][stage] > 0]
        stages[stage] = {
            "then": round(1e6 * then / unknown, 3),
            "now": round(1e6 * now / unknown, 3),
            "ratio": round(now / then, 3),
            "median ratio": round(statistics.median(each), 3),
        }
    return stages


def commit_of(checkout: Path) -> str:
    command = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    main()

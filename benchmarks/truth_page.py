"""Write docs/truth.md from benchmarks/results/truth.json.

python -m benchmarks.truth_page
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.measure import PICTURES, RESULTS
from matting import METHODS
from storage.cases.case import ALGORITHM_VERSION

PAGE = PICTURES.parent / "truth.md"
INTRODUCTION = """# Truths that do not come from the trimap

The error of a matte on a real nodule cannot be measured directly: nobody knows the true matte. A simulation has one,
but whoever chooses parameters on his own simulation learns about the simulation. This page compares the two
forms of the methods on truths of other kinds, and it is what a change to the improved form is decided on.

| truth | how it is made | measure |
|---|---|---|
| pixels x2, slices 2.5 mm | A nodule's CT at native resolution decides which voxels are lesion; CT, masks and lesion are then averaged over blocks of voxels. *hu*: above the middle of core and surrounding lung, inside the readers' union, joined to the core. *majority*: marked by at least half of the readers. *density*: the first times the radiodensity target (Eq. 28). | mean absolute error |
| scaled | the same, with lengths divided by the factor: the band is as many voxels wide as natively | mean absolute error |
| left-out reader | trimap and matte without one of the four readers, compared with that reader's mask | Brier score (mean square) |
| synthetic | simulated CT with known alpha (**synthetic data**) | mean absolute error |
| public | photographs with published mattes, gray: a check of the plain formulas, not of CT | sum of differences / 1000 |

All rows of a table are compared over the same voxels, those that any form leaves unknown. In brackets: 95 % confidence
interval of the relative difference from the first-named row (bootstrap over patients). Nodules have at least 350 HU between core
and surrounding lung. A native scan is blurred, so the averaged lesion is too sharp: orders count, levels do not. Patients are divided into two halves by
a hash: parameters were chosen on *choose*, and *confirm* was only looked at afterwards.

Trivial rows need no solver. *local HU*: HU from the surrounding lung to the core, within 0.75 mm of the readers' union.
*readers' prior alone*: the data term's target of the [improved form](methods/reader-prior.md) as a matte of its own.
"""
RULE = """## The rule

A change to the improved form is admitted if, compared pairwise, it lowers the error on at least two truths of
different kinds (coarsened, left-out reader, synthetic, public) with an interval that excludes 0, and raises it on none. The paper form changes
only where its reading of the paper was wrong. `python -m benchmarks.truth` measures, `python -m benchmarks.truth_page` writes this page.
"""


def main() -> None:
    report = json.loads((RESULTS / "truth.json").read_text())
    PAGE.write_text(page(report))
    print(f"wrote {Path('docs', PAGE.name)}")


def page(report: Mapping[str, Any]) -> str:
    sections = [
        public(found) if key == "public" else section(key, found)
        for key, found in report.items()
        if key != "algorithm"
    ]
    version = report["algorithm"]
    now = "" if version == ALGORITHM_VERSION else f", not with the current {ALGORITHM_VERSION}"
    return "\n".join(
        [INTRODUCTION, f"Measured with algorithm version {version}{now}.\n", *sections, RULE]
    )


def section(key: str, found: Mapping[str, Any]) -> str:
    kind, patients, _ = key.split(", ")
    lesions = list(next(iter(found["rows"].values())))
    if not any(name.endswith("+") for name in found["rows"]):
        lesions = [lesion for lesion in lesions if lesion != "density"]
    synthetic = " (synthetic data)" if kind == "synthetic" else ""
    lines = [
        f"## {kind}, {patients}: {found['nodules']} nodules of {found['patients']} patients{synthetic}",
        "",
        f"{found['measure'].capitalize()}, difference from *{found['baseline']}*:",
        "",
        f"| | {' | '.join(lesions)} |",
        "|---" * (len(lesions) + 1) + "|",
    ]
    for name, cells in found["rows"].items():
        errors = [cell(cells[lesion]) if answers(name, lesion) else "" for lesion in lesions]
        lines.append(f"| {name} | {' | '.join(errors)} |")
    for rival, cells in found.get("against", {}).items():
        parts = [
            f"{lesion} {difference(cells[lesion])}" for lesion in lesions if lesion != "density"
        ]
        lines += ["", f"*improved cf* against *{rival}*: {'; '.join(parts)}."]
    if found["unconverged"]:
        lines += ["", f"Left out, because a matte did not converge: {found['unconverged']} solves."]
    lines += ["", *classes(found["classes"], lesions[0])]
    if found.get("regret"):
        lines += ["", *regret(found["regret"])]
    return "\n".join([*lines, ""])


def answers(name: str, lesion: str) -> bool:
    """Return whether a row estimates what a truth is: + forms density, plain forms the rest."""
    method = name.split()[-1]
    return method not in METHODS or method.endswith("+") == (lesion == "density")


def cell(figures: Mapping[str, Any]) -> str:
    return f"{figures['error']:.4f}, {difference(figures)}"


def difference(figures: Mapping[str, Any]) -> str:
    low, high = figures["interval"]
    return f"{figures['percent']:+.1f} % [{low:+.1f}, {high:+.1f}]"


def classes(found: Mapping[str, Any], lesion: str) -> list[str]:
    """Set the errors of both forms' closed form by size and slice distance in a table."""
    names = ("local HU", "paper cf", "improved cf")
    lines = [f"| by size and slices, *{lesion}* | solves | {' | '.join(names)} |", "|---" * 5 + "|"]
    for label, members in found.items():
        errors = " | ".join(
            f"{members[name][lesion]:.4f}" if name in members else "" for name in names
        )
        lines.append(f"| {label} | {members['solves']} | {errors} |")
    return lines


def regret(found: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Set the errors of the picks against the density truth in a table."""
    rules = [name for name in next(iter(found.values())) if " " in name and "+" not in name]
    lines = [f"| error of the pick, *density* | {' | '.join(rules)} |"]
    lines.append("|---" * (len(rules) + 1) + "|")
    for form, values in found.items():
        lines.append(f"| {form} form | {' | '.join(f'{values[rule]:.4f}' for rule in rules)} |")
    return lines


def public(found: Mapping[str, Any]) -> str:
    images = found["images"]
    names = list(next(iter(images.values())))
    lines = [
        f"## public, {len(images)} images",
        "",
        f"{found['measure'].capitalize()}, over the unknown pixels:",
        "",
        f"| | {' | '.join(names)} |",
        "|---" * (len(names) + 1) + "|",
    ]
    for image, sums in images.items():
        lines.append(f"| {image} | {' | '.join(f'{sums[name]:.3f}' for name in names)} |")
    totals = [sum(sums[name] for sums in images.values()) for name in names]
    lines.append(f"| sum | {' | '.join(f'{total:.3f}' for total in totals)} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()

"""Write docs/truth.md from benchmarks/results/truth.json.

python -m benchmarks.truth_page
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt

from benchmarks.ceiling import EVERYTHING, MIXTURES, RIVALS
from benchmarks.measure import PICTURES, RESULTS, command_line
from benchmarks.nodules import known_alpha, make_ready, native_patch, simulated
from benchmarks.pictures import WINDOW_HU, middle_slice
from matting import METHODS, Parameters, solve
from storage.cases.case import ALGORITHM_VERSION

PAGE = PICTURES.parent / "truth.md"
DRAWN = ("LIDC-IDRI-0276-a2087", "LIDC-IDRI-0375-a2693", "LIDC-IDRI-0394-a2820")
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
interval of the relative difference from *paper cf* (bootstrap over patients). Nodules have at least 350 HU between core
and surrounding lung. A native scan is blurred, so the averaged lesion is too sharp: orders count, levels do not. Patients are divided into two halves by
a hash: parameters were chosen on *choose*. *confirm* was looked at twice: after a first choice of the readers' prior (width 3 mm,
strength 0.1), and after the final one. Effects change with size and slice distance: see the small table of each section.

Trivial rows need no solver. *local HU*: HU from the surrounding lung to the core, within 0.75 mm of the readers' union.
*readers' prior alone*: the data term's target of the [improved form](methods/reader-prior.md) as a matte of its own.
"""
PICTURE = """![Three synthetic nodules: CT with readers, paper form, improved form, known alpha](pictures/truth.png)

*Closed form on three synthetic nodules (solid, part-solid, ground-glass), a slice through the middle of the core: simulated CT with the four readers'
outlines, paper form, improved form, known alpha.*
"""
RULE = """## The rule

A change to the improved form is admitted if, compared pairwise, it lowers the error on at least two truths of
different kinds (coarsened, left-out reader, synthetic, public) with an interval that excludes 0, and raises it on none. The paper form changes
only where its reading of the paper was wrong. `python -m benchmarks.truth` measures, `python -m benchmarks.truth_page` writes this page.
"""


def main() -> None:
    command_line(__doc__).parse_args()
    report, learned = (
        json.loads((RESULTS / f"{name}.json").read_text()) for name in ("truth", "ceiling")
    )
    draw()
    PAGE.write_text(page(report, ceiling(learned)))
    print(f"wrote {Path('docs', PAGE.name)}")


def draw() -> None:
    """Draw both forms of three synthetic nodules beside CT, readers and known alpha."""
    mpl.use("Agg")
    figure, axes = plt.subplots(len(DRAWN), 4, figsize=(8, 2 * len(DRAWN)), layout="constrained")
    for row, nodule_id in zip(axes, DRAWN, strict=True):
        slab, placed, spacing_mm = simulated(nodule_id, seed=1)
        nodule = make_ready(nodule_id, native_patch(slab, placed, spacing_mm))
        place = middle_slice(nodule)
        panels = {"CT and readers": nodule.image_hu} | {
            name: solve(
                "cf",
                nodule.image_hu,
                nodule.labels,
                spacing_mm=nodule.spacing_mm,
                parameters=parameters,
                readers=nodule.patch.readers,
            ).alpha
            for name, parameters in (
                ("paper form", Parameters()),
                ("improved form", Parameters.improved()),
            )
        }
        panels["known alpha"] = known_alpha(nodule.patch)
        for axis, (name, values) in zip(row, panels.items(), strict=True):
            low, high = WINDOW_HU if name == "CT and readers" else (0, 1)
            axis.imshow(values[place], cmap="gray", vmin=low, vmax=high)
            axis.set_title(name, fontsize=8)
            axis.set_axis_off()
        for mask in nodule.patch.readers:
            if mask[place].any():
                row[0].contour(mask[place], [0.5], linewidths=0.6)
    figure.savefig(PICTURES / "truth.png", dpi=90)
    plt.close(figure)


def page(report: Mapping[str, Any], ceiling: str) -> str:
    sections = [
        public(found) if key == "public" else section(key, found)
        for key, found in report.items()
        if key != "algorithm"
    ]
    version = report["algorithm"]
    now = "" if version == ALGORITHM_VERSION else f", not with the current {ALGORITHM_VERSION}"
    measured = f"Measured with algorithm version {version}{now}.\n"
    return "\n".join([INTRODUCTION, measured, *overview(report), PICTURE, *sections, ceiling, RULE])


def overview(report: Mapping[str, Any]) -> list[str]:
    """Set the improved form's closed form against three rows, truth by truth, in a table."""
    rivals = ("paper cf", "local HU", "readers' mean, blurred")
    lines = [f"| *improved cf* against | {' | '.join(rivals)} |", "|---|---|---|---|"]
    for key, found in report.items():
        if key in ("algorithm", "public") or not key.endswith(", cf"):
            continue
        lesion = next(iter(found["rows"]["improved cf"]))
        against = {"paper cf": found["rows"]["improved cf"]} | found["against"]
        cells = [difference(against[rival][lesion]) for rival in rivals]
        lines.append(f"| {key.removesuffix(', cf')} (*{lesion}*) | {' | '.join(cells)} |")
    return [*lines, ""]


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


def ceiling(report: Mapping[str, Any]) -> str:
    """Set what was learned from a truth itself beside the improved form."""
    lines = [
        "## How far any method could come",
        "",
        "`python -m benchmarks.ceiling`: gradient boosting that sees, voxel by voxel, readers, CT and mattes, fitted to the truth itself on *choose*",
        "and compared on *confirm*. It is no method, since no truth is known where one is needed: it shows what is left to be gained.",
        "",
    ]
    for kind, found in report["truths"].items():
        lines += [
            f"| {kind}, {found['solves']} solves | error | {' | '.join(f'against {r}' for r in RIVALS)} |"
        ]
        lines += ["|---" * (2 + len(RIVALS)) + "|"]
        for name, row in found["rows"].items():
            shares = (row["against"].get(rival) for rival in RIVALS)
            cells = [difference({"percent": s[0], "interval": s[1:]}) if s else "" for s in shares]
            lines.append(f"| {name} | {row['error']:.4f} | {' | '.join(cells)} |")
        lines += ["", what_is_left(found["rows"]), ""]
    return "\n".join([*lines, what_density_costs(report["truths"]), ""])


def what_is_left(rows: Mapping[str, Any]) -> str:
    """Return in words whether anything better than the improved form was learned."""
    _, low, high = rows[EVERYTHING]["against"]["improved cf"]
    if high < 0:
        return (
            "What was learned is nearer than *improved cf*. Part of that is no fault of the matte: a regression "
            "also learns how sharp this truth is (levels do not count, see above)."
        )
    if low > 0:
        return "*Improved cf* is nearer than anything that was learned from the other half."
    return (
        "What was learned is no nearer than *improved cf*: these inputs tell no more of this truth."
    )


def what_density_costs(truths: Mapping[str, Any]) -> str:
    """Return in words on which truths mixtures with local HU are nearer, and on which farther."""
    nearer, farther = [], []
    for kind, found in truths.items():
        intervals = [found["rows"][name]["against"]["improved cf"][1:] for name in MIXTURES]
        if all(high < 0 for _, high in intervals):
            nearer.append(kind)
        if all(low > 0 for low, _ in intervals):
            farther.append(kind)
    text = (
        "More weight for density, by any of the three mixtures, is nearer to these truths: "
        f"{', '.join(nearer) or 'none'}; and farther from these: {', '.join(farther) or 'none'}."
    )
    if nearer and farther:
        text += " It trades one for the other, so the rule below admits none of the mixtures."
    return text


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

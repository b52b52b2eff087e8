"""Mattes of both forms against truths that do not come from the trimap (benchmarks/truths.py).

    python -m benchmarks.truth [--patients choose confirm] [--count 100] [--methods cf knn lb if]
                               [--truths "pixels x2" ...] [--recipe FILE ...] [--public FOLDER]

For every nodule all rows are compared over one region: the voxels that any of the recipes leaves
unknown. Coarsened and synthetic truths give the mean absolute error, a left-out reader's mask the
Brier score (mean square). Differences are paired; their 95 % intervals come from drawing patients
with replacement. Results are written to benchmarks/results/truth.json after each truth, and
docs/truth.md from them (benchmarks/truth_page.py).

FOLDER holds public mattes, <name>.npz with `gray` (0..1), `alpha` (0..1) and `trimap` (0, 128,
255), (y, x) each.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from benchmarks.measure import RESULTS, command_line, one_thread, save
from benchmarks.nodules import real_folder
from benchmarks.truths import TRUTHS, Truth, trivial_mattes, truths, unknown_in_any
from matting import METHODS, Solution, estimate_alphas
from matting.errors import InputError
from matting.geometry.trimap import FOREGROUND, UNKNOWN, Trimap, build_trimap
from matting.measures.candidates import candidate_metrics
from matting.measures.probability import relative_difference
from matting.parameters import Parameters
from matting.solvers.reader_prior import reader_prior
from matting.solvers.solve_domain import to_intensity
from matting.targets import rank, target_of
from storage.recipe import Recipe, load_recipe

FORMS = ("paper", "improved")
PLAIN = tuple(name for name in METHODS if target_of(name) == "opacity")
SEED = 20221011
SIZES_MM = (0.0, 10.0, 20.0, np.inf)
"""Edges of the size classes, mean diameter."""
THICK_MM = 2.0
"""Slice distance from which slices count as thick."""
THICK_SLICES = 5
"""Slices of the thin volume that a photograph is repeated in."""
Array = NDArray[np.floating]


@dataclass(frozen=True)
class Row:
    """The errors of one nodule: of each row against each definition of its truth."""

    nodule: str
    patient: str
    diameter_mm: float
    slice_mm: float
    errors: dict[str, dict[str, float]]
    """By row, then by definition of lesion."""
    picks: dict[str, dict[str, str]]
    """The picked method by form, then by rule."""


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--patients", nargs="+", default=["choose", "confirm"])
    parser.add_argument("--count", type=int, default=100, help="nodules of each truth and half")
    parser.add_argument("--methods", nargs="+", default=["cf"], choices=METHODS)
    parser.add_argument("--truths", nargs="*", default=TRUTHS, choices=TRUTHS)
    parser.add_argument("--recipe", nargs="*", default=[], help="YAML files besides both forms")
    parser.add_argument("--public", type=Path, help="folder of public mattes")
    arguments = parser.parse_args()
    one_thread()
    recipes = {name: load_recipe(name) for name in (*FORMS, *arguments.recipe)}
    path = RESULTS / "truth.json"
    report = json.loads(path.read_text()) if path.is_file() else {}
    for kind in arguments.truths:
        for patients in arguments.patients if kind != "synthetic" else ["all"]:
            key = f"{kind}, {patients}, {' '.join(arguments.methods)}"
            rows = measure(kind, patients, arguments.count, arguments.methods, recipes)
            if rows:
                report[key] = summary(kind, rows)
                print(f"\n{key}\n{as_text(report[key])}", flush=True)
                save("truth", report)
    if arguments.public:
        report["public"] = measure_public(arguments.public, arguments.methods, recipes)
        print(json.dumps(report["public"], indent=1))
        save("truth", report)


def measure(
    kind: str, patients: str, count: int, methods: Sequence[str], recipes: Mapping[str, Recipe]
) -> list[Row]:
    """Measure all rows on the nodules of one truth."""
    folder = real_folder()
    if folder is None and kind != "synthetic":
        print(f"{kind}: no real nodules, left out")
        return []
    rows = []
    for truth in track(truths(kind, folder, patients, count), f"{kind}, {patients}", total=None):
        try:
            rows.append(measure_nodule(kind, truth, methods, recipes))
        except InputError as refusal:
            print(f"{truth.id} left out: {refusal}", flush=True)
    return rows


def measure_nodule(
    kind: str, truth: Truth, methods: Sequence[str], recipes: Mapping[str, Recipe]
) -> Row:
    trimaps = {name: draw_trimap(truth, recipe) for name, recipe in recipes.items()}
    mattes = trivial_mattes(truth, trimaps["paper"].labels)
    mattes["readers' prior alone"] = prior_alone(truth, trimaps["improved"], recipes["improved"])
    picks = {}
    for form, recipe in recipes.items():
        solutions = estimate_alphas(
            truth.patch.image_hu,
            trimaps[form].labels,
            spacing_mm=truth.patch.grid.spacing_mm,
            methods=methods,
            parameters=recipe.parameters,
            readers=truth.patch.readers,
        )
        mattes |= {f"{form} {name}": s.alpha for name, s in solutions.items() if s.converged}
        if set(methods) == set(METHODS):
            picks[form] = picked(truth, trimaps[form], recipe, solutions)
    region = unknown_in_any([trimap.labels for trimap in trimaps.values()])
    power = 2 if kind == "left-out reader" else 1
    errors = {
        name: {
            lesion: float((np.abs(matte[region] - alpha[region]) ** power).mean())
            for lesion, alpha in truth.alphas.items()
        }
        for name, matte in mattes.items()
    }
    return Row(truth.id, truth.patient, truth.diameter_mm, truth.slice_mm, errors, picks)


def draw_trimap(truth: Truth, recipe: Recipe) -> Trimap:
    patch = truth.patch
    return build_trimap(
        patch.readers, patch.valid, spacing_mm=patch.grid.spacing_mm, parameters=recipe.trimap
    )


def prior_alone(truth: Truth, trimap: Trimap, recipe: Recipe) -> Array:
    """Return the readers' prior as a matte of its own, without a solver."""
    patch = truth.patch
    alpha = (trimap.labels == FOREGROUND).astype(np.float64)
    alpha[trimap.labels == UNKNOWN] = reader_prior(
        patch.image_hu,
        trimap.labels,
        patch.readers,
        spacing_mm=patch.grid.spacing_mm,
        settings=recipe.prior,
    )
    return alpha


def picked(
    truth: Truth, trimap: Trimap, recipe: Recipe, solutions: Mapping[str, Solution]
) -> dict[str, str]:
    """Return what is picked: by the rule for each target, and by ranking all eight together."""
    patch = truth.patch
    metrics = candidate_metrics(
        solutions,
        to_intensity(patch.image_hu, recipe.solver.intensity_range_hu),
        trimap.labels == UNKNOWN,
        patch.readers,
        spacing_mm=patch.grid.spacing_mm,
    )
    figures = {one.method: asdict(one) for one in metrics}
    together = min(metrics, key=lambda one: (one.cross_entropy, one.compositing_residual))
    return {
        "density": rank(figures, "density")[0],
        "opacity": rank(figures, "opacity")[0],
        "all eight": together.method,
    }


def summary(kind: str, rows: Sequence[Row]) -> dict[str, Any]:
    """Return means, differences from the paper's closed form with intervals, and size classes.

    Over the nodules for which every row has a matte; the others are counted as unconverged.
    """
    names = list(dict.fromkeys(name for row in rows for name in row.errors))
    everyone = [row for row in rows if len(row.errors) == len(names)]
    unconverged = len(rows) - len(everyone)
    rows = everyone
    baseline = "paper cf" if "paper cf" in names else names[0]
    lesions = list(rows[0].errors[baseline])
    table = {
        name: {lesion: compared(rows, name, baseline, lesion) for lesion in lesions}
        for name in names
    }
    report: dict[str, Any] = {
        "measure": "Brier" if kind == "left-out reader" else "mean absolute error",
        "baseline": baseline,
        "nodules": len({row.nodule for row in rows}),
        "patients": len({row.patient for row in rows}),
        "solves": len(rows),
        "unconverged": unconverged,
        "rows": table,
        "classes": by_class(rows, names),
    }
    if "readers' mean, blurred" in names and "improved cf" in names:
        report["against"] = {
            rival: {lesion: compared(rows, "improved cf", rival, lesion) for lesion in lesions}
            for rival in ("local HU", "readers' mean, blurred")
        }
    if rows[0].picks:
        report["regret"] = regrets(rows)
    return report


def compared(rows: Sequence[Row], name: str, baseline: str, lesion: str) -> dict[str, Any]:
    """Return the mean error, and by how much it differs from the baseline's, in per cent."""
    ours, theirs, patients = (
        np.array(values)
        for values in (
            [row.errors[name][lesion] for row in rows],
            [row.errors[baseline][lesion] for row in rows],
            [row.patient for row in rows],
        )
    )
    percent, low, high = (
        round(100 * share, 1) for share in relative_difference(ours, theirs, patients, seed=SEED)
    )
    return {"error": round(float(ours.mean()), 4), "percent": percent, "interval": [low, high]}


def by_class(rows: Sequence[Row], names: Sequence[str]) -> dict[str, Any]:
    """Return mean errors by size and by slice distance."""
    sizes = {
        (f"{low:g} to {high:g} mm" if high < np.inf else f"{low:g} mm and more"): [
            row for row in rows if low <= row.diameter_mm < high
        ]
        for low, high in pairwise(SIZES_MM)
    }
    thick = [row for row in rows if row.slice_mm >= THICK_MM]
    thin = [row for row in rows if row.slice_mm < THICK_MM]
    classes = sizes | {f"slices below {THICK_MM} mm": thin, f"slices from {THICK_MM} mm": thick}
    return {
        label: {"solves": len(members)}
        | {
            name: {
                lesion: round(float(np.mean([row.errors[name][lesion] for row in members])), 4)
                for lesion in members[0].errors[name]
            }
            for name in names
        }
        for label, members in classes.items()
        if members
    }


def regrets(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Return mean errors against the density truth: of picks, of the best, of each constant."""
    lesion = "density" if "density" in next(iter(rows[0].errors.values())) else None
    if lesion is None:
        return {}
    table = {}
    for form in rows[0].picks:
        four = [f"{form} {name}+" for name in PLAIN]
        constants = {
            name: float(np.mean([row.errors[name][lesion] for row in rows])) for name in four
        }
        table[form] = {
            "pick for density": _mean_of_picks(rows, form, "density", lesion),
            "ranking all eight": _mean_of_picks(rows, form, "all eight", lesion),
            "best of four": float(
                np.mean([min(row.errors[name][lesion] for name in four) for row in rows])
            ),
            "best constant": min(constants.values()),
        } | constants
    return {
        form: {name: round(value, 4) for name, value in values.items()}
        for form, values in table.items()
    }


def _mean_of_picks(rows: Sequence[Row], form: str, rule: str, lesion: str) -> float:
    return float(np.mean([row.errors[f"{form} {row.picks[form][rule]}"][lesion] for row in rows]))


def measure_public(
    folder: Path, methods: Sequence[str], recipes: Mapping[str, Recipe]
) -> dict[str, Any]:
    """Measure both forms on photographs: sum of absolute differences over unknown pixels / 1000."""
    images = {}
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as stored:
            gray, alpha, labels = (stored[name] for name in ("gray", "alpha", "trimap"))
        volume, trimap = (
            np.repeat(plane[None], THICK_SLICES, axis=0) for plane in (gray * 1400 - 1000, labels)
        )
        region = labels == UNKNOWN
        images[path.stem] = {
            f"{form} {name}": round(
                float(np.abs(solution.alpha[THICK_SLICES // 2] - alpha)[region].sum()) / 1000, 3
            )
            for form, recipe in recipes.items()
            for name, solution in estimate_alphas(
                volume, trimap, spacing_mm=1.0, methods=methods, parameters=unlimited(recipe)
            ).items()
        }
    return {"measure": "sum of absolute differences / 1000", "images": images}


def unlimited(recipe: Recipe) -> Parameters:
    """Return parameters without a limit to overshoot: sharp hair overshoots by more than 0.5."""
    parameters = recipe.parameters
    solver = replace(parameters.solver, range_tolerance=math.inf)
    return replace(parameters, solver=solver)


def as_text(report: Mapping[str, Any]) -> str:
    lesions = list(next(iter(report["rows"].values())))
    lines = [
        f"{report['nodules']} nodules, {report['solves']} solves, {report['measure']}, "
        f"{report['unconverged']} left out: a matte did not converge"
    ]
    for name, cells in report["rows"].items():
        parts = [
            f"{cells[lesion]['error']:.4f} {cells[lesion]['percent']:+6.1f} % "
            f"[{cells[lesion]['interval'][0]:+.1f}, {cells[lesion]['interval'][1]:+.1f}]"
            for lesion in lesions
        ]
        lines.append(f"  {name:<24}" + "   ".join(parts))
    for rival, cells in report.get("against", {}).items():
        lines.append(f"  improved cf against {rival}: {cells}")
    if "regret" in report:
        lines.append(f"  regret: {report['regret']}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

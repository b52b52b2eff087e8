"""Choice of the values of the improved form: each varied alone, errors against truth.

    python -m benchmarks.search [--method cf]

Two sets of simulated nodules: a *development* set, on which values are compared, and a
*confirmation* set of other nodules with other noise, which must agree before a value follows.
Twelve each, four of every kind. Errors are mean absolute errors over the unknown region, averaged
over kinds: `alpha` is the plain form's against the known matte, `density` the + form's against the
known matte times the pure lesion's radiodensity target. Trivial rows: the readers' mean, HU scaled
linearly from lung to tissue. `trimmed` enlarges what is known before IF, as its paper does: an
unknown voxel within 1 mm of a known one, alike in intensity, takes that one's label.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from benchmarks.measure import one_thread, save, table
from benchmarks.nodules import STAND_INS, Ready, make_ready, native_patch, pure_lesion_hu, simulated
from benchmarks.synthetic_errors import density
from matting import Parameters, estimate_alphas
from matting.geometry.trimap import BACKGROUND, FOREGROUND, UNKNOWN
from matting.phantoms import LUNG_HU, TISSUE_HU
from matting.solvers.solve_domain import to_intensity

SETS = {"development": (1, 3), "confirmation": (0, 4)}
"""Which nodules of each kind (every other one, from the first or the second on), and the
simulation's seed."""
STRAIGHT = {"intensity_curve": 0.0}
"""Intensities as the paper takes them; the one turn here that concerns all methods."""
NO_PULLS: dict[str, Any] = {"ramp_strength": 0.0, "rim_strength": 0.0}
"""No pulls by place."""
PAPER_FORM = {
    **STRAIGHT,
    "epsilon": 1e-7,
    "mean_reach_mm": 0.0,
    "trusted_variance": None,
    **NO_PULLS,
}
VERSION_3 = {
    "cf": {**STRAIGHT, "epsilon": 3e-4, "trusted_variance": 1e-3, **NO_PULLS},
    "lb": {**STRAIGHT, "ridge": 1e-3, "trusted_variance": 1e-3, **NO_PULLS},
}
BEFORE = {
    **STRAIGHT,
    "windows": "centred",
    "mean_reach_mm": 0.0,
    "trusted_variance": None,
    **NO_PULLS,
}
LOCAL = {"local_mean_reach_mm": 0.0, "local_trusted_variance": None, "local_epsilon": 1e-6}
IF_BEFORE = {**LOCAL, "local_strength": 1 / 27, "intra_strength": 0.01, **NO_PULLS}
TURNS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "cf": (
        "closed_form",
        [PAPER_FORM, VERSION_3["cf"]]
        + [{"intensity_curve": value} for value in (0.0, 0.5, 2.0)]
        + [{"epsilon": value} for value in (1e-7, 3e-4, 3e-3, 1e-2)]
        + [{"mean_reach_mm": value} for value in (0.0, 1.0, 2.0, 3.0)]
        + [{"trusted_variance": value} for value in (None, 1e-3, 3e-4, 3e-5)]
        + [NO_PULLS]
        + [{"ramp_strength": value} for value in (0.0, 0.03)]
        + [{"rim_strength": value} for value in (0.0, 0.1, 2.0)]
        + [{"rim_mm": value} for value in (1.0, 2.0)],
    ),
    "lb": (
        "learning_based",
        [BEFORE, VERSION_3["lb"]]
        + [{"intensity_curve": value} for value in (0.0, 0.5, 2.0)]
        + [{"ridge": value} for value in (1e-3, 6e-3, 5e-2)]
        + [{"mean_reach_mm": value} for value in (0.0, 1.5, 4.0)]
        + [{"trusted_variance": value} for value in (None, 1e-3, 3e-5)]
        + [NO_PULLS]
        + [{"windows": "centred"}]
        + [{"kernel": "gaussian", "kernel_width": value} for value in (0.3, 1.0)],
    ),
    "knn": (
        "knn",
        [{"intensity_curve": value} for value in (0.0, 0.5, 2.0)]
        + [{"neighbours": value} for value in ((5, 2), (20, 2), (10, 5))]
        + [
            {"position_weights": value}
            for value in ((1.0, 1.0), (3.0, 0.1), (3.0, 3.0), (6.0, 1.0), (6.0, 3.0))
        ]
        + [{"intensity_weight": value} for value in (0.5, 2.0)],
    ),
    "if": (
        "information_flow",
        [{**STRAIGHT, **IF_BEFORE}]
        + [{"intensity_curve": value} for value in (0.0, 0.5, 2.0)]
        + [{"mixture_neighbours": value} for value in (10, 30)]
        + [{"mixture_position_weight": value} for value in (0.3, 3.0)]
        + [{"mixture_ridge": value} for value in (1e-4, 1e-2)]
        + [{"known_neighbours": value} for value in (3, 14)]
        + [{"known_position_weight": value} for value in (1.0, 30.0)]
        + [{"known_strength": value} for value in (0.0, 0.2)]
        + [{"intra_strength": value} for value in (0.0, 0.01)]
        + [{"local_strength": value} for value in (1 / 27, 0.3, 3.0)]
        + [NO_PULLS]
        + [LOCAL],
    ),
}
TRIMMED = "trimmed"
TRIM_MM, TRIM_INTENSITY = 1.0, 9.0 / 255.0
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Known:
    """A simulated nodule with what is true of its unknown voxels."""

    kind: str
    nodule: Ready
    truths: dict[str, Array]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--method", choices=TURNS, help="this method only; the result is printed, not kept"
    )
    arguments = parser.parse_args()
    one_thread()
    sets = {name: list(simulate(*which)) for name, which in SETS.items()}
    report: dict[str, object] = {}
    for method in [arguments.method] if arguments.method else TURNS:
        report[method] = rows = search(method, sets)
        show(method, rows)
    report["trivial"] = trivial_rows(sets)
    show("trivial", report["trivial"])
    if not arguments.method:
        save("search", {"sets": {name: ids(known) for name, known in sets.items()}, "rows": report})


def ids(known: list[Known]) -> list[str]:
    return [one.nodule.id for one in known]


def simulate(first: int, seed: int) -> Iterator[Known]:
    for kind, names in STAND_INS.items():
        for short in names.split()[first::2]:
            slab, placed, spacing_mm = simulated(f"LIDC-IDRI-{short}", seed)
            native = native_patch(slab, placed, spacing_mm)
            nodule = make_ready(placed.marked.id, native)
            alpha = nodule.patch.known_alpha[nodule.unknown].astype(np.float64)
            pure_hu = pure_lesion_hu(native, placed)[nodule.unknown]
            yield Known(kind, nodule, {"alpha": alpha, "density": alpha * density(pure_hu)})


def search(method: str, sets: dict[str, list[Known]]) -> dict[str, dict[str, float]]:
    """Return the errors of a method with its defaults and with each turn, on both sets."""
    section, turns = TURNS[method]
    named = {"default": {}} | {
        ", ".join(f"{k} {v}" for k, v in turn.items()): turn for turn in turns
    }
    rows = {}
    for name, turn in track(named.items(), method):
        rows[name] = errors(method, sets, turned(section, turn))
    if method == "if":
        rows[TRIMMED] = errors(method, sets, Parameters.improved(), trimmed=True)
    return rows


def turned(section: str, turn: dict[str, Any]) -> Parameters:
    """Return the improved form with some of a section, or the curve of intensities, turned."""
    improved = Parameters.improved()
    own = {name: value for name, value in turn.items() if name != "intensity_curve"}
    curve = turn.get("intensity_curve", improved.solver.intensity_curve)
    return replace(
        improved,
        solver=replace(improved.solver, intensity_curve=curve),
        **{section: replace(getattr(improved, section), **own)},
    )


def errors(
    method: str, sets: dict[str, list[Known]], parameters: Parameters, *, trimmed: bool = False
) -> dict[str, float]:
    row = {}
    for name, nodules in sets.items():
        found: dict[tuple[str, str], list[float]] = {}
        for known in nodules:
            nodule = known.nodule
            labels = trim(nodule) if trimmed else nodule.labels
            solved = estimate_alphas(
                nodule.image_hu,
                labels,
                spacing_mm=nodule.spacing_mm,
                methods=(method, method + "+"),
                parameters=parameters,
            )
            for (truth, values), solution in zip(
                known.truths.items(), solved.values(), strict=True
            ):
                error = np.abs(solution.alpha[nodule.unknown] - values).mean()
                found.setdefault((truth, known.kind), []).append(float(error))
        row |= over_kinds(name, found)
    return row


def over_kinds(name: str, found: dict[tuple[str, str], list[float]]) -> dict[str, float]:
    means = {key: float(np.mean(values)) for key, values in found.items()}
    return {
        f"{name} {truth}": round(float(np.mean([means[truth, kind] for kind in STAND_INS])), 4)
        for truth in ("alpha", "density")
    }


def trivial_rows(sets: dict[str, list[Known]]) -> dict[str, dict[str, float]]:
    rows: dict[str, dict[str, float]] = {"readers' mean": {}, "HU, lung to tissue": {}}
    for name, nodules in sets.items():
        found: dict[str, dict[tuple[str, str], list[float]]] = {row: {} for row in rows}
        for known in nodules:
            nodule = known.nodule
            mattes = {
                "readers' mean": nodule.patch.readers[:, nodule.unknown].mean(axis=0),
                "HU, lung to tissue": to_intensity(
                    nodule.image_hu[nodule.unknown], (LUNG_HU, TISSUE_HU)
                ),
            }
            for (row, matte), (truth, values) in product(mattes.items(), known.truths.items()):
                found[row].setdefault((truth, known.kind), []).append(
                    float(np.abs(matte - values).mean())
                )
        for row, errors_of in found.items():
            rows[row] |= over_kinds(name, errors_of)
    return rows


def trim(nodule: Ready) -> NDArray[np.uint8]:
    """Assign unknown voxels the label of a near and similar known voxel."""
    intensity = to_intensity(nodule.image_hu, Parameters().solver.intensity_range_hu)
    labels = nodule.labels.copy()
    reach = [int(TRIM_MM / spacing) for spacing in nodule.spacing_mm]
    for offset in product(*(range(-far, far + 1) for far in reach)):
        away_mm = float(
            np.sqrt(sum((o * s) ** 2 for o, s in zip(offset, nodule.spacing_mm, strict=True)))
        )
        if not 0 < away_mm <= TRIM_MM:
            continue
        here = tuple(
            slice(max(0, -o), min(n, n - o)) for o, n in zip(offset, labels.shape, strict=True)
        )
        there = tuple(
            slice(max(0, o), min(n, n + o)) for o, n in zip(offset, labels.shape, strict=True)
        )
        alike = np.abs(intensity[here] - intensity[there]) <= TRIM_INTENSITY * (
            1 - away_mm / (2 * TRIM_MM)
        )
        for label in (BACKGROUND, FOREGROUND):
            taken = (nodule.labels[here] == UNKNOWN) & (nodule.labels[there] == label) & alike
            labels[here][taken] = label
    return labels


def show(title: str, rows: dict[str, dict[str, float]]) -> None:
    columns = list(next(iter(rows.values())))
    print(
        f"\n{title}\n"
        + table(("", *columns), [(name, *row.values()) for name, row in rows.items()]),
        flush=True,
    )


if __name__ == "__main__":
    main()

"""Beside PyMatting, the library of 2D matting, slice by slice on the same resampled nodules.

    python -m benchmarks.peers [--nodules 10] [--synthetic 12]

PyMatting gets each axial slice twice: `whole`, and `cut` to the box that our methods look at (10 mm
around the unknown voxels). Its own defaults, its own estimate_alpha_*; slices without foreground or
background, or where its solver gives up, count as unsolved and cost nothing; `share` is the part of
the unknown voxels in the slices that it solved. Ours solves all slices, so the last ratio sets
seconds against voxels solved. CPU seconds on one thread, medians, compiled before. Truth errors are
mean |alpha - known alpha| over the unknown voxels of the slices that PyMatting solves by all three,
on synthetic nodules that no default was chosen on.
"""

import math
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import command_line, cpu_seconds, one_thread, save, table
from benchmarks.nodules import (
    REFERENCE,
    UNSEEN_STAND_INS,
    Ready,
    known_alpha,
    nodules,
    real_folder,
    reference_nodule,
    stand_ins,
)
from matting import Parameters, estimate_alphas
from matting.geometry.box import box_around
from matting.geometry.trimap import UNKNOWN
from matting.solvers.solve_domain import to_intensity

SHARED = ("cf", "knn", "lb")
"""The methods that both have."""
UNSEEN_SEED = 5
Array = NDArray[np.float64]
Estimator = Callable[[Array, Array], Array]


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--nodules", type=int, default=10)
    parser.add_argument("--synthetic", type=int, default=12)
    arguments = parser.parse_args()
    one_thread()
    estimators = peer_estimators()
    warm_up(estimators)
    times = [time_nodule(nodule, estimators) for nodule in chosen(arguments.nodules)]
    print(table(tuple(times[0]), [tuple(row.values()) for row in times]))
    ratios = [key for key in times[0] if key.endswith("ratio")]
    summary = {
        key: statistics.median(row[key] for row in times if not math.isnan(row[key]))
        for key in ratios
    }
    print(
        "median ratios, theirs / ours:",
        {key: round(value, 2) for key, value in summary.items()},
        end="\n\n",
    )
    unseen = stand_ins(arguments.synthetic, UNSEEN_SEED, UNSEEN_STAND_INS)
    errors = [truth_errors(nodule, estimators) for nodule in unseen]
    means = mean_errors(errors)
    header = ("truth error", "3D", "2D", "2D / 3D", "median of each")
    print(table(header, [(name, *row.values()) for name, row in means.items()]))
    report = {"times": times, "median_ratios": summary, "truth_errors": means, "stand_ins": errors}
    save("peers", report)


def peer_estimators() -> dict[str, Estimator]:
    from pymatting import estimate_alpha_cf, estimate_alpha_knn, estimate_alpha_lbdm

    return {"cf": estimate_alpha_cf, "knn": estimate_alpha_knn, "lb": estimate_alpha_lbdm}


def warm_up(estimators: dict[str, Estimator]) -> None:
    nodule = next(stand_ins(1))
    estimate_alphas(nodule.image_hu, nodule.labels, spacing_mm=nodule.spacing_mm, methods=SHARED)
    for estimator in estimators.values():
        solve_slices(nodule, estimator, cut=True)


def chosen(count: int) -> Iterator[Ready]:
    """Return nodules of mixed size, the reference among them where there are real ones."""
    if real_folder():
        yield reference_nodule()
    yield from (nodule for nodule in nodules(count - bool(real_folder())) if nodule.id != REFERENCE)


def slices(nodule: Ready, *, cut: bool) -> Iterator[tuple[int, tuple[slice, slice], Array, Array]]:
    """Return the slices with unknown voxels as PyMatting takes them: RGB 0..1, trimap 0, 1/2, 1."""
    solver = Parameters().solver
    z_reach, y_reach, x_reach = (
        int(solver.search_margin_mm / spacing) for spacing in nodule.spacing_mm
    )
    rows = columns = slice(None)
    if cut:
        _, rows, columns = box_around(nodule.unknown, (z_reach, y_reach, x_reach))
    for z in np.flatnonzero(nodule.unknown.any(axis=(1, 2))):
        labels = nodule.labels[z, rows, columns]
        grey = to_intensity(nodule.image_hu[z, rows, columns], solver.intensity_range_hu)
        trimap = np.where(labels == UNKNOWN, 0.5, labels / 255.0)
        yield int(z), (rows, columns), np.repeat(grey[:, :, None], 3, axis=2), trimap


def solve_slices(nodule: Ready, estimator: Estimator, *, cut: bool) -> dict[int, Array]:
    """Solve what can be solved; return whole slices of alpha by slice number."""
    solved = {}
    for z, place, image, trimap in slices(nodule, cut=cut):
        try:
            alpha = estimator(image, trimap)
        except ValueError:
            continue
        solved[z] = np.zeros(nodule.labels.shape[1:])
        solved[z][place] = alpha
    return solved


def time_nodule(nodule: Ready, estimators: dict[str, Estimator]) -> dict[str, Any]:
    ours, theirs = {}, {}
    for name, methods in (("cf", ("cf",)), ("three", SHARED)):
        ours[name], _ = cpu_seconds(
            partial(
                estimate_alphas,
                nodule.image_hu,
                nodule.labels,
                spacing_mm=nodule.spacing_mm,
                methods=methods,
            )
        )
    solved = set(np.flatnonzero(nodule.unknown.any(axis=(1, 2))).tolist())
    for cut in (True, False):
        for name in SHARED:
            theirs[name, cut], mattes = cpu_seconds(
                partial(solve_slices, nodule, estimators[name], cut=cut)
            )
            solved &= set(mattes)
    total = int(nodule.unknown.any(axis=(1, 2)).sum())
    share = float(nodule.unknown[list(solved)].sum() / nodule.unknown_voxels)
    return {
        "id": nodule.id,
        "unknown": nodule.unknown_voxels,
        "slices": total,
        "unsolved": total - len(solved),
        "share": round(share, 3),
        "three 3D s": round(ours["three"], 4),
        "three 2D cut s": round(sum(theirs[name, True] for name in SHARED), 4),
        "cut ratio": round(sum(theirs[name, True] for name in SHARED) / ours["three"], 3),
        "whole ratio": round(sum(theirs[name, False] for name in SHARED) / ours["three"], 3),
        "cf cut ratio": round(theirs["cf", True] / ours["cf"], 3),
        "cf whole ratio": round(theirs["cf", False] / ours["cf"], 3),
        "cf cut, a voxel, ratio": round(theirs["cf", True] / ours["cf"] / share, 3)
        if share
        else math.nan,
    }


def truth_errors(nodule: Ready, estimators: dict[str, Estimator]) -> dict[str, Any]:
    solutions = estimate_alphas(
        nodule.image_hu, nodule.labels, spacing_mm=nodule.spacing_mm, methods=SHARED
    )
    flat = {name: solve_slices(nodule, estimators[name], cut=False) for name in SHARED}
    common = sorted(set.intersection(*(set(solved) for solved in flat.values())))
    where, truth = nodule.unknown[common], known_alpha(nodule.patch)[common]
    errors = {
        name: {
            "3D": float(np.abs(solutions[name].alpha[common] - truth)[where].mean()),
            "2D": float(np.abs(np.stack([flat[name][z] for z in common]) - truth)[where].mean()),
        }
        for name in SHARED
    }
    return {"id": nodule.id, "slices": len(common), "errors": errors}


def mean_errors(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    means = {}
    for name in SHARED:
        three, two = (
            statistics.fmean(row["errors"][name][way] for row in rows) for way in ("3D", "2D")
        )
        each = statistics.median(
            row["errors"][name]["2D"] / row["errors"][name]["3D"] for row in rows
        )
        ratios = {"ratio": round(two / three, 3), "median": round(each, 3)}
        means[name] = {"3D": round(three, 4), "2D": round(two, 4), **ratios}
    return means


if __name__ == "__main__":
    main()

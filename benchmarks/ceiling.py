"""How far any method could come on a truth: gradient boosting that learns the truth itself.

    python -m benchmarks.ceiling [--count 120]

For each unknown voxel a regression sees what the methods see, and their mattes besides: the masks
of the readers (mean, blurred by three widths, signed distances), HU (as it is, smoothed by three
widths, gradient), the mattes of both forms and the trivial ones, size and slice distance. It is
fitted to the truth, by the measure of the truth, on nodules of the patients of one half ("choose")
and compared on the other half ("confirm"). It is no method, since no truth is known where one is
needed; it shows how much of an error is left that these inputs could explain. A second regression
sees the readers only. Mixtures of the improved form with the best of the trivial mattes by density
show what one truth gains and another loses where density counts more. Needs real nodules
(benchmarks/nodules.py); half an hour.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track
from scipy import ndimage
from sklearn.ensemble import HistGradientBoostingRegressor

from benchmarks.measure import command_line, one_thread, save
from benchmarks.nodules import real_folder
from benchmarks.truth import FORMS, SEED, draw_trimap, prior_alone
from benchmarks.truths import Truth, trivial_mattes, truths, unknown_in_any
from matting import estimate_alphas
from matting.errors import InputError
from matting.measures.probability import relative_difference
from storage.recipe import load_recipe

LESIONS = {"left-out reader": "reader", "slices 2.5 mm": "hu", "pixels x2": "hu"}
"""What is learned, by kind of truth."""
WIDTHS_MM = (0.5, 1.0, 2.0)
METHODS = ("cf", "if")
RIVALS = ("improved cf", "readers' mean, blurred", "local HU")
MIXTURES = {f"{1 - share:.1f} improved cf + {share} local HU": share for share in (0.1, 0.2, 0.4)}
VOXELS = 6000
"""Of one solve, to learn from: neighbours tell little more."""
EVERYTHING, READERS_ONLY = "learned from everything", "learned from the readers"


@dataclass(frozen=True)
class Solved:
    """The unknown voxels of one truth."""

    patient: str
    readers: dict[str, NDArray[np.float32]]
    """What a regression may know of the readers, by name: (voxels,)."""
    others: dict[str, NDArray[np.float32]]
    """What else it may know."""
    alpha: NDArray[np.float32]
    """The truth: (voxels,) in 0..1."""

    def inputs(self, name: str) -> NDArray[np.float32]:
        """Return the inputs of a regression: (voxels, inputs)."""
        seen = self.readers if name == READERS_ONLY else self.readers | self.others
        return np.stack(list(seen.values()), axis=1)


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--count", type=int, default=120, help="nodules of each truth and half")
    arguments = parser.parse_args()
    one_thread()
    report: dict[str, dict[str, Any]] = {}
    for kind in LESIONS:
        learned = list(solved(kind, "choose", arguments.count))
        tested = list(solved(kind, "confirm", arguments.count))
        report[kind] = compared(kind, learned, tested)
        print(kind, *(f"  {row}" for row in report[kind]["rows"].items()), sep="\n", flush=True)
        save("ceiling", {"truths": report})


def solved(kind: str, patients: str, count: int) -> Iterator[Solved]:
    """Solve the nodules of one truth; those that are refused are left out.

    A matte that did not converge is kept: here it is an input like any other, and a row to compare.
    """
    found = truths(kind, real_folder(), patients, count)
    for truth in track(found, f"{kind}, {patients}", total=None):
        try:
            yield solve_one(truth, LESIONS[kind])
        except InputError:
            continue


def solve_one(truth: Truth, lesion: str) -> Solved:
    patch, spacing_mm = truth.patch, truth.patch.grid.spacing_mm
    recipes = {form: load_recipe(form) for form in FORMS}
    trimaps = {form: draw_trimap(truth, recipe) for form, recipe in recipes.items()}
    region = unknown_in_any([trimap.labels for trimap in trimaps.values()])
    mattes = trivial_mattes(truth, trimaps["paper"].labels)
    mattes["prior"] = prior_alone(truth, trimaps["improved"], recipes["improved"])
    for form, recipe in recipes.items():
        solutions = estimate_alphas(
            patch.image_hu,
            trimaps[form].labels,
            spacing_mm=spacing_mm,
            methods=METHODS,
            parameters=recipe.parameters,
            readers=patch.readers,
        )
        mattes |= {f"{form} {name}": solution.alpha for name, solution in solutions.items()}
    readers = of_readers(patch.readers, spacing_mm)
    readers |= {name: mattes.pop(name) for name in ("readers' mean, blurred", "distance ramp")}
    hu = patch.image_hu.astype(np.float32)
    smooth = {f"HU, {w} mm": blurred(hu, w, spacing_mm) for w in WIDTHS_MM}
    edge = ndimage.gaussian_gradient_magnitude(hu, [1 / s for s in spacing_mm])
    others = mattes | {"HU": hu, **smooth, "edge": edge}
    others["lesion HU"] = np.full(hu.shape, np.median(hu[patch.readers.any(axis=0)]))
    readers["diameter"] = np.full(hu.shape, truth.diameter_mm)
    readers["slices"] = np.full(hu.shape, truth.slice_mm)
    return Solved(
        truth.patient,
        {name: values[region].astype(np.float32) for name, values in readers.items()},
        {name: values[region].astype(np.float32) for name, values in others.items()},
        truth.alphas[lesion][region].astype(np.float32),
    )


def of_readers(
    readers: NDArray[np.bool_], spacing_mm: Sequence[float]
) -> dict[str, NDArray[np.floating]]:
    """Return what the masks say of each voxel, whichever reader is named first."""
    mean = readers.mean(axis=0, dtype=np.float64)
    signed_mm = np.sort(
        [
            ndimage.distance_transform_edt(mask, spacing_mm)
            - ndimage.distance_transform_edt(~mask, spacing_mm)
            for mask in readers
        ],
        axis=0,
    )
    volumes = readers.sum(axis=(1, 2, 3))
    spread = np.full(mean.shape, volumes.std() / volumes.mean())
    agreement = np.full(mean.shape, readers.all(axis=0).sum() / readers.any(axis=0).sum())
    return (
        {"mean": mean, "spread": spread, "agreement": agreement}
        | {f"mean, {w} mm": blurred(mean, w, spacing_mm) for w in WIDTHS_MM}
        | {f"distance {n}": distance for n, distance in enumerate(signed_mm)}
    )


def blurred(
    values: NDArray[np.floating], width_mm: float, spacing_mm: Sequence[float]
) -> NDArray[np.floating]:
    return ndimage.gaussian_filter(values, [width_mm / s for s in spacing_mm])


def compared(kind: str, learned: Sequence[Solved], tested: Sequence[Solved]) -> dict[str, Any]:
    """Return errors on the tested half, and how they differ from those of each rival."""
    is_brier = kind == "left-out reader"

    def errors(name: str) -> NDArray[np.float64]:
        if name in (EVERYTHING, READERS_ONLY):
            model = fitted(learned, name, "squared_error" if is_brier else "absolute_error")
            mattes = [np.clip(model.predict(one.inputs(name)), 0, 1) for one in tested]
        elif name in MIXTURES:
            share = MIXTURES[name]
            pairs_of = [(one.others["improved cf"], one.others["local HU"]) for one in tested]
            mattes = [(1 - share) * ours + share * theirs for ours, theirs in pairs_of]
        else:
            mattes = [(one.readers | one.others)[name] for one in tested]
        power = 2 if is_brier else 1
        pairs = zip(mattes, tested, strict=True)
        return np.array([(np.abs(matte - one.alpha) ** power).mean() for matte, one in pairs])

    patients = [one.patient for one in tested]
    found = {name: errors(name) for name in (*RIVALS, *MIXTURES, READERS_ONLY, EVERYTHING)}
    rows = {}
    for name, ours in found.items():
        shares = {
            rival: relative_difference(ours, found[rival], patients, seed=SEED)
            for rival in RIVALS
            if rival != name
        }
        against = {rival: [round(100 * s, 1) for s in share] for rival, share in shares.items()}
        rows[name] = {"error": round(float(ours.mean()), 4), "against": against}
    return {"solves": len(tested), "patients": len(set(patients)), "rows": rows}


def fitted(learned: Sequence[Solved], name: str, loss: str) -> HistGradientBoostingRegressor:
    """Fit a regression; each solve counts the same, as in the measure."""
    generator = np.random.default_rng(SEED)
    inputs, alphas, weights = [], [], []
    for one in learned:
        chosen = generator.permutation(len(one.alpha))[:VOXELS]
        inputs.append(one.inputs(name)[chosen])
        alphas.append(one.alpha[chosen])
        weights.append(np.full(len(chosen), 1 / len(chosen)))
    model = HistGradientBoostingRegressor(
        loss=loss,
        max_iter=150,
        learning_rate=0.06,
        max_leaf_nodes=15,
        min_samples_leaf=2000,
        l2_regularization=1.0,
        random_state=SEED,
    )
    return model.fit(
        np.concatenate(inputs), np.concatenate(alphas), sample_weight=np.concatenate(weights)
    )


if __name__ == "__main__":
    main()

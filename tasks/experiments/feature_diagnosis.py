"""Classification of malignancy by features of each input alone, in minutes on a CPU.

The inputs and nodules are those of Figure 6. `logistic` and `boosting` learn from the features of
one input; with ` + volume` they also get the nodule's volume, so that size cannot make one input
better than another, and with ` + HU` the features of the HU within the readers' union, so that
density cannot. Differences between families of inputs are paired, with patients as clusters.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from matting.diagnosis.auroc import auroc_difference
from matting.diagnosis.classifier import fold_patients
from matting.diagnosis.feature_classifier import FeatureClassifier, score_by_features
from matting.diagnosis.features import cube_features
from matting.estimate import METHODS
from matting.parameters import DiagnosisSettings
from matting.targets import target_of
from storage.releases.release import Release
from storage.results.diagnoses import (
    DiagnosisDifference,
    DiagnosisRow,
    NoduleScore,
    RatedNodule,
    find_run_scores,
    read_cubes,
    write_run_scores,
)
from storage.store import Store
from tasks.experiments.diagnosis import (
    HU_LINEAR,
    INPUTS,
    MASKED_HU,
    MASKS,
    DiagnosisProgress,
    prepare,
    rows_of,
)

SEEDS = (1, 2, 3, 4, 5)
"""Each decides a partition of the patients into folds, and the draws of boosting."""
EXTRAS = ("", " + volume", " + HU")
"""What is given to a classifier beside the features of its input."""
CLASSIFIERS = tuple(f"{kind}{extra}" for kind in get_args(FeatureClassifier) for extra in EXTRAS)
APART = ", raters apart"
"""Follows a classifier's name where the readers who outline are not those who rate."""
FAMILIES = {
    "optimised": tuple(name.upper() for name in METHODS if target_of(name) == "density"),
    "plain": tuple(name.upper() for name in METHODS if target_of(name) == "opacity"),
    "masks": MASKS,
    "image": ("Image",),
    "masks x HU": MASKED_HU,
    "HU linear": (HU_LINEAR,),
}
"""Inputs whose areas are averaged."""
DIFFERENCES = (
    ("optimised", "masks"),
    ("optimised", "plain"),
    ("plain", "masks"),
    ("masks", "image"),
    ("optimised", "masks x HU"),
    ("masks x HU", "masks"),
)
"""Families that are compared: the paper's order, then the control for density."""
Features = NDArray[np.float64]
Runs = list[tuple[NoduleScore, ...]]


def diagnose_by_features(
    release: Release,
    settings: DiagnosisSettings,
    after: Callable[[DiagnosisProgress], None] = lambda _: None,
    *,
    raters_apart: bool = False,
) -> None:
    """Train and test the classifiers on each input; stored runs are not repeated.

    Args:
        release: A published release.
        settings: Side and spacing of the cubes, and folds.
        after: Called after every nodule read and every run.
        raters_apart: Half of the readers outline, the others rate; see
            `tasks.experiments.diagnosis`.

    Raises:
        InputError: The release has no ratings or too few nodules of a kind.
    """
    store = release.store
    prefix, nodules = prepare(release, settings, after, raters_apart=raters_apart)
    malignant = np.array([nodule.malignant for nodule in nodules])
    volume = np.log1p([[nodule.volume_mm3] for nodule in nodules])
    patients = [nodule.patient for nodule in nodules]
    folds = {seed: fold_patients(patients, malignant, settings.folds, seed) for seed in SEEDS}
    density: Features | None = None
    for place, name in enumerate(INPUTS):
        missing = [
            (classifier, seed)
            for classifier in CLASSIFIERS
            for seed in SEEDS
            if find_run_scores(store, prefix, classifier, name, seed) is None
        ]
        if missing:
            own = _features(store, prefix, name, settings)
            if density is None:
                density = _features(store, prefix, MASKED_HU[1], settings)
            given = {
                "": own,
                " + volume": np.hstack([own, volume]),
                " + HU": np.hstack([own, density]),
            }
        for classifier, seed in missing:
            kind, extra = _parse(classifier)
            scores = np.empty(len(nodules))
            for fold in range(settings.folds):
                test = folds[seed] == fold
                learned = given[extra][~test], malignant[~test]
                scores[test] = score_by_features(*learned, given[extra][test], kind, seed)
            run = tuple(
                NoduleScore(nodule.nodule, int(fold), float(score))
                for nodule, fold, score in zip(nodules, folds[seed], scores, strict=True)
            )
            write_run_scores(store, prefix, classifier, name, seed, run)
        after(DiagnosisProgress(f"features of {name}", place + 1, len(INPUTS)))


def feature_rows(
    store: Store, prefix: str, nodules: tuple[RatedNodule, ...]
) -> tuple[list[DiagnosisRow], list[DiagnosisDifference]]:
    """Return the rows of the runs that are stored, and the differences between families.

    Args:
        store: Where the runs are.
        prefix: Of the diagnosis.
        nodules: In the order of the scores.
    """
    rows: list[DiagnosisRow] = []
    differences: list[DiagnosisDifference] = []
    for classifier in CLASSIFIERS:
        runs: dict[str, Runs] = {}
        for name in INPUTS:
            found = [find_run_scores(store, prefix, classifier, name, seed) for seed in SEEDS]
            complete = [run for run in found if run is not None]
            if len(complete) == len(SEEDS):
                runs[name] = complete
                rows += rows_of(classifier, name, SEEDS, nodules, complete)
        if len(runs) == len(INPUTS):
            differences += _differences(classifier, runs, nodules)
    return rows, differences


def _differences(
    classifier: str, runs: dict[str, Runs], nodules: Sequence[RatedNodule]
) -> Iterator[DiagnosisDifference]:
    malignant = [nodule.malignant for nodule in nodules]
    patients = [nodule.patient for nodule in nodules]
    members = {family: [runs[name] for name in names] for family, names in FAMILIES.items()}
    for pair in DIFFERENCES:
        # Both get as many runs, and the runs of one seed have the same folds.
        most = max(len(members[family]) for family in pair)
        first, second = (
            [run for own in members[f] * (most // len(members[f])) for run in own] for f in pair
        )
        folds = [[one.fold for one in run] for run in first]
        ours, theirs = ([[one.score for one in run] for run in own] for own in (first, second))
        found = auroc_difference(ours, theirs, malignant, patients, folds)
        yield DiagnosisDifference(classifier, *pair, *found, len(nodules))


def _features(store: Store, prefix: str, name: str, settings: DiagnosisSettings) -> Features:
    """Return the features of every nodule's cube, (n, features)."""
    cubes = read_cubes(store, prefix, name)
    return np.stack([cube_features(cube, settings.spacing_mm) for cube in cubes])


def _parse(classifier: str) -> tuple[FeatureClassifier, str]:
    kind: FeatureClassifier = "logistic" if classifier.startswith("logistic") else "boosting"
    return kind, classifier.removeprefix(kind)

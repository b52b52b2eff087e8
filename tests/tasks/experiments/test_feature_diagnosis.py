"""Figure 6 by features: the same nodules and folds for every input, runs that are kept."""

import numpy as np
import pytest

import tasks.experiments.feature_diagnosis
from matting.diagnosis.auroc import auroc
from storage.results.diagnoses import NoduleScore, RatedNodule, write_run_scores
from tasks.experiments.diagnosis import INPUTS
from tasks.experiments.diagnosis_status import stored_rows
from tasks.experiments.feature_diagnosis import (
    CLASSIFIERS,
    DIFFERENCES,
    FAMILIES,
    SEEDS,
    diagnose_by_features,
    feature_rows,
)
from tests.tasks.experiments.test_diagnosis import RATINGS, SETTINGS, release


@pytest.fixture
def given(monkeypatch):
    """Note what each classifier learns from; what it has in its first feature is its score."""
    seen = []

    def score(train, malignant, test, kind, seed):
        seen.append((train.shape, kind, seed))
        return test[:, 0]

    monkeypatch.setattr(tasks.experiments.feature_diagnosis, "score_by_features", score)
    return seen


def test_every_classifier_gets_its_input_and_what_its_name_says_and_no_run_twice(
    store, tmp_path, given
):
    published = release(store, tmp_path / "scans", RATINGS)
    told = []
    diagnose_by_features(published, SETTINGS, told.append)
    assert len(given) == len(INPUTS) * len(CLASSIFIERS) * len(SEEDS) * SETTINGS.folds
    widths = {shape[1] for shape, _, _ in given}
    own = min(widths)
    assert widths == {own, own + 1, 2 * own}
    assert told[-1].done == told[-1].of == len(INPUTS)
    rows, differences = stored_rows(published, SETTINGS)
    means = [row for row in rows if row.seed is None]
    assert len(means) == len(INPUTS) * len(CLASSIFIERS) + 1
    assert [(d.backbone, d.first, d.second) for d in differences] == [
        (classifier, *pair) for classifier in CLASSIFIERS for pair in DIFFERENCES
    ]
    before = len(given)
    diagnose_by_features(published, SETTINGS)
    assert len(given) == before
    diagnose_by_features(published, SETTINGS, raters_apart=True)
    assert len(given) == 2 * before
    both = stored_rows(published, SETTINGS)
    assert both[0] == rows
    assert both[1][: len(differences)] == differences
    assert [(d.backbone, d.first, d.second) for d in both[1][len(differences) :]] == [
        (f"{d.backbone}, raters apart", d.first, d.second) for d in differences
    ]


def test_a_difference_is_that_of_the_families_mean_areas(store):
    rng = np.random.default_rng(0)
    nodules = tuple(
        RatedNodule(f"n{n}", f"p{n // 2}", 2 + 2 * (n % 2), bool(n % 2), 1.0) for n in range(40)
    )
    malignant = [nodule.malignant for nodule in nodules]
    areas = {}
    for name in INPUTS:
        runs = []
        for seed in SEEDS:
            scores = rng.normal(size=40) + np.array(malignant) * (1 + (name in FAMILIES["plain"]))
            runs.append(scores)
            run = [NoduleScore(n.nodule, 0, float(s)) for n, s in zip(nodules, scores, strict=True)]
            write_run_scores(store, "d", "boosting", name, seed, run)
        areas[name] = auroc(np.array(runs), malignant).value
    rows, differences = feature_rows(store, "d", nodules)
    assert {row.backbone for row in rows} == {"boosting"}
    for found in differences:
        first, second = (
            np.mean([areas[name] for name in FAMILIES[family]])
            for family in (found.first, found.second)
        )
        assert found.difference == pytest.approx(first - second)
        assert found.low < found.difference < found.high
    plain = next(d for d in differences if (d.first, d.second) == ("plain", "masks"))
    assert plain.low > 0

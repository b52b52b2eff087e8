"""Leaving a reader out: what is compared with whom, and the table of it."""

import numpy as np
import pytest

from matting.measures.probability import probability_errors
from storage.records import TableFacts
from storage.releases.reader import ReleaseReader
from storage.results.left_out import read_left_out
from storage.store import open_store
from tasks.experiments.left_out import (
    BASELINE,
    BLURS_MM,
    FORMS,
    PLAIN,
    measurement_of,
    nodules_to_measure,
    score_left_out,
)
from tasks.experiments.left_out_table import tabulate_left_out
from tasks.scoring.mattes import READERS_MEAN
from tasks.scoring.nodule_classes import classes_of
from tests.cases import case_facts
from tests.tasks.experiments.test_diagnosis import release

MATTES = {f"{form} {name}" for form in FORMS for name in PLAIN} | {
    READERS_MEAN,
    *(f"{READERS_MEAN}, blurred {blur_mm} mm" for blur_mm in BLURS_MM),
}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("left-out")
    published = release(open_store(str(folder / "store"), create=True), folder / "scans", None)
    for nodule in nodules_to_measure(published)[:2]:
        score_left_out(published, nodule)
    return published


def test_each_reader_is_left_out_and_foretold_by_the_others_alone(measured):
    scores = read_left_out(measured.store, "0.1.0", measurement_of(measured), ["n1"])
    assert {(s.reader, s.matte) for s in scores} == {(r, m) for r in range(4) for m in MATTES}
    readers = ReleaseReader(measured).read("n1", "readers") > 0
    for score in (score for score in scores if score.matte == READERS_MEAN):
        others = np.delete(readers, score.reader, axis=0)
        # Over the unknown voxels, of which the readers' mean knows nothing outside their union.
        disagree = others.any(axis=0) & ~others.all(axis=0)
        assert score.voxels > disagree.sum()
        truth = readers[score.reader]
        whole = probability_errors(others.mean(axis=0).ravel(), truth.ravel())
        assert score.brier * score.voxels == pytest.approx(whole.brier * truth.size, rel=0.05)


def test_nothing_is_measured_twice_and_the_rest_is_named(measured):
    assert nodules_to_measure(measured) == ["n3", "n4", "n5"]


def test_the_table_compares_all_with_the_blurred_mean(measured):
    rows = tabulate_left_out(measured)
    assert {row.matte for row in rows if row.group == "all"} == MATTES
    assert [row.brier for row in rows] == sorted(row.brier for row in rows)
    baseline = next(row for row in rows if row.matte == BASELINE)
    assert (baseline.difference, baseline.low, baseline.high) == (0, 0, 0)
    assert {(row.nodules, row.patients) for row in rows} == {(2, 2)}
    for row in rows:
        assert row.difference == pytest.approx(row.brier / baseline.brier - 1)
        assert row.low <= row.difference <= row.high


@pytest.mark.parametrize(
    ("columns", "classes"),
    [
        ({}, []),
        ({"texture": "5 5 4 5", "slice_mm": "1.25"}, ["solid", "slices below 2 mm"]),
        ({"texture": "1 2 1", "slice_mm": "2.5"}, ["ground-glass", "slices from 2 mm"]),
        ({"slice_mm": "thick"}, []),
    ],
)
def test_classes_that_are_known_are_named(columns, classes):
    assert list(classes_of(case_facts(source=TableFacts(columns)))) == classes

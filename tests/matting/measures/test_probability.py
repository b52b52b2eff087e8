"""Measures of probabilities against scikit-learn's, and intervals that cover."""

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss

from matting.measures.probability import (
    calibration_error,
    mean_intervals,
    probability_errors,
    relative_difference,
)


def test_brier_and_log_loss_are_scikit_learns():
    rng = np.random.default_rng(0)
    probability, marked = rng.random(500), rng.random(500) < 0.4
    found = probability_errors(probability, marked)
    assert found.brier == pytest.approx(brier_score_loss(marked, probability))
    clipped = np.clip(probability, 0.02, 0.98)
    assert found.log_loss == pytest.approx(log_loss(marked, clipped))


def test_bins_hold_every_voxel_once_with_0_and_1():
    found = probability_errors([0.0, 0.05, 0.1, 0.95, 1.0], [False, True, False, True, True])
    assert found.voxels.tolist() == [2, 1, 0, 0, 0, 0, 0, 0, 0, 2]
    assert found.marked.tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 0, 2]
    assert found.expected[[0, 9]].tolist() == pytest.approx([0.05, 1.95])


def test_a_calibrated_forecast_has_no_calibration_error_and_a_bold_one_has():
    rng = np.random.default_rng(1)
    probability = rng.random(200_000)
    marked = rng.random(200_000) < probability
    bold = (probability > 0.5).astype(float)
    errors = [
        calibration_error(e.voxels, e.expected, e.marked)
        for e in (probability_errors(probability, marked), probability_errors(bold, marked))
    ]
    assert errors[0] < 0.005
    assert errors[1] == pytest.approx(0.25, abs=0.005)


def test_an_interval_is_of_patients_not_of_their_nodules():
    rng = np.random.default_rng(2)
    theirs = rng.uniform(0.5, 1.5, 60)
    ours = theirs * rng.normal(0.9, 0.3, 60)
    value, low, high = relative_difference(ours, theirs, np.arange(60))
    assert value == pytest.approx(ours.mean() / theirs.mean() - 1)
    assert low < value < high
    # Each nodule four times is no more evidence, for it is the same patient.
    again = relative_difference(np.repeat(ours, 4), np.repeat(theirs, 4), np.repeat(range(60), 4))
    assert again == pytest.approx((value, low, high))


def test_several_readers_at_once_are_the_mean_of_each():
    rng = np.random.default_rng(3)
    probability, masks = rng.random(300), rng.random((3, 300)) < 0.3
    at_once = probability_errors(probability, masks.sum(axis=0), 3)
    each = [probability_errors(probability, mask) for mask in masks]
    assert at_once.brier == pytest.approx(np.mean([one.brier for one in each]))
    assert at_once.log_loss == pytest.approx(np.mean([one.log_loss for one in each]))
    for name in ("voxels", "expected", "marked"):
        total = np.sum([getattr(one, name) for one in each], axis=0)
        np.testing.assert_allclose(getattr(at_once, name), total)


def test_an_interval_of_a_mean_is_of_patients_and_covers():
    rng = np.random.default_rng(4)
    covered = 0
    for seed in range(200):
        values = rng.normal(5, 2, (40, 1))
        mean, low, high = mean_intervals(values, np.arange(40), draws=400, seed=seed)[:, 0]
        assert mean == pytest.approx(values.mean())
        covered += low < 5 < high
    assert 180 <= covered <= 198
    again = mean_intervals(np.repeat(values, 3, axis=0), np.repeat(np.arange(40), 3), draws=400)
    np.testing.assert_allclose(again, mean_intervals(values, np.arange(40), draws=400))


def test_a_mean_is_of_the_nodules_that_have_a_value():
    gap = np.nan
    values = [[1.0, gap, gap, 4.0], [3.0, gap, 2.0, gap], [5.0, gap, 4.0, gap]]
    found = mean_intervals(values, ["a", "a", "b"])
    assert found[0].tolist() == pytest.approx([3.0, gap, 3.0, 4.0], nan_ok=True)
    # One patient has no spread to estimate an interval from
    assert np.isnan(found[1:]).any(axis=0).tolist() == [False, True, False, True]
    assert found[1:, 2].tolist() == [2.0, 4.0]

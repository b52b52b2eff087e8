"""Paired differences between networks and trivial mattes."""

from types import SimpleNamespace

import numpy as np
import pytest

from storage.recipe import EvaluationSettings, Recipe
from storage.results.scores import Score
from tasks.experiments import network_differences as module
from tasks.experiments.network_differences import network_differences

RECIPE = Recipe(evaluation=EvaluationSettings(partitions=2, trained_partitions=2))
PATIENTS = {"a": "p1", "b": "p1", "c": "p2", "d": "p3"}


def score(nodule, matte, sad, region="near"):
    return Score(nodule, matte, "released", region, 10, sad, 0.1, 2.0, 3.0)


@pytest.fixture
def release(monkeypatch):
    """Two networks; the second was scored in partition 0 only."""
    methods = {
        0: [score(n, "readers' mean", sad) for n, sad in (("a", 4.0), ("b", 6.0), ("c", 8.0))],
        1: [score("c", "readers' mean", 8.0), score("d", "readers' mean", 1.0)],
    }
    networks = {
        "3dmm-mg": {
            0: [score(n, "3dmm-mg", sad) for n, sad in (("a", 3.0), ("b", 5.0), ("c", 6.0))],
            1: [score("c", "3dmm-mg", 7.0), score("d", "3dmm-mg", 1.5)],
        },
        "3dmm": {0: [score("a", "3dmm", 2.0), score("b", "3dmm", 5.5)]},
        "not scored": {},
    }
    monkeypatch.setattr(module, "open_partitions", lambda *_: {0: None, 1: None})
    monkeypatch.setattr(module, "method_scores", lambda *_: methods)
    monkeypatch.setattr(
        module, "find_networks", lambda *_: [SimpleNamespace(label=name) for name in networks]
    )
    monkeypatch.setattr(module, "network_scores", lambda _, network, *__: networks[network.label])
    members = {name: SimpleNamespace(patient_id=patient) for name, patient in PATIENTS.items()}
    return SimpleNamespace(store=None, members=members)


def test_a_network_is_compared_on_the_nodules_that_both_were_scored_on(release):
    rows = {
        (row.first, row.second, row.metric): row for row in network_differences(release, RECIPE)
    }
    mean = rows["3dmm-mg", "readers' mean", "sad"]
    assert (mean.nodules, mean.patients, mean.partitions) == (5, 3, "0 1")
    assert mean.first_mean == pytest.approx(22.5 / 5)
    assert mean.second_mean == pytest.approx(27 / 5)
    assert mean.difference == pytest.approx(-4.5 / 27)
    assert mean.low < mean.difference < mean.high
    pair = rows["3dmm-mg", "3dmm", "sad"]
    assert (pair.nodules, pair.patients, pair.partitions) == (2, 1, "0")
    assert pair.difference == pytest.approx(0.5 / 7.5)
    assert pair.low is pair.high is None
    assert ("3dmm", "3dmm-mg", "sad") not in rows
    assert {row.second for row in rows.values()} == {"readers' mean", "3dmm"}
    assert {metric for _, _, metric in rows} == {"sad", "mse", "grad", "conn"}


def test_an_interval_draws_patients_and_not_nodules(release):
    """Nodule c is held out twice and d once: the interval is that of the patients' sums."""
    rows = network_differences(release, RECIPE)
    (row,) = [
        r for r in rows if (r.second, r.metric, r.first) == ("readers' mean", "sad", "3dmm-mg")
    ]
    ours, theirs = np.array([8.0, 13.0, 1.5]), np.array([10.0, 16.0, 1.0])
    drawn = np.random.default_rng(0).integers(0, 3, (2000, 3))
    changes = ours[drawn].sum(axis=1) / theirs[drawn].sum(axis=1) - 1
    assert (row.low, row.high) == pytest.approx(tuple(np.quantile(changes, (0.025, 0.975))))


def test_there_is_no_share_of_an_error_of_0(release, monkeypatch):
    exact = {0: [score(n, "readers' mean", 0.0) for n in ("a", "b", "c")]}
    monkeypatch.setattr(module, "method_scores", lambda *_: exact)
    rows = network_differences(release, RECIPE)
    row = next(r for r in rows if (r.first, r.second) == ("3dmm-mg", "readers' mean"))
    assert (row.difference, row.low, row.high, row.second_mean) == (None, None, None, 0)

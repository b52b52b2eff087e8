"""Scores of a release: computed once per nodule, and on a cluster where there are many."""

import json
from statistics import fmean
from types import SimpleNamespace

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

import flows.score
from flows.engine.cluster import Cluster
from flows.score import measure, measure_methods, measure_network, score_missing, table_rows
from matting import METHODS
from storage.records import Line
from storage.releases.reader import ReleaseReader
from storage.releases.release import open_release
from storage.results.scores import (
    ALL,
    METHOD_SCORES,
    Score,
    list_scored_nodules,
    read_lines,
    read_nodule_scores,
    write_nodule_scores,
    write_scores,
)
from tests.flows.training import copy_of

MEANS = {"sad": 1.0, "mse": 2.0, "grad": 3.0, "conn": 4.0}


@pytest.fixture
def release(learnable, tmp_path):
    return open_release(copy_of(learnable, tmp_path).url, "0.1.0")


def never(*_, **__):
    raise AssertionError("scored twice")


def test_rows_are_flat():
    line = Line("cf", "released", "near", 7, MEANS, dict.fromkeys(MEANS, 0.5))
    assert table_rows([line]) == [
        {"matte": "cf", "truth": "released", "region": "near", "nodules": 7, **MEANS}
    ]


def test_methods_are_scored_once(release, monkeypatch):
    reader = ReleaseReader(release)
    test = reader.nodules("test")
    assert 0 < len(test) < len(reader.nodules())
    lines = measure_methods.fn(release, "test")
    assert list_scored_nodules(release.store, "0.1.0", METHOD_SCORES) == set(test)
    assert {*METHODS, "readers' mean", "HU linear", "trimap prior"} >= {
        line.matte for line in lines
    }
    mean = next(line for line in lines if (line.matte, line.region) == ("HU linear", "whole"))
    scores = read_nodule_scores(release.store, "0.1.0", METHOD_SCORES, test)
    own = [s.sad for s in scores if (s.matte, s.region) == ("HU linear", "whole")]
    assert mean.nodules == len(own) == len(test)
    assert mean.means["sad"] == pytest.approx(fmean(own))

    monkeypatch.setattr(flows.score, "ReleaseReader", never)
    assert measure_methods.fn(release, "test") == lines


@pytest.mark.slow
def test_all_nodules_are_scored_on_a_cluster_where_they_are_many(release, scheduler, monkeypatch):
    here = measure_methods.fn(release, "test")
    test = list_scored_nodules(release.store, "0.1.0", METHOD_SCORES)
    monkeypatch.setattr(flows.score, "MIN_NODULES_FOR_CLUSTER", 2)
    monkeypatch.setattr(flows.score, "score_methods", elsewhere)
    submitted.clear()
    measure_methods.fn(release, ALL, Cluster(scheduler))
    everyone = set(ReleaseReader(release).nodules())
    assert list_scored_nodules(release.store, "0.1.0", METHOD_SCORES) == everyone
    assert submitted == [], "scored in this process"
    release.store.delete(
        [key for key in release.store.list_prefix("metrics") if key.endswith("methods.json")]
    )
    assert measure_methods.fn(release, "test") == here
    assert len(test) < len(everyone)


submitted: list[str] = []


def elsewhere(release, nodule_id, priors):
    """Run by a worker, whose list is another one."""
    from tasks.scoring.mattes import score_methods

    submitted.append(nodule_id)
    score_methods(release, nodule_id, priors)


def score(nodule_id):
    return Score(nodule_id, "3dmm", "released", "whole", 10, 1.0, 2.0, 3.0, 4.0)


@pytest.fixture
def network(monkeypatch):
    """A network whose scores are made up; the nodules on which it was scored."""
    scored_nodules = []

    def score_network(store, reader, nodule_id, checkpoint, network):
        assert network == "network on cpu"
        scored_nodules.append(nodule_id)
        write_nodule_scores(store, reader.version, checkpoint.digest, nodule_id, [score(nodule_id)])

    checkpoint = SimpleNamespace(
        digest="abc", label="3dmm", config=SimpleNamespace(partition=1, epochs=(1, 2))
    )
    monkeypatch.setattr(flows.score, "read_checkpoint", lambda _: checkpoint)
    monkeypatch.setattr(flows.score, "load_network", lambda _, device: f"network on {device}")
    monkeypatch.setattr(flows.score, "score_network", score_network)
    return checkpoint, scored_nodules


def test_a_network_is_scored_on_the_split_of_its_own_partition(release, network, monkeypatch):
    _, scored_nodules = network
    reader = ReleaseReader(release, 1)
    lines = measure_network.fn(release, "abc", "test", "cpu")
    assert sorted(scored_nodules) == sorted(reader.nodules("test"))
    assert reader.splits != ReleaseReader(release).splits
    assert [(line.matte, line.nodules, line.means) for line in lines] == [
        ("3dmm", len(scored_nodules), MEANS)
    ]
    assert read_lines(release.store, "0.1.0", "test-1", "abc") == lines
    summary = json.loads(release.store.get("metrics/0.1.0/test-1/abc.json"))
    assert (summary["network"], summary["epochs"], summary["stand_in"]) == ("3dmm", 2, False)
    monkeypatch.setattr(flows.score, "ReleaseReader", never)
    assert measure_network.fn(release, "abc", "test", "cpu") == lines


def test_only_nodules_without_scores_are_scored(release, network, monkeypatch):
    checkpoint, scored_nodules = network
    reader = ReleaseReader(release)
    first, second, *_ = reader.nodules()
    write_nodule_scores(release.store, "0.1.0", "abc", first, [score(first)])
    score_missing(release.store, reader, checkpoint, [first, second], "cpu")
    assert scored_nodules == [second]
    monkeypatch.setattr(flows.score, "load_network", never)
    score_missing(release.store, reader, checkpoint, [first, second], "cpu")


@pytest.mark.parametrize(("checkpoint", "digests"), [("abc", ["abc"]), (None, ["def", "old"])])
def test_one_network_is_measured_or_all_that_were(
    release, environment, monkeypatch, checkpoint, digests
):
    for what in (METHOD_SCORES, "def", "old"):
        write_scores(release.store, "0.1.0", "test", what, [score("n1")], synthetic=False)
    asked = []

    def measure_network(_, digest, split, device):
        asked.append((digest, split, device))
        return [Line(digest, "released", "whole", 1, MEANS, MEANS)]

    monkeypatch.setattr(flows.score, "measure_network", measure_network)
    with temporary_settings({PREFECT_API_URL: environment["PREFECT_API_URL"]}):
        lines = measure(release.store.url, "0.1.0", checkpoint, "test", "cpu")
    assert asked == [(digest, "test", "cpu") for digest in digests]
    assert [line.matte for line in lines] == ["3dmm", *digests]

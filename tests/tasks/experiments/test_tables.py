"""Means over partitions, by hand."""

from types import SimpleNamespace

import pytest

from storage.results.scores import Score
from tasks.experiments.tables import average_scores, measured_nodules


def score(nodule: str, matte: str, sad: float, region: str = "whole") -> Score:
    return Score(nodule, matte, "released", region, 10, sad, sad / 10, sad * 2, sad * 3)


def test_a_figure_is_the_mean_of_the_partitions_means_with_their_deviation():
    (row,) = average_scores(
        {0: [score("a", "cf", 1.0), score("b", "cf", 3.0)], 1: [score("c", "cf", 5.0)]}
    )
    assert (row.matte, row.partitions, row.nodules) == ("cf", "0 1", "2 1")
    # Means 2 and 5, not the mean 3 over the nodules; the deviation is a sample's
    assert (row.sad, row.mse, row.grad, row.conn) == pytest.approx((3.5, 0.35, 7.0, 10.5))
    assert row.sad_deviation == pytest.approx(3 / 2**0.5)


def test_one_partition_has_no_deviation_and_a_matte_may_lack_in_one():
    rows = average_scores(
        {0: [score("a", "if", 1.0)], 2: [score("b", "if", 1.0), score("b", "cf", 4.0)], 3: []}
    )
    # Methods stand in their own order, whichever partition came first
    assert [(row.matte, row.partitions, row.nodules) for row in rows] == [
        ("cf", "2", "1"),
        ("if", "0 2", "1 1"),
    ]
    assert [row.sad_deviation for row in rows] == [None, 0.0]


def test_regions_are_rows_of_their_own():
    rows = average_scores(
        {0: [score("a", "cf", 1.0), score("a", "cf", 2.0, "near")]}, training="so", checkpoints="d"
    )
    assert [(row.region, row.sad, row.training, row.checkpoints) for row in rows] == [
        ("whole", 1.0, "so", "d"),
        ("near", 2.0, "so", "d"),
    ]


def test_networks_are_measured_on_nodules_that_a_hash_draws():
    names = tuple(f"n{place:03}" for place in range(100))
    reader = SimpleNamespace(nodules=lambda split: names if split == "test" else ())
    few, more = measured_nodules(reader, 10), measured_nodules(reader, 20)
    assert len(few) == 10
    assert set(few) < set(more) < set(names)
    assert list(few) == sorted(few) != list(names[:10])
    assert measured_nodules(reader, None) == measured_nodules(reader, 1000) == names

"""Nearest neighbours: exact, and ties go to the lower voxel."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matting.solvers import knn_search
from matting.solvers.knn_search import (
    FeatureMetric,
    SharedSearch,
    affinity,
    nearest_neighbours,
)
from tests import references
from tests.references import Scene, random_scene


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    ties=st.booleans(),
    count=st.integers(1, 25),
    weights=st.tuples(st.sampled_from([0.1, 1.0, 4.0]), st.sampled_from([0.01, 0.05, 1.0, 10.0])),
    share=st.sampled_from([0.1, 0.6, 1.0]),
)
def test_equals_sorting_all_candidates(
    seed: int, ties: bool, count: int, weights: tuple[float, float], share: float
) -> None:
    scene = random_scene(seed, ties=ties)
    candidates = np.random.default_rng(seed).random(scene.intensity.shape) < share
    queries = np.flatnonzero(scene.unknown)
    found = nearest_neighbours(
        scene.intensity,
        candidates,
        queries,
        count,
        FeatureMetric(weights[0], weights[1] * scene.voxel_pitch),
    )
    for row, voxel in zip(found, queries, strict=True):
        assert (
            row.tolist()
            == references.nearest(scene, candidates, voxel, count, *weights)[: found.shape[1]]
        )
    assert found.shape[1] >= min(count, candidates.sum() - 1)


def test_thousands_of_ties_are_broken_by_index() -> None:
    # clipped air: all intensities equal, and every voxel has 6 neighbours at one distance, 12 at
    # the next
    air = np.zeros((20, 20, 20))
    middle = np.ravel_multi_index((10, 10, 10), air.shape)
    found = nearest_neighbours(
        air, np.ones(air.shape, bool), np.array([middle]), 8, FeatureMetric(1.0, np.full(3, 0.01))
    )
    offsets = [
        tuple(int(i) for i in np.array(np.unravel_index(v, air.shape)) - 10) for v in found[0]
    ]
    faces = [(-1, 0, 0), (0, -1, 0), (0, 0, -1), (0, 0, 1), (0, 1, 0), (1, 0, 0)]
    assert offsets == [*faces, (-1, -1, 0), (-1, 0, -1)]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 30),
    share=st.sampled_from([0.05, 0.3, 1.0]),
)
def test_ties_across_the_border_of_a_cell_are_seen(seed: int, count: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    scene = replace(random_scene(seed), spacing_mm=(1.0, 1.0, 1.0))
    scene = replace(scene, intensity=np.round(scene.intensity) * 0.5)
    candidates = rng.random(scene.intensity.shape) < share
    queries = np.flatnonzero(scene.unknown)
    found = nearest_neighbours(
        scene.intensity, candidates, queries, count, FeatureMetric(0.1, scene.voxel_pitch)
    )
    for row, voxel in zip(found, queries, strict=True):
        assert (
            row.tolist()
            == references.nearest(scene, candidates, voxel, count, 0.1, 1.0)[: found.shape[1]]
        )


@pytest.mark.parametrize("position_weight", [0.01, 1.0, 10.0])
@pytest.mark.parametrize("share", [0.02, 1.0])
def test_equals_sorting_in_a_volume_of_many_blocks(position_weight: float, share: float) -> None:
    rng = np.random.default_rng(6)
    intensity = np.clip(rng.normal(0.2, 0.2, (18, 31, 25)), 0.0, 1.0)
    nothing = np.zeros(intensity.shape, bool)
    scene = Scene(intensity, nothing, nothing, (1.25, 0.5, 0.6))
    candidates = rng.random(intensity.shape) < share
    queries = np.sort(rng.choice(intensity.size, 25, replace=False))
    found = nearest_neighbours(
        intensity, candidates, queries, 12, FeatureMetric(1.0, position_weight * scene.voxel_pitch)
    )
    for row, voxel in zip(found, queries, strict=True):
        assert row.tolist() == references.nearest(
            scene, candidates, voxel, 12, 1.0, position_weight
        )


def test_far_candidates_are_found_through_empty_cells() -> None:
    volume = np.zeros((30, 40, 50))
    candidates = np.zeros(volume.shape, bool)
    candidates[0, 0, 0] = candidates[29, 39, 49] = candidates[29, 0, 49] = True
    volume[0, 0, 0] = 1.0
    query = np.array([np.ravel_multi_index((28, 38, 48), volume.shape)])
    found = nearest_neighbours(
        volume, candidates, query, 5, FeatureMetric(1.0, np.array([0.01, 0.03, 0.02]))
    )
    assert np.stack(np.unravel_index(found[0], volume.shape), axis=1).tolist() == [
        [29, 39, 49],
        [29, 0, 49],
        [0, 0, 0],
    ]


def test_no_candidate_gives_no_column() -> None:
    volume = np.zeros((3, 3, 3))
    assert nearest_neighbours(
        volume, np.zeros(volume.shape, bool), np.array([0, 5]), 4, FeatureMetric(1.0, np.ones(3))
    ).shape == (2, 0)
    only_itself = np.zeros(volume.shape, bool)
    only_itself[0, 0, 0] = True
    assert nearest_neighbours(
        volume, only_itself, np.array([0]), 4, FeatureMetric(1.0, np.ones(3))
    ).shape == (1, 0)


@pytest.mark.parametrize("position_weight", [0.5, 9.0])
def test_affinity_is_one_minus_the_mean_of_four_differences(position_weight: float) -> None:
    scene = random_scene(41)
    queries, found = np.array([0, 7]), np.array([[3, 5], [1, 20]])
    measured = affinity(
        scene.intensity, queries, found, FeatureMetric(1.5, position_weight * scene.voxel_pitch)
    )
    for i, row in enumerate(found):
        for j, voxel in enumerate(row):
            expected = references.affinity(scene, queries[i], voxel, 1.5, position_weight)
            assert measured[i, j] == pytest.approx(expected)


def test_a_shared_search_gives_each_method_what_it_would_find_alone() -> None:
    scene = random_scene(42)
    queries = np.flatnonzero(scene.unknown)
    everywhere = np.ones(scene.intensity.shape, bool)
    metric = FeatureMetric(1.0, scene.voxel_pitch)
    shared = SharedSearch()
    shared.announce(3, metric)
    shared.announce(8, metric)
    for count in (3, 8, 5):
        assert np.array_equal(
            shared.nearest(scene.intensity, queries, count, metric),
            nearest_neighbours(scene.intensity, everywhere, queries, count, metric),
        )


def test_a_shared_search_is_done_once_and_forgotten_after_its_last_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = random_scene(42)
    queries = np.flatnonzero(scene.unknown)
    metric = FeatureMetric(1.0, scene.voxel_pitch)
    counts = []

    def counted(
        intensity: np.ndarray,
        candidates: np.ndarray,
        queries: np.ndarray,
        neighbours: int,
        metric: FeatureMetric,
    ) -> np.ndarray:
        counts.append(neighbours)
        return nearest_neighbours(intensity, candidates, queries, neighbours, metric)

    monkeypatch.setattr(knn_search, "nearest_neighbours", counted)
    shared = SharedSearch()
    shared.announce(3, metric)
    shared.announce(8, metric)
    for count in (3, 8, 3):
        shared.nearest(scene.intensity, queries, count, metric)
    assert counts == [8, 3]

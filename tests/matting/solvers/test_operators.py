"""Laws of the Laplacians."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from matting.geometry.box import box_around
from matting.methods import closed_form, information_flow, knn, learning_based
from matting.parameters import ClosedFormSettings, LearningBasedSettings, Parameters
from matting.solvers.conjugate_gradient import KnownValues, LinearSystem, Operator, sum_operators
from matting.solvers.graph_laplacian import (
    SparseOperator,
    count_disconnected,
    laplacian,
    multiply,
    number_nodes,
)
from matting.solvers.solve_domain import SolveDomain, solve_domain_around
from matting.solvers.window_laplacian import find_centred_windows, find_touching_windows
from tests import laws, references
from tests.references import EVERY_TERM, Scene, random_scene


def domain_of(seed: int) -> SolveDomain:
    return domain_around(random_scene(seed))


def domain_around(scene: Scene) -> SolveDomain:
    return solve_domain_around(
        scene.hu,
        scene.trimap,
        spacing_mm=scene.spacing_mm,
        margin_mm=1e3,
        mean_reach_mm=3.0,
        position_scale_mm=scene.position_scale_mm,
        range_hu=(-1000.0, 400.0),
        intensity_curve=1.0,
    )


def known_values_of(domain: SolveDomain) -> KnownValues:
    foreground = domain.foreground.ravel().astype(float)
    return lambda voxels: foreground[voxels, None]


def system_of(
    method: str, domain: SolveDomain, parameters: Parameters = EVERY_TERM
) -> LinearSystem:
    known_values = known_values_of(domain)
    kernel = replace(parameters.learning_based, kernel="gaussian")
    builders = {
        "cf": lambda: closed_form.build(domain, parameters.closed_form),
        "knn": lambda: knn.build(domain, parameters.knn),
        "lb": lambda: learning_based.build(domain, parameters.learning_based),
        "lb kernel": lambda: learning_based.build(domain, kernel),
        "if": lambda: information_flow.build(domain, parameters.information_flow, known_values),
    }
    return builders[method]()


METHODS = ["cf", "knn", "lb", "lb kernel", "if"]
seeds = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=6, deadline=None)
@given(seed=seeds)
def test_is_symmetric_and_positive_semidefinite(method: str, seed: int) -> None:
    operator = system_of(method, domain_of(seed)).operator
    matrix = laws.dense(operator)
    laws.symmetric(matrix)
    laws.positive_semidefinite(matrix)
    laws.diagonal_agrees(operator)


@pytest.mark.parametrize("method", ["cf", "knn", "if"])
@settings(max_examples=6, deadline=None)
@given(seed=seeds)
def test_rows_sum_to_zero(method: str, seed: int) -> None:
    laws.rows_sum_to_zero(laws.dense(system_of(method, domain_of(seed)).operator))


@settings(max_examples=6, deadline=None)
@given(seed=seeds, ridge=st.sampled_from([1e-6, 1e-3, 1e-1]))
def test_rows_of_learning_based_sum_to_what_its_ridge_leaves(seed: int, ridge: float) -> None:
    domain = domain_of(seed)
    matrix = laws.dense(learning_based.build(domain, LearningBasedSettings(ridge=ridge)).operator)
    # Id - F of a constant is at most r / 27 in a window; a voxel is in 27 windows at most
    laws.rows_sum_to_zero(matrix, within=27 * 4 * ridge / 27)
    assert np.abs(matrix.sum(axis=1)).max() > 0


@pytest.mark.parametrize("method", METHODS)
def test_the_unknown_come_first_and_their_block_is_the_matrix_block(method: str) -> None:
    domain = domain_of(21)
    system = system_of(method, domain)
    voxels = system.operator.voxels
    assert np.array_equal(voxels[: system.unknown], np.flatnonzero(domain.unknown))
    assert not domain.unknown.ravel()[voxels[system.unknown :]].any()
    laws.leading_block_agrees(system.operator, system.unknown)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("columns", [1, 2, 3])
def test_columns_are_multiplied_each_by_itself(method: str, columns: int) -> None:
    operator = system_of(method, domain_of(22)).operator
    p = np.random.default_rng(0).random((len(operator.voxels), columns))
    np.testing.assert_allclose(operator.apply(p), laws.dense(operator) @ p, atol=1e-10)


@pytest.mark.parametrize("method", ["cf", "lb", "if"])
def test_threads_may_share_an_operator_and_its_leading_block(method: str) -> None:
    # A domain so large that two products overlap in time, which the barrier sees to
    unknown = np.zeros((20, 40, 40), bool)
    unknown[4:16, 6:34, 6:34] = True
    foreground = np.zeros_like(unknown)
    foreground[8:12, 15:25, 15:25] = True
    rng = np.random.default_rng(3)
    intensity = rng.random(unknown.shape)
    scene = Scene(intensity, unknown & ~foreground, foreground, (0.5, 0.5, 0.5), 34.0)
    system = system_of(method, domain_around(scene))
    operators = [system.operator, system.operator, system.operator.leading(system.unknown)]
    inputs = [rng.random((len(operator.voxels), 2)) for operator in operators]
    expected = [operator.apply(p) for operator, p in zip(operators, inputs, strict=True)]
    barrier = Barrier(len(operators), timeout=60)

    def products(n: int) -> list[np.ndarray]:
        results = []
        for _ in range(20):
            barrier.wait()
            results.append(operators[n].apply(inputs[n]))
        return results

    with ThreadPoolExecutor(len(operators)) as pool:
        for results, serial in zip(pool.map(products, range(3)), expected, strict=True):
            assert all(np.array_equal(result, serial) for result in results)


def test_a_multiplier_can_be_used_again_with_fewer_columns() -> None:
    operator = system_of("cf", domain_of(24)).operator
    p = np.random.default_rng(1).random((len(operator.voxels), 3))
    multiply = operator.multiplier()
    assert np.array_equal(multiply(p), operator.apply(p))
    assert np.array_equal(multiply(p[:, :1]), operator.apply(p[:, :1]))
    assert np.array_equal(multiply(p), operator.apply(p))


@settings(max_examples=20, deadline=None)
@given(seed=seeds)
def test_windows_are_those_that_hold_or_centre_an_unknown_voxel(seed: int) -> None:
    scene, domain = random_scene(seed), domain_of(seed)
    unknown = scene.unknown.ravel()
    every = references.windows(scene.intensity.shape)
    touching = {w[13] for w in every if unknown[w].any()}
    centred = {
        references.nearest_window(scene.intensity.shape, v)[13] for v in np.flatnonzero(unknown)
    }
    for windows, expected in (
        (find_touching_windows(domain), touching),
        (find_centred_windows(domain), centred),
    ):
        corner = [side.start for side in box_around(domain.unknown, (2, 2, 2))]
        places = [
            p + c
            for p, c in zip(np.unravel_index(windows.centres, windows.shape), corner, strict=True)
        ]
        assert set(np.ravel_multi_index(places, domain.shape).tolist()) == expected


def test_each_window_of_closed_form_adds_twenty_six() -> None:
    # the trace of Id - (1/n)(1 1^T + ...) over n = 27 voxels is 27 - 2 once intensities differ
    domain = domain_of(23)
    windows = find_touching_windows(domain)
    strict = ClosedFormSettings(epsilon=1e-12)
    operator = closed_form.build(domain, strict).operator
    assert operator.diagonal.sum() == pytest.approx(25.0 * len(windows.centres), abs=1e-6)


def test_an_edge_named_from_both_ends_keeps_the_larger_weight() -> None:
    matrix = laplacian(
        3, np.array([0, 1, 1, 2]), np.array([1, 0, 2, 1]), np.array([0.2, 0.7, 0.5, 0.0])
    )
    assert matrix.toarray().tolist() == [[0.7, -0.7, 0.0], [-0.7, 1.2, -0.5], [0.0, -0.5, 0.5]]


@settings(max_examples=20, deadline=None)
@given(seed=seeds, edges=st.integers(0, 60))
def test_a_graph_is_the_larger_of_its_directed_edges(seed: int, edges: int) -> None:
    rng = np.random.default_rng(seed)
    nodes = 8
    sources = rng.integers(0, nodes, edges)
    targets = (sources + rng.integers(1, nodes, edges)) % nodes
    weights = np.round(rng.random(edges), 1)
    largest = np.zeros((nodes, nodes))
    np.maximum.at(largest, (sources, targets), weights)
    symmetric = np.maximum(largest, largest.T)
    matrix = laplacian(nodes, sources, targets, weights)
    np.testing.assert_allclose(
        matrix.toarray(), np.diag(symmetric.sum(axis=1)) - symmetric, atol=1e-12
    )
    assert matrix.has_canonical_format
    assert matrix.nnz == nodes + np.count_nonzero(symmetric)


def test_a_graph_without_edges_is_zero() -> None:
    matrix = laplacian(2, np.array([0]), np.array([1]), np.array([0.0]))
    assert not matrix.toarray().any()


def test_nodes_are_numbered_unknown_first() -> None:
    voxels, nodes = number_nodes(np.array([4, 9]), np.array([[9, 2], [7, 2]]))
    assert voxels.tolist() == [4, 9, 2, 7]
    assert nodes.tolist() == [[1, 2], [3, 2]]


def test_unknown_nodes_without_a_way_to_a_known_one_are_counted() -> None:
    chain = laplacian(5, np.array([0, 2]), np.array([4, 3]), np.array([1.0, 1.0]))
    assert count_disconnected(chain, 4) == 3
    weightless = laplacian(2, np.array([0]), np.array([1]), np.array([0.0]))
    assert count_disconnected(weightless, 1) == 1


def test_a_sum_joins_parts_whose_known_nodes_differ() -> None:
    def part(voxels: list[int]) -> Operator:
        matrix = sparse.csr_matrix(np.arange(9.0).reshape(3, 3) + np.arange(9.0).reshape(3, 3).T)
        return SparseOperator(np.array(voxels), matrix)

    total = sum_operators(1, (1.0, part([5, 2, 7])), (10.0, part([5, 3, 7])))
    assert total.voxels.tolist() == [5, 2, 3, 7]
    local = laws.dense(part([5, 2, 7]))
    expected = np.zeros((4, 4))
    expected[np.ix_([0, 1, 3], [0, 1, 3])] += local
    expected[np.ix_([0, 2, 3], [0, 2, 3])] += 10 * local
    assert np.array_equal(laws.dense(total), expected)
    assert np.array_equal(total.diagonal, np.diag(expected))


def test_pairs_of_columns_are_multiplied_as_scipy_does() -> None:
    matrix = sparse.random_array((20, 30), density=0.3, rng=np.random.default_rng(1), format="csr")
    p = np.random.default_rng(2).random((30, 2))
    np.testing.assert_allclose(multiply(matrix, p), matrix @ p, atol=1e-12)

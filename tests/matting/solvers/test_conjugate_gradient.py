"""The constrained solver: what it promises about convergence, range and statuses."""

import math

import numpy as np
import pytest
from scipy import sparse

from matting import Parameters, Status, solve
from matting.parameters import ClosedFormSettings, KnnSettings, SolverSettings
from matting.solvers.conjugate_gradient import LinearSystem, conjugate_gradients, solve_system
from matting.solvers.graph_laplacian import SparseOperator
from tests.references import random_scene


def positive_system(size: int = 30, columns: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    root = rng.normal(size=(size, size))
    return root @ root.T + 0.1 * np.eye(size), rng.normal(size=(size, columns))


def iterate(matrix: np.ndarray, rhs: np.ndarray, **limits: float) -> tuple:
    options = {"tolerance": 1e-10, "max_iterations": 1000} | limits
    return conjugate_gradients(lambda p: matrix @ p, np.diag(matrix).copy(), rhs, **options)


def test_solves_several_right_hand_sides() -> None:
    matrix, rhs = positive_system()
    x, iterations, residual, broken = iterate(matrix, rhs)
    np.testing.assert_allclose(x, np.linalg.solve(matrix, rhs), atol=1e-7)
    assert (residual <= 1e-10).all()
    assert (iterations > 0).all()
    assert not broken.any()


def test_a_column_does_not_depend_on_its_companions() -> None:
    matrix, rhs = positive_system()
    operator = sparse.csr_matrix(matrix)
    alone = conjugate_gradients(
        lambda p: operator @ p,
        np.diag(matrix).copy(),
        rhs[:, :1],
        tolerance=1e-8,
        max_iterations=99,
    )
    joined = conjugate_gradients(
        lambda p: operator @ p, np.diag(matrix).copy(), rhs, tolerance=1e-8, max_iterations=99
    )
    assert alone[0].tobytes() == joined[0][:, :1].tobytes()
    assert alone[1][0] == joined[1][0]
    assert alone[2][0] == joined[2][0]


def test_a_zero_right_hand_side_needs_no_step() -> None:
    matrix, rhs = positive_system()
    rhs[:, 1] = 0.0
    x, iterations, residual, broken = iterate(matrix, rhs)
    assert not x[:, 1].any()
    assert (iterations[1], residual[1], broken[1]) == (0, 0.0, False)
    np.testing.assert_allclose(x, np.linalg.solve(matrix, rhs), atol=1e-7)


def test_the_residual_is_that_of_the_answer() -> None:
    matrix, rhs = positive_system()
    x, _, residual, _ = iterate(matrix, rhs, max_iterations=7)
    np.testing.assert_allclose(
        residual, np.linalg.norm(rhs - matrix @ x, axis=0) / np.linalg.norm(rhs, axis=0)
    )


def test_a_recurrence_led_astray_by_rounding_is_restarted() -> None:
    matrix, rhs = positive_system()
    calls = 0

    def sloppy(p: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        return matrix @ p * (1.0 + (1e-4 if calls < 15 else 0.0))

    x, _, residual, _ = conjugate_gradients(
        sloppy, np.diag(matrix).copy(), rhs, tolerance=1e-9, max_iterations=1000
    )
    assert (residual <= 1e-9).all()
    np.testing.assert_allclose(x, np.linalg.solve(matrix, rhs), atol=1e-6)


def test_a_direction_that_costs_nothing_is_reported() -> None:
    matrix = np.array([[1.0, -1.0], [-1.0, 1.0]])
    _, _, _, broken = iterate(matrix, np.array([[1.0], [1.0]]))
    assert broken.all()


scene = random_scene(31)


def closed_form(**solver: float | None) -> object:
    parameters = Parameters(solver=SolverSettings(**({"range_tolerance": math.inf} | solver)))
    return solve("cf", scene.hu, scene.trimap, spacing_mm=scene.spacing_mm, parameters=parameters)


def test_converging_at_the_last_step_counts() -> None:
    steps = closed_form().iterations
    assert steps > 3
    assert closed_form(max_iterations=steps).status is Status.CONVERGED
    short = closed_form(max_iterations=steps - 1)
    assert short.status is Status.OUT_OF_ITERATIONS
    assert not short.converged
    assert short.residual > SolverSettings().tolerance


def test_a_stricter_tolerance_takes_more_steps_and_leaves_less() -> None:
    loose, strict = closed_form(tolerance=1e-3), closed_form(tolerance=1e-9)
    assert loose.iterations < strict.iterations
    assert strict.residual <= 1e-9 < loose.residual <= 1e-3


def test_the_range_is_checked_before_clipping() -> None:
    rng = np.random.default_rng(5)
    volume = np.where(
        scene.foreground,
        -400.0,
        np.where(scene.unknown, rng.uniform(-900, 300, scene.hu.shape), -900.0),
    )

    def run(tolerance: float) -> object:
        keen = ClosedFormSettings(epsilon=3e-4, trusted_variance=1e-3)
        parameters = Parameters(closed_form=keen, solver=SolverSettings(range_tolerance=tolerance))
        return solve("cf", volume, scene.trimap, spacing_mm=scene.spacing_mm, parameters=parameters)

    overshoot = run(math.inf).clipped
    assert overshoot > 0.5
    assert run(overshoot).status is Status.CONVERGED
    assert run(overshoot).alpha.max() == 1.0
    beyond = run(0.99 * overshoot)
    assert beyond.status is Status.OUT_OF_RANGE
    assert max(beyond.alpha.max() - 1.0, -beyond.alpha.min()) == pytest.approx(overshoot)


def test_voxels_linked_only_among_themselves_are_reported() -> None:
    volume = np.full((5, 5, 5), -1000.0)
    trimap = np.zeros(volume.shape, np.uint8)
    volume[2, 2, 2:4], trimap[2, 2, 2:4] = -300.0, 128
    volume[0, 0, 0], trimap[0, 0, 0] = 400.0, 255
    lonely = Parameters(knn=KnnSettings(neighbours=(1,), position_weights=(0.1,)))
    solution = solve("knn", volume, trimap, spacing_mm=(1, 1, 1), parameters=lonely)
    assert solution.status is Status.DISCONNECTED
    assert "number of neighbours" in solution.status.value
    sociable = Parameters(knn=KnnSettings(neighbours=(2,), position_weights=(0.1,)))
    assert (
        solve("knn", volume, trimap, spacing_mm=(1, 1, 1), parameters=sociable).status
        is Status.CONVERGED
    )


def status_of(matrix: np.ndarray, unknown: int, solver: SolverSettings) -> Status:
    system = LinearSystem(
        SparseOperator(np.arange(len(matrix)), sparse.csr_matrix(matrix)), unknown
    )
    return solve_system(system, lambda voxels: np.ones((len(voxels), 2)), solver)[0].status


def test_a_singular_system_breaks_down() -> None:
    matrix = np.array([[1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [-1.0, -1.0, 2.0]])
    assert status_of(matrix, 2, SolverSettings()) is Status.BROKEN_DOWN


def test_what_is_no_number_is_said_to_be_none() -> None:
    matrix = np.array([[1e300, 0.0, -1e-300], [0.0, 1.0, math.nan], [-1e-300, math.nan, 1.0]])
    assert status_of(matrix, 2, SolverSettings()) is Status.NOT_FINITE


@pytest.mark.parametrize("status", list(Status))
def test_each_status_says_what_to_do(status: Status) -> None:
    assert status.value.endswith(".")
    assert len(status.value) > 50
    assert status is Status.CONVERGED or ":" in status.value


def test_the_penalty_keeps_its_accuracy_whatever_the_weight() -> None:
    exact = closed_form()
    weighted = closed_form(constraint_weight=1e9)
    assert weighted.status is Status.CONVERGED
    np.testing.assert_allclose(weighted.alpha, exact.alpha, atol=1e-5)

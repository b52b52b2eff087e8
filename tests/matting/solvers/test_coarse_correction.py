"""The coarse half of the preconditioner: exact as a matrix, harmless as a correction, and worth its price."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage, sparse

from matting import estimate_alphas
from matting.parameters import SolverSettings
from matting.solvers import coarse_correction
from matting.solvers.coarse_correction import CoarseBasis, blocks_of, factor
from matting.solvers.conjugate_gradient import solve_problem
from tests import laws
from tests.matting.solvers.test_operators import METHODS, problem_of, region_of


def blocks_of_region(seed: int) -> CoarseBasis:
    region = region_of(seed)
    return blocks_of(region.unknown, region.intensity)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("side", [2, 3, 4])
@pytest.mark.parametrize("seed", [1, 2])
def test_the_coarse_matrix_is_that_of_the_operator(
    method: str, side: int, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coarse_correction, "BLOCK", side)
    blocks, problem = blocks_of_region(seed), problem_of(method, region_of(seed))
    if problem.channels is not None:
        blocks = blocks.lines_in(problem.channels)
        assert len(blocks.functions) == 3
    basis = blocks.basis.toarray()
    matrix = laws.dense(problem.operator.leading(problem.unknown))
    np.testing.assert_allclose(
        problem.operator.coarsen(blocks).toarray(), basis.T @ matrix @ basis, atol=1e-11
    )


def test_blocks_hold_what_lies_together_and_their_slope_has_no_mean() -> None:
    region, blocks = region_of(3), blocks_of_region(3)
    places = np.argwhere(region.unknown)
    places = (places - places.min(axis=0)) // coarse_correction.BLOCK
    assert np.array_equal(blocks.corner[blocks.member], places)
    assert len(np.unique(blocks.corner, axis=0)) == len(blocks.corner)
    for block in range(len(blocks.corner)):
        assert (blocks.functions[0] == 1.0).all()
        slope = blocks.functions[1, blocks.member == block]
        assert abs(slope.sum()) < 1e-12
        assert np.abs(slope).max() == pytest.approx(1.0) or not slope.any()


def test_blocks_do_not_depend_on_what_lies_around() -> None:
    region = region_of(8)
    near = blocks_of(region.unknown, region.intensity)
    far = blocks_of(np.pad(region.unknown, 3), np.pad(region.intensity, 3))
    assert np.array_equal(near.corner, far.corner)
    assert np.array_equal(near.functions, far.functions)


def test_a_flat_block_has_no_slope() -> None:
    assert not blocks_of(np.ones((5, 5, 5), bool), np.full((5, 5, 5), 0.3)).functions[1].any()


def test_weights_are_summed_over_blocks() -> None:
    blocks = blocks_of_region(4)
    weight = np.random.default_rng(0).random(len(blocks.member))
    basis = blocks.basis.toarray()
    np.testing.assert_allclose(
        blocks.weigh(weight).toarray(), basis.T @ np.diag(weight) @ basis, atol=1e-12
    )


def test_the_correction_is_that_of_the_coarse_matrix() -> None:
    blocks = blocks_of_region(5)
    basis, size = blocks.basis.toarray(), blocks.size
    root = np.random.default_rng(1).normal(size=(size, size))
    matrix = root @ root.T + np.eye(size)
    residue = np.random.default_rng(2).random((len(basis) + 3, 2))
    z = np.ones_like(residue)
    solver = factor(blocks, sparse.csr_matrix(matrix))
    assert solver is not None
    solver.correct(residue, z)
    expected = basis @ np.linalg.solve(matrix, basis.T @ residue[: len(basis)])
    np.testing.assert_allclose(z[: len(basis)], 1.0 + expected, atol=1e-9)
    assert (z[len(basis) :] == 1.0).all(), "nodes beyond the unknown are left alone"


def test_what_is_no_number_is_not_factored() -> None:
    blocks = blocks_of_region(6)
    assert factor(blocks, sparse.csr_matrix(np.full((blocks.size,) * 2, np.nan))) is None


@pytest.mark.parametrize("method", ["cf", "knn", "lb", "if"])
def test_the_answer_does_not_depend_on_the_correction(method: str) -> None:
    region = region_of(7)
    problem, foreground = problem_of(method, region), region.foreground.ravel().astype(float)
    if problem.pull is not None:
        problem = replace(
            problem, pull=replace(problem.pull, target=np.repeat(problem.pull.target, 2, axis=1))
        )
    solver = SolverSettings(tolerance=1e-11, range_tolerance=np.inf)
    with_it, without = (
        solve_problem(
            problem,
            lambda v: np.stack([foreground[v], 0.5 * foreground[v]], axis=1),
            solver,
            blocks,
        )
        for blocks in (blocks_of(region.unknown, region.intensity), None)
    )
    for one, other in zip(with_it, without, strict=True):
        assert one.status is other.status
        np.testing.assert_allclose(one.values, other.values, atol=1e-7)


def test_steps_hardly_grow_with_the_region() -> None:
    steps = []
    for radius in (7.0, 14.0):
        side = 2 * int(radius) + 8
        away = np.sqrt(((np.indices((side,) * 3) - side / 2) ** 2).sum(axis=0))
        rough = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=away.shape), 1.0)
        volume = -900 + 900 / (1 + np.exp((away - radius * 0.7) / 2)) + 300 * rough
        trimap = np.where(away < 2, 255, np.where(away < radius, 128, 0)).astype(np.uint8)
        solved = estimate_alphas(volume, trimap, spacing_mm=(0.5,) * 3, methods=("cf", "lb", "if"))
        assert all(solution.converged for solution in solved.values())
        steps.append([solution.iterations for solution in solved.values()])
    assert max(steps[1]) < 50
    assert (np.array(steps[1]) < 1.5 * np.array(steps[0])).all()

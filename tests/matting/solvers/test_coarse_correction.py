"""The coarse half of the preconditioner: exact as a matrix, and fewer iterations with it."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage, sparse

from matting import estimate_alphas
from matting.parameters import Parameters, SolverSettings
from matting.solvers import coarse_correction
from matting.solvers.coarse_correction import CoarseBasis, coarse_basis, factor
from matting.solvers.conjugate_gradient import solve_system
from tests import laws
from tests.matting.solvers.test_operators import METHODS, domain_of, system_of


def basis_of(seed: int) -> CoarseBasis:
    domain = domain_of(seed)
    return coarse_basis(domain.unknown, domain.intensity)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("side", [2, 3, 4])
@pytest.mark.parametrize("seed", [1, 2])
def test_the_coarse_matrix_is_that_of_the_operator(
    method: str, side: int, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coarse_correction, "BLOCK", side)
    basis = basis_of(seed)
    system = system_of(method, domain_of(seed))
    if system.channels is not None:
        basis = basis.with_channels(system.channels)
        assert len(basis.functions) == 3
    b = basis.matrix.toarray()
    matrix = laws.dense(system.operator.leading(system.unknown))
    np.testing.assert_allclose(
        system.operator.coarsen(basis).toarray(), b.T @ matrix @ b, atol=1e-11
    )


def test_blocks_hold_what_lies_together_and_their_slope_has_no_mean() -> None:
    domain, basis = domain_of(3), basis_of(3)
    places = np.argwhere(domain.unknown)
    places = (places - places.min(axis=0)) // coarse_correction.BLOCK
    assert np.array_equal(basis.block_index[basis.block_of], places)
    assert len(np.unique(basis.block_index, axis=0)) == len(basis.block_index)
    for block in range(len(basis.block_index)):
        assert (basis.functions[0] == 1.0).all()
        slope = basis.functions[1, basis.block_of == block]
        assert abs(slope.sum()) < 1e-12
        assert np.abs(slope).max() == pytest.approx(1.0) or not slope.any()


def test_blocks_do_not_depend_on_what_lies_around() -> None:
    domain = domain_of(8)
    near = coarse_basis(domain.unknown, domain.intensity)
    far = coarse_basis(np.pad(domain.unknown, 3), np.pad(domain.intensity, 3))
    assert np.array_equal(near.block_index, far.block_index)
    assert np.array_equal(near.functions, far.functions)


def test_a_flat_block_has_no_slope() -> None:
    assert not coarse_basis(np.ones((5, 5, 5), bool), np.full((5, 5, 5), 0.3)).functions[1].any()


def test_weights_are_summed_over_blocks() -> None:
    basis = basis_of(4)
    weight = np.random.default_rng(0).random(len(basis.block_of))
    b = basis.matrix.toarray()
    np.testing.assert_allclose(
        basis.weighted_gram(weight).toarray(), b.T @ np.diag(weight) @ b, atol=1e-12
    )


def test_the_correction_is_that_of_the_coarse_matrix() -> None:
    basis = basis_of(5)
    b, size = basis.matrix.toarray(), basis.size
    root = np.random.default_rng(1).normal(size=(size, size))
    matrix = root @ root.T + np.eye(size)
    residual = np.random.default_rng(2).random((len(b) + 3, 2))
    inverse = np.random.default_rng(3).random(len(residual))
    z = np.empty_like(residual)
    solver = factor(basis, sparse.csr_matrix(matrix))
    assert solver is not None
    products = solver.precondition(residual, inverse, z)
    expected = inverse[:, None] * residual
    expected[: len(b)] += b @ np.linalg.solve(matrix, b.T @ residual[: len(b)])
    np.testing.assert_allclose(z, expected, atol=1e-9)
    np.testing.assert_allclose(products, (residual * z).sum(axis=0), rtol=1e-12)


def test_what_is_no_number_is_not_factored() -> None:
    basis = basis_of(6)
    assert factor(basis, sparse.csr_matrix(np.full((basis.size,) * 2, np.nan))) is None


@pytest.mark.parametrize("method", ["cf", "knn", "lb", "if"])
def test_the_answer_does_not_depend_on_the_correction(method: str) -> None:
    domain = domain_of(7)
    system = system_of(method, domain)
    foreground = domain.foreground.ravel().astype(float)
    if system.data_term is not None:
        system = replace(
            system,
            data_term=replace(
                system.data_term, target=np.repeat(system.data_term.target, 2, axis=1)
            ),
        )
    solver = SolverSettings(tolerance=1e-11, range_tolerance=np.inf)
    with_it, without = (
        solve_system(
            system,
            lambda v: np.stack([foreground[v], 0.5 * foreground[v]], axis=1),
            solver,
            basis,
        )
        for basis in (coarse_basis(domain.unknown, domain.intensity), None)
    )
    for one, other in zip(with_it, without, strict=True):
        assert one.status is other.status
        np.testing.assert_allclose(one.values, other.values, atol=1e-7)


@pytest.mark.parametrize("parameters", [Parameters(), Parameters.improved()], ids=lambda p: p.form)
def test_steps_hardly_grow_with_the_region(parameters: Parameters) -> None:
    steps = []
    for radius in (7.0, 14.0):
        side = 2 * int(radius) + 8
        away = np.sqrt(((np.indices((side,) * 3) - side / 2) ** 2).sum(axis=0))
        rough = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=away.shape), 1.0)
        volume = -900 + 900 / (1 + np.exp((away - radius * 0.7) / 2)) + 300 * rough
        trimap = np.where(away < 2, 255, np.where(away < radius, 128, 0)).astype(np.uint8)
        solved = estimate_alphas(
            volume,
            trimap,
            spacing_mm=(0.5,) * 3,
            methods=("cf", "lb", "if"),
            parameters=parameters,
        )
        assert all(solution.converged for solution in solved.values())
        steps.append([solution.iterations for solution in solved.values()])
    assert max(steps[1]) < 50
    assert (np.array(steps[1]) <= 1.6 * np.array(steps[0])).all()

"""Laws that hold for whole families of things, to be checked on any member."""

from collections.abc import Callable
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from matting.solvers.conjugate_gradient import Operator, Solution

Floats = NDArray[np.float64]


def dense(operator: Operator) -> Floats:
    """The operator's matrix, column by column."""
    return operator.apply(np.eye(len(operator.voxels)))


def rows_sum_to_zero(matrix: Floats, *, within: float = 1e-9) -> None:
    assert np.abs(matrix.sum(axis=1)).max() <= within


def symmetric(matrix: Floats) -> None:
    assert np.abs(matrix - matrix.T).max() <= 1e-9 * np.abs(matrix).max()


def positive_semidefinite(matrix: Floats) -> None:
    eigenvalues = np.linalg.eigvalsh((matrix + matrix.T) / 2)
    assert eigenvalues.min() >= -1e-9 * eigenvalues.max()


def diagonal_agrees(operator: Operator) -> None:
    np.testing.assert_allclose(operator.diagonal, np.diag(dense(operator)), rtol=1e-9, atol=1e-9)


def leading_block_agrees(operator: Operator, size: int) -> None:
    np.testing.assert_allclose(
        dense(operator.leading(size)), dense(operator)[:size, :size], rtol=1e-9, atol=1e-9
    )


def keeps_known(
    solution: Solution, trimap: NDArray[np.uint8], foreground: Floats | float = 1.0
) -> None:
    assert np.array_equal(
        solution.alpha[trimap == 255], np.broadcast_to(foreground, (trimap == 255).sum())
    )
    assert not solution.alpha[trimap == 0].any()


def within_range(alpha: Floats) -> None:
    assert np.isfinite(alpha).all()
    assert alpha.min() >= 0.0
    assert alpha.max() <= 1.0


def commutes_with_symmetries(
    solve: Callable[[Floats, NDArray[np.uint8], tuple[float, float, float]], Floats],
    volume: Floats,
    trimap: NDArray[np.uint8],
    spacing_mm: tuple[float, float, float],
    *,
    within: float,
) -> None:
    """Flipping or transposing volume, labels and spacing flips or transposes the solution."""
    straight = solve(volume, trimap, spacing_mm)
    for axis in range(3):
        flipped = solve(np.flip(volume, axis).copy(), np.flip(trimap, axis).copy(), spacing_mm)
        assert np.abs(np.flip(flipped, axis) - straight).max() <= within
    for order in permutations(range(3)):
        spacing = (spacing_mm[order[0]], spacing_mm[order[1]], spacing_mm[order[2]])
        turned = solve(volume.transpose(order).copy(), trimap.transpose(order).copy(), spacing)
        assert np.abs(turned - straight.transpose(order)).max() <= within

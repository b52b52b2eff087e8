"""The one constrained solver of all eight methods.

Paper   Wang et al., 3D Matting, arXiv 2210.05104, Eq. 2 and 15-18.
Solves  L_UU a_U = -L_UK S_K with a_K = S_K (Eq. 15), U the unknown and K the known voxels; or, with
        a finite constraint weight w, a = (L + w D)^-1 w D S with D = 1 on known voxels (Eq. 18).
How     Written for the deviation e = a - S from the known values (0 where unknown), both read

            (L + P) e = -L S + P (t - S)    on the free voxels

        U in the first case, all voxels in the second. The diagonal P holds w on known voxels and
        the data term of methods that have one (towards t). Preconditioned conjugate gradients, with
        the diagonal and a coarse correction (matting/solvers/coarse_correction.py); several
        right-hand sides at once, each with its own scalars.

Symbols  L  operator    S  known values    P  data_term.weight    t  data_term.target
         e  deviation    r  residual    z  preconditioned residual    p  direction
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from matting.jit import kernel
from matting.parameters import SolverSettings
from matting.solvers.coarse_correction import FINE_WEIGHT, CoarseBasis, CoarseCorrection, factor

Floats = NDArray[np.float64]
Voxels = NDArray[np.int64]
THREADS = ThreadpoolController()
"""Limits the libraries below SciPy to one thread: the order of their sums then never changes."""
KnownValues = Callable[[Voxels], Floats]
"""Returns the known values S, (voxels, columns), of known voxels of the solve domain."""


class Status(Enum):
    """How a solve ended, with the likely cause and what to do next."""

    CONVERGED = "The solver reached its tolerance and the matte lies within 0..1."
    OUT_OF_ITERATIONS = (
        "The solver used up its iterations before it reached its tolerance; the unknown region "
        "may be very large or the tolerance too strict: raise solver.max_iterations or "
        "solver.tolerance."
    )
    BROKEN_DOWN = (
        "The system has a direction that costs nothing, so its answer is not determined; part of "
        "the unknown region is probably linked to nothing known: look at the trimap and at the "
        "method's neighbours."
    )
    DISCONNECTED = (
        "Some unknown voxels are linked, however far one goes, only to unknown ones; the method "
        "looks at too few neighbours: raise its number of neighbours or the weight of position."
    )
    NOT_FINITE = (
        "The matte holds values that are no numbers; a weight in the parameters is probably out "
        "of proportion: go back to the defaults and change one at a time."
    )
    OUT_OF_RANGE = (
        "The matte leaves 0..1 by more than solver.range_tolerance; the local models overshoot, "
        "probably at an abrupt edge of intensity: look at the image, or raise the method's ridge."
    )


@dataclass(frozen=True, slots=True, repr=False)
class Solution:
    """A matte, or why there is none."""

    alpha: Floats
    """(z, y, x), within 0..1 if converged; else the last iterate as it is, for diagnosis only."""
    status: Status
    """How the solve ended."""
    iterations: int
    """Iterations of conjugate gradients."""
    residual: float
    """Norm of the residual over that of the right-hand side, recomputed at the end."""
    clipped: float
    """Largest distance of the matte from 0..1 before it was clipped."""

    @property
    def converged(self) -> bool:
        """True if the matte may be used."""
        return self.status is Status.CONVERGED

    def __repr__(self) -> str:
        """Return status, size and numbers in one line, without the array."""
        status = self.status.name.lower().replace("_", " ")
        size = "x".join(map(str, self.alpha.shape))
        return (
            f"Solution({status}, alpha {size}, {self.iterations} iterations, "
            f"residual {self.residual:.1e})"
        )


class Operator(Protocol):
    """A symmetric positive semi-definite matrix over nodes, the unknown voxels first."""

    @property
    def voxels(self) -> Voxels:
        """(nodes,): the nodes as flat indices in the solve domain."""

    @property
    def diagonal(self) -> Floats:
        """(nodes,): L_ii."""

    def apply(self, p: Floats) -> Floats:
        """Multiply (nodes, columns) by L."""

    def multiplier(self) -> Callable[[Floats], Floats]:
        """Return `apply` with scratch memory of its own, for many products in one thread."""

    def coarsen(self, basis: CoarseBasis) -> Any:
        """Return B^T L B, scipy.sparse.csr_matrix, with B the basis on the unknown nodes."""

    def leading(self, size: int) -> "Operator":
        """Return the block of the first `size` nodes."""


@dataclass(frozen=True, slots=True)
class DataTerm:
    """A quadratic penalty that draws each unknown voxel to a value of its own."""

    weight: Floats
    """(unknown,), on the scale of the operator's entries."""
    target: Floats
    """(unknown, columns)."""

    def __add__(self, other: "DataTerm") -> "DataTerm":
        """Return the term with the same minimiser and curvature as both together."""
        weight = self.weight + other.weight
        moment = self.weight[:, None] * self.target + other.weight[:, None] * other.target
        # Where neither has weight any target will do; 1 avoids dividing by 0.
        return DataTerm(weight, moment / np.where(weight > 0, weight, 1.0)[:, None])


@dataclass(frozen=True, slots=True)
class LinearSystem:
    """The operator and data term of a method."""

    operator: Operator
    unknown: int
    """Number of the operator's nodes that are unknown."""
    data_term: DataTerm | None = None
    """None for methods without one."""
    channels: Floats | None = None
    """(channels, unknown): what alpha may be a linear function of at no cost, for the coarse
    correction; None for the intensity alone."""
    disconnected: int = 0
    """Unknown voxels that no path of links joins to a known one."""


@dataclass(frozen=True, slots=True)
class SumOperator:
    """A weighted sum of operators whose nodes differ beyond the unknown ones."""

    voxels: Voxels
    """(nodes,): the nodes of all parts as flat indices in the solve domain, the unknown first."""
    parts: tuple[Operator, ...]
    weights: tuple[float, ...]
    node_maps: tuple[Voxels, ...]
    """For each part the node in the sum of each of its nodes."""

    @property
    def diagonal(self) -> Floats:
        """(nodes,): weighted sum of the diagonals."""
        total = np.zeros(len(self.voxels))
        for part, weight, nodes in zip(self.parts, self.weights, self.node_maps, strict=True):
            total[nodes] += weight * part.diagonal
        return total

    def apply(self, p: Floats) -> Floats:
        """Multiply (nodes, columns) by the sum."""
        return self.multiplier()(p)

    def multiplier(self) -> Callable[[Floats], Floats]:
        """Return `apply` with scratch memory of its own, for many products in one thread."""
        multipliers = [part.multiplier() for part in self.parts]

        def multiply(p: Floats) -> Floats:
            total = np.zeros_like(p)
            terms = zip(multipliers, self.weights, self.node_maps, strict=True)
            for multiply_part, weight, nodes in terms:
                # A part that has all nodes numbers them as the sum does: nothing to gather.
                if len(nodes) == len(p):
                    _add_scaled(total, weight, multiply_part(p))
                else:
                    total[nodes] += weight * multiply_part(p[nodes])
            return total

        return multiply

    def coarsen(self, basis: CoarseBasis) -> Any:
        """Return B^T L B, scipy.sparse.csr_matrix, with B the basis on the unknown nodes."""
        parts = [
            weight * part.coarsen(basis)
            for part, weight in zip(self.parts, self.weights, strict=True)
        ]
        return sum(parts[1:], start=parts[0])

    def leading(self, size: int) -> "SumOperator":
        """Return the block of the first `size` nodes, which every part numbers first and alike."""
        parts = tuple(part.leading(size) for part in self.parts)
        node_maps = tuple(nodes[:size] for nodes in self.node_maps)
        return SumOperator(self.voxels[:size], parts, self.weights, node_maps)


def sum_operators(unknown: int, *terms: tuple[float, Operator]) -> SumOperator:
    """Return the weighted sum of operators that agree in their first `unknown` nodes."""
    parts = tuple(part for _, part in terms)
    known = np.unique(np.concatenate([part.voxels[unknown:] for part in parts]))
    leading = np.arange(unknown)
    node_maps = tuple(
        np.concatenate([leading, unknown + np.searchsorted(known, part.voxels[unknown:])])
        for part in parts
    )
    voxels = np.concatenate([parts[0].voxels[:unknown], known])
    return SumOperator(voxels, parts, tuple(weight for weight, _ in terms), node_maps)


@dataclass(frozen=True, slots=True)
class RhsSolution:
    """The solution for one right-hand side, on the free voxels."""

    voxels: Voxels
    """(nodes,), as flat indices in the solve domain."""
    values: Floats
    """(nodes,)"""
    status: Status
    iterations: int
    residual: float
    clipped: float


def solve_system(
    system: LinearSystem,
    known_values: KnownValues,
    settings: SolverSettings,
    basis: CoarseBasis | None = None,
) -> list[RhsSolution]:
    """Solve for every column of the known values at once.

    Args:
        system: The method's operator and data term.
        known_values: S.
        settings: Tolerance, iterations, constraint weight and range tolerance.
        basis: Coarse basis on the unknown voxels, to need fewer iterations; None for the diagonal
            alone.

    Returns:
        One solution a column. A column that did not converge has its status and is not clipped.
    """
    with np.errstate(all="raise", under="ignore"), THREADS.limit(limits=1):
        known = _known_on_nodes(system, known_values)
        operator, penalty, rhs = _assemble(system, known, settings.constraint_weight)
        deviation, iterations, residual, broken = conjugate_gradients(
            _with_penalty(operator, penalty),
            operator.diagonal + penalty,
            rhs,
            tolerance=settings.tolerance,
            max_iterations=settings.max_iterations,
            coarse=_coarse_correction(system, penalty, basis),
        )
        values = known[: len(penalty)] + deviation
    columns = []
    for n in range(values.shape[1]):
        alpha = values[:, n]
        clipped = float(np.abs(alpha - np.clip(alpha, 0.0, 1.0)).max(initial=0.0))
        status = _status(system, alpha, bool(broken[n]), float(residual[n]), clipped, settings)
        if status is Status.CONVERGED:
            alpha = np.clip(alpha, 0.0, 1.0)
        columns.append(
            RhsSolution(
                operator.voxels, alpha, status, int(iterations[n]), float(residual[n]), clipped
            )
        )
    return columns


def _with_penalty(operator: Operator, penalty: Floats) -> Callable[[Floats], Floats]:
    """Return the product with L + P; its scratch memory lives as long as the solve."""
    multiply = operator.multiplier()
    if not penalty.any():
        return multiply

    def multiply_with_penalty(p: Floats) -> Floats:
        product = multiply(p)
        _add_penalty(product, penalty, p)
        return product

    return multiply_with_penalty


def _coarse_correction(
    system: LinearSystem, penalty: Floats, basis: CoarseBasis | None
) -> CoarseCorrection | None:
    """Factor B^T (L + P) B."""
    if basis is None:
        return None
    if system.channels is not None:
        basis = basis.with_channels(system.channels)
    matrix = system.operator.coarsen(basis)
    if system.data_term is not None:
        matrix = matrix + basis.weighted_gram(penalty[: system.unknown])
    return factor(basis, matrix)


def _known_on_nodes(system: LinearSystem, known_values: KnownValues) -> Floats:
    """Return S on all nodes, (nodes, columns): 0 where unknown."""
    known = known_values(system.operator.voxels[system.unknown :])
    return np.concatenate([np.zeros((system.unknown, known.shape[1])), known])


def _assemble(
    system: LinearSystem, known: Floats, constraint_weight: float | None
) -> tuple[Operator, Floats, Floats]:
    """Return L on the free voxels, the diagonal of P, and the right-hand side."""
    size = system.unknown if constraint_weight is None else len(known)
    penalty = np.zeros(size)
    rhs = -system.operator.apply(known)[:size]
    if constraint_weight is not None:
        penalty[system.unknown :] = constraint_weight
    if system.data_term is not None:
        penalty[: system.unknown] = system.data_term.weight
        rhs[: system.unknown] += system.data_term.weight[:, None] * system.data_term.target
    return system.operator.leading(size), penalty, rhs


def _status(
    system: LinearSystem,
    alpha: Floats,
    broken: bool,
    residual: float,
    clipped: float,
    settings: SolverSettings,
) -> Status:
    """Return the first cause that applies: what is wrong with the system before what followed."""
    if system.disconnected:
        return Status.DISCONNECTED
    if not np.isfinite(alpha).all() or not np.isfinite(residual):
        return Status.NOT_FINITE
    if broken:
        return Status.BROKEN_DOWN
    if residual > settings.tolerance:
        return Status.OUT_OF_ITERATIONS
    return Status.OUT_OF_RANGE if clipped > settings.range_tolerance else Status.CONVERGED


def conjugate_gradients(
    multiply: Callable[[Floats], Floats],
    diagonal: Floats,
    rhs: Floats,
    *,
    tolerance: float,
    max_iterations: int,
    coarse: CoarseCorrection | None = None,
) -> tuple[Floats, NDArray[np.int64], Floats, NDArray[np.bool_]]:
    """Solve A x = rhs for a symmetric positive definite A, each column by itself, from x = 0.

    The residual of the recurrence drifts from the true one by rounding. A column whose recurrence
    reached the tolerance is therefore checked against the recomputed residual, and restarted from
    it if it is not there yet.

    Args:
        multiply: Product of A with (n, columns).
        diagonal: (n,), A's diagonal, the preconditioner.
        rhs: (n, columns).
        tolerance: Norm of the residual over that of the right-hand side at which a column has
            converged.
        max_iterations: Upper limit of iterations.
        coarse: What the preconditioner adds to the diagonal.

    Returns:
        x (n, columns), and per column: iterations, final relative residual, whether it broke down.
    """
    x = np.zeros_like(rhs)
    residual = rhs.copy()
    rhs_norm = np.sqrt(_dots(rhs, rhs))
    threshold = tolerance * rhs_norm
    # A right-hand side of 0 has the solution 0.
    active = rhs_norm > 0
    iterations = np.zeros(len(rhs_norm), np.int64)
    broken = np.zeros(len(rhs_norm), bool)
    # A voxel without any link has a zero row; its preconditioner is 0, so that it stays where it
    # is.
    inverse = np.divide(FINE_WEIGHT, diagonal, out=np.zeros_like(diagonal), where=diagonal > 0)
    direction, rho = _precondition(residual, inverse, coarse)
    while active.any() and iterations.max() < max_iterations:
        product = multiply(direction)
        curvature = _dots(direction, product)
        # p.Ap must be positive; `not >` also catches values that are not numbers.
        broken |= active & ~(curvature > 0)
        active &= ~broken
        # Inactive columns take steps of 0: they are carried along unchanged, which is cheaper than
        # to compact the arrays and keeps every column's arithmetic independent of the others.
        step = np.divide(rho, curvature, out=np.zeros_like(rho), where=active)
        square = _step_along(x, residual, direction, product, step)
        iterations += active
        reached = active & (np.sqrt(square) <= threshold)
        if reached.any():
            residual[:, reached] = (rhs - multiply(x))[:, reached]
            active &= ~(reached & (np.sqrt(_dots(residual, residual)) <= threshold))
            if not active.any():
                break
        z, new_rho = _precondition(residual, inverse, coarse)
        # beta = 0 restarts a reached column from its recomputed residual: the old direction is not
        # conjugate to it.
        beta = np.divide(new_rho, rho, out=np.zeros_like(rho), where=active & ~reached)
        _update_direction(direction, z, beta)
        rho = new_rho
    # That of a column which converged was recomputed when it did.
    unfinished = active | broken
    if unfinished.any():
        residual[:, unfinished] = (rhs - multiply(x))[:, unfinished]
    relative = np.divide(
        np.sqrt(_dots(residual, residual)),
        rhs_norm,
        out=np.zeros_like(rhs_norm),
        where=rhs_norm != 0,
    )
    return x, iterations, relative, broken


def _precondition(
    residual: Floats, inverse: Floats, coarse: CoarseCorrection | None
) -> tuple[Floats, Floats]:
    """Return z of the residual, and r.z of each column."""
    z = np.empty_like(residual)
    if coarse is not None:
        return z, coarse.precondition(residual, inverse, z)
    _scale_rows(inverse, residual, z)
    return z, _dots(residual, z)


# The kernels below visit voxel by voxel and within it column by column: (n, columns) arrays are
# read in order once, and each column is summed in raster order, whatever the number of columns.


@kernel
def _add_scaled(total: Floats, weight: float, part: Floats) -> None:
    """Add weight times a part to a total, both of one shape, in place."""
    for n in range(total.shape[0]):
        for column in range(total.shape[1]):
            total[n, column] += weight * part[n, column]


@kernel
def _add_penalty(product: Floats, penalty: Floats, p: Floats) -> None:
    """Add P p to a product, in place."""
    for n in range(p.shape[0]):
        for column in range(p.shape[1]):
            product[n, column] += penalty[n] * p[n, column]


@kernel
def _scale_rows(inverse: Floats, residual: Floats, z: Floats) -> None:
    """Write the first term of the preconditioner, each row of r times the weighted inverse."""
    for n in range(residual.shape[0]):
        for column in range(residual.shape[1]):
            z[n, column] = inverse[n] * residual[n, column]


@kernel
def _dots(a: Floats, b: Floats) -> Floats:
    """Return the inner product of each column, summed in raster order."""
    out = np.zeros(a.shape[1])
    for n in range(a.shape[0]):
        for column in range(a.shape[1]):
            out[column] += a[n, column] * b[n, column]
    return out


@kernel
def _step_along(
    x: Floats, residual: Floats, direction: Floats, product: Floats, step: Floats
) -> Floats:
    """Update x += step p and r -= step A p in place; return r.r, summed as in `_dots`.

    One pass instead of three: the arrays exceed the cache, and reading them is what takes time.
    """
    square = np.zeros(x.shape[1])
    for n in range(x.shape[0]):
        for column in range(x.shape[1]):
            x[n, column] += step[column] * direction[n, column]
            r = residual[n, column] - step[column] * product[n, column]
            residual[n, column] = r
            square[column] += r * r
    return square


@kernel
def _update_direction(direction: Floats, z: Floats, beta: Floats) -> None:
    """Set the next direction, p = z + beta p, in place."""
    for n in range(direction.shape[0]):
        for column in range(direction.shape[1]):
            direction[n, column] = z[n, column] + beta[column] * direction[n, column]

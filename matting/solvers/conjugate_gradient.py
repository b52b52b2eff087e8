"""The one constrained solver of all eight methods.

Paper   Wang et al., 3D Matting, arXiv 2210.05104, Eq. 2 and 15-18.
Solves  L_UU a_U = -L_UK S_K with a_K = S_K (Eq. 15), U the unknown and K the known voxels; or, with a finite
        constraint weight w, a = (L + w D)^-1 w D S with D = 1 on known voxels (Eq. 18).
How     Written for the deviation e = a - S from the known values (0 where unknown), both read

            (L + P) e = -L S + P (t - S)    on the voxels that may move,

        where the diagonal P holds w on known voxels and the pull of methods that have one (towards t). Conjugate
        gradients, with the diagonal and a coarse correction (matting/solvers/coarse_correction.py) as preconditioner; several right-hand
        sides at once, each with its own scalars.

Symbols  L  operator    S  known    P  pull.weight    t  pull.target    e  deviation    r  residue    p  direction
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
from matting.solvers.coarse_correction import CoarseBasis, CoarseCorrection, factor

Floats = NDArray[np.float64]
Voxels = NDArray[np.int64]
THREADS = ThreadpoolController()
"""Holds the libraries below SciPy to one thread: the order of their sums then never changes."""
KnownValues = Callable[[Voxels], Floats]
"""Gives the known values S, (voxels, columns), of known voxels of the region."""


class Status(Enum):
    """How a solve ended, with the likely cause and what to do next."""

    CONVERGED = "The solver reached its tolerance and the matte lies within 0..1."
    OUT_OF_ITERATIONS = (
        "The solver used up its iterations before it reached its tolerance; the unknown region may be very large or the"
        " tolerance too strict: raise solver.max_iterations or solver.tolerance."
    )
    BROKEN_DOWN = (
        "The system has a direction that costs nothing, so its answer is not determined; part of the unknown region is"
        " probably linked to nothing known: look at the trimap and at the method's neighbours."
    )
    STRANDED = (
        "Some unknown voxels are linked, however far one goes, only to unknown ones; the method looks at too few"
        " neighbours: raise its number of neighbours or the weight of position."
    )
    NOT_FINITE = (
        "The matte holds values that are no numbers; a weight in the parameters is probably out of proportion: go back"
        " to the defaults and change one at a time."
    )
    OUT_OF_RANGE = (
        "The matte leaves 0..1 by more than solver.range_tolerance; the local models overshoot, probably at an abrupt"
        " edge of intensity: look at the image, or raise the method's ridge."
    )


@dataclass(frozen=True, slots=True)
class Solution:
    """A matte, or why there is none."""

    alpha: Floats
    """(z, y, x), within 0..1 if converged; else the last iterate as it stands, for diagnosis only."""
    status: Status
    """How the solve ended."""
    iterations: int
    """Steps of conjugate gradients taken."""
    residual: float
    """Norm of what is left of the equations over the norm of their right-hand side, recomputed at the end."""
    clipped: float
    """How far the matte left 0..1 at worst, before it was clipped."""

    @property
    def converged(self) -> bool:
        """True where the matte may be used."""
        return self.status is Status.CONVERGED


class Operator(Protocol):
    """A symmetric positive semi-definite matrix over nodes, the unknown voxels first."""

    @property
    def voxels(self) -> Voxels:
        """(nodes,): the nodes as voxels of the region."""

    @property
    def diagonal(self) -> Floats:
        """(nodes,): L_ii."""

    def apply(self, p: Floats) -> Floats:
        """Multiply (nodes, columns) by L."""

    def coarsen(self, blocks: CoarseBasis) -> Any:
        """Give B^T L B, scipy.sparse.csr_matrix, with B the functions of the blocks on the unknown nodes."""

    def leading(self, size: int) -> "Operator":
        """Give the block of the first `size` nodes."""


@dataclass(frozen=True, slots=True)
class DataTerm:
    """What draws each unknown voxel to a value of its own."""

    weight: Floats
    """(unknown,), on the scale of the operator's entries."""
    target: Floats
    """(unknown, columns)."""

    def __add__(self, other: "DataTerm") -> "DataTerm":
        """Give the pull that does what both do together."""
        weight = self.weight + other.weight
        moment = self.weight[:, None] * self.target + other.weight[:, None] * other.target
        return DataTerm(weight, moment / np.where(weight > 0, weight, 1.0)[:, None])


@dataclass(frozen=True, slots=True)
class LinearSystem:
    """What a method asks of the solver."""

    operator: Operator
    unknown: int
    """How many of the operator's nodes are unknown."""
    pull: DataTerm | None = None
    """None for methods without such a term."""
    channels: Floats | None = None
    """(channels, unknown): what else than the intensity alpha may be a line in; None for methods without such."""
    stranded: int = 0
    """Unknown voxels without any way to a known one."""


@dataclass(frozen=True, slots=True)
class SumOperator:
    """A weighted sum of operators whose nodes differ beyond the unknown ones."""

    voxels: Voxels
    """(nodes,): the nodes of all parts as voxels of the region, the unknown ones first."""
    parts: tuple[Operator, ...]
    weights: tuple[float, ...]
    places: tuple[Voxels, ...]
    """For each part the node in the sum of each of its nodes."""

    @property
    def diagonal(self) -> Floats:
        """(nodes,): weighted sum of the diagonals."""
        total = np.zeros(len(self.voxels))
        for part, weight, place in zip(self.parts, self.weights, self.places, strict=True):
            total[place] += weight * part.diagonal
        return total

    def apply(self, p: Floats) -> Floats:
        """Multiply (nodes, columns) by the sum."""
        total = np.zeros_like(p)
        for part, weight, place in zip(self.parts, self.weights, self.places, strict=True):
            if len(place) == len(p):
                total += weight * part.apply(p)
            else:
                total[place] += weight * part.apply(p[place])
        return total

    def coarsen(self, blocks: CoarseBasis) -> Any:
        """Give B^T L B with B the functions of the blocks on the unknown nodes."""
        parts = [
            weight * part.coarsen(blocks)
            for part, weight in zip(self.parts, self.weights, strict=True)
        ]
        return sum(parts[1:], start=parts[0])

    def leading(self, size: int) -> "SumOperator":
        """Give the block of the first `size` nodes, which every part must number first and alike."""
        parts = tuple(part.leading(size) for part in self.parts)
        return SumOperator(
            self.voxels[:size], parts, self.weights, tuple(place[:size] for place in self.places)
        )


def sum_operators(unknown: int, *terms: tuple[float, Operator]) -> SumOperator:
    """Add operators that agree in their first `unknown` nodes."""
    parts = tuple(part for _, part in terms)
    known = np.unique(np.concatenate([part.voxels[unknown:] for part in parts]))
    leading = np.arange(unknown)
    places = tuple(
        np.concatenate([leading, unknown + np.searchsorted(known, part.voxels[unknown:])])
        for part in parts
    )
    voxels = np.concatenate([parts[0].voxels[:unknown], known])
    return SumOperator(voxels, parts, tuple(weight for weight, _ in terms), places)


@dataclass(frozen=True, slots=True)
class RhsSolution:
    """One right-hand side's answer on the nodes that may move."""

    voxels: Voxels
    """(nodes,), as voxels of the region."""
    values: Floats
    """(nodes,)"""
    status: Status
    iterations: int
    residual: float
    clipped: float


def solve_problem(
    problem: LinearSystem,
    targets: KnownValues,
    parameters: SolverSettings,
    blocks: CoarseBasis | None = None,
) -> list[RhsSolution]:
    """Solve for every column of the targets at once.

    Args:
        problem: The method's operator and pull.
        targets: The known values.
        parameters: Tolerance, iterations, constraint weight and range tolerance.
        blocks: Of the unknown voxels, to reach the tolerance in fewer steps.
    """
    with np.errstate(all="raise", under="ignore"), THREADS.limit(limits=1):
        known = _known_values(problem, targets)
        operator, pull, rhs = _assemble(problem, known, parameters.constraint_weight)
        deviation, iterations, residual, broken = conjugate_gradients(
            lambda p: operator.apply(p) + pull[:, None] * p if pull.any() else operator.apply(p),
            operator.diagonal + pull,
            rhs,
            tolerance=parameters.tolerance,
            max_iterations=parameters.max_iterations,
            coarse=_coarse(problem, pull, blocks),
        )
        values = known[: len(pull)] + deviation
    columns = []
    for n in range(values.shape[1]):
        alpha = values[:, n]
        clipped = float(np.abs(alpha - np.clip(alpha, 0.0, 1.0)).max(initial=0.0))
        status = _judge(problem, alpha, bool(broken[n]), float(residual[n]), clipped, parameters)
        if status is Status.CONVERGED:
            alpha = np.clip(alpha, 0.0, 1.0)
        columns.append(
            RhsSolution(
                operator.voxels, alpha, status, int(iterations[n]), float(residual[n]), clipped
            )
        )
    return columns


def _coarse(
    problem: LinearSystem, pull: Floats, blocks: CoarseBasis | None
) -> CoarseCorrection | None:
    """Factor B^T (L + P) B."""
    if blocks is None:
        return None
    if problem.channels is not None:
        blocks = blocks.lines_in(problem.channels)
    matrix = problem.operator.coarsen(blocks)
    return factor(
        blocks, matrix if problem.pull is None else matrix + blocks.weigh(pull[: problem.unknown])
    )


def _known_values(problem: LinearSystem, targets: KnownValues) -> Floats:
    """S on all nodes: 0 where unknown."""
    known = targets(problem.operator.voxels[problem.unknown :])
    return np.concatenate([np.zeros((problem.unknown, known.shape[1])), known])


def _assemble(
    problem: LinearSystem, known: Floats, constraint_weight: float | None
) -> tuple[Operator, Floats, Floats]:
    """Give the operator on the voxels that may move, P, and the right-hand side."""
    size = problem.unknown if constraint_weight is None else len(known)
    pull = np.zeros(size)
    rhs = -problem.operator.apply(known)[:size]
    if constraint_weight is not None:
        pull[problem.unknown :] = constraint_weight
    if problem.pull is not None:
        pull[: problem.unknown] = problem.pull.weight
        rhs[: problem.unknown] += problem.pull.weight[:, None] * problem.pull.target
    return problem.operator.leading(size), pull, rhs


def _judge(
    problem: LinearSystem,
    alpha: Floats,
    broken: bool,
    residual: float,
    clipped: float,
    parameters: SolverSettings,
) -> Status:
    if problem.stranded:
        return Status.STRANDED
    if not np.isfinite(alpha).all() or not np.isfinite(residual):
        return Status.NOT_FINITE
    if broken:
        return Status.BROKEN_DOWN
    if residual > parameters.tolerance:
        return Status.OUT_OF_ITERATIONS
    return Status.OUT_OF_RANGE if clipped > parameters.range_tolerance else Status.CONVERGED


def conjugate_gradients(
    apply: Callable[[Floats], Floats],
    diagonal: Floats,
    rhs: Floats,
    *,
    tolerance: float,
    max_iterations: int,
    coarse: CoarseCorrection | None = None,
) -> tuple[Floats, NDArray[np.int64], Floats, NDArray[np.bool_]]:
    """Solve A x = rhs for a symmetric positive definite A, each column by itself, from x = 0.

    A column that has arrived by the recurrence is checked against the recomputed residue, and restarted from it if
    rounding has led the recurrence astray.

    Args:
        apply: Multiplies (n, columns) by A.
        diagonal: (n,), A's diagonal, the preconditioner.
        rhs: (n, columns).
        tolerance: Norm of the residue over that of the right-hand side at which a column has arrived.
        max_iterations: Steps at most.
        coarse: What the preconditioner adds to the diagonal.

    Returns:
        x (n, columns), and per column: steps taken, final relative residual, whether it broke down.
    """
    x, residue = np.zeros_like(rhs), rhs.copy()
    scale = np.sqrt(_dots(rhs, rhs))
    goal = tolerance * scale
    moving = scale > 0
    iterations, broken = np.zeros(len(scale), np.int64), np.zeros(len(scale), bool)
    inverse = np.divide(1.0, diagonal, out=np.zeros_like(diagonal), where=diagonal > 0)
    direction = _precondition(residue, inverse, coarse)
    energy = _dots(residue, direction)
    while moving.any() and iterations.max() < max_iterations:
        image = apply(direction)
        curvature = _dots(direction, image)
        broken |= moving & ~(curvature > 0)
        moving &= ~broken
        step = np.divide(energy, curvature, out=np.zeros_like(energy), where=moving)
        square = _advance(x, residue, direction, image, step)
        iterations += moving
        arrived = moving & (np.sqrt(square) <= goal)
        if arrived.any():
            residue[:, arrived] = (rhs - apply(x))[:, arrived]
            moving &= ~(arrived & (np.sqrt(_dots(residue, residue)) <= goal))
            if not moving.any():
                break
        corrected = _precondition(residue, inverse, coarse)
        fresh = _dots(residue, corrected)
        turn = np.divide(fresh, energy, out=np.zeros_like(energy), where=moving & ~arrived)
        _turn(direction, corrected, turn)
        energy = fresh
    left = rhs - apply(x)
    residual = np.divide(
        np.sqrt(_dots(left, left)), scale, out=np.zeros_like(scale), where=scale != 0
    )
    return x, iterations, residual, broken


def _precondition(residue: Floats, inverse: Floats, coarse: CoarseCorrection | None) -> Floats:
    """z, from the residue."""
    corrected: Floats = inverse[:, None] * residue
    if coarse is not None:
        coarse.correct(residue, corrected)
    return corrected


@kernel
def _dots(a: Floats, b: Floats) -> Floats:
    """Inner product of each column, summed in raster order."""
    out = np.zeros(a.shape[1])
    for n in range(a.shape[0]):
        for column in range(a.shape[1]):
            out[column] += a[n, column] * b[n, column]
    return out


@kernel
def _advance(x: Floats, residue: Floats, direction: Floats, image: Floats, step: Floats) -> Floats:
    """One step, x += step p and r -= step A p; give r.r, summed as `_dots`."""
    square = np.zeros(x.shape[1])
    for n in range(x.shape[0]):
        for column in range(x.shape[1]):
            x[n, column] += step[column] * direction[n, column]
            left = residue[n, column] - step[column] * image[n, column]
            residue[n, column] = left
            square[column] += left * left
    return square


@kernel
def _turn(direction: Floats, corrected: Floats, turn: Floats) -> None:
    """The next direction, p = z + turn p."""
    for n in range(direction.shape[0]):
        for column in range(direction.shape[1]):
            direction[n, column] = corrected[n, column] + turn[column] * direction[n, column]

"""The eight mattes of a nodule, and the metrics that compare them without a ground truth."""

import math
from dataclasses import asdict

import numpy as np

from matting import METHODS, Solution, estimate_alphas
from matting.errors import InputError
from matting.geometry.patch import Patch
from matting.geometry.trimap import UNKNOWN, Trimap
from matting.measures.baselines import hu_linear, readers_mean
from matting.measures.candidates import (
    CandidateMetrics,
    candidate_metrics,
    pairwise_differences,
)
from matting.measures.metrics import mean_absolute_error
from matting.solvers.solve_domain import to_intensity
from storage.records import CandidateScores, SolverReport
from tasks.curation.context import NoduleContext


def estimate_mattes(context: NoduleContext, patch: Patch, trimap: Trimap) -> dict[str, Solution]:
    """Estimate the eight mattes; raises InputError where none of them converged."""
    with context.timed_stage("solve"):
        solutions = estimate_alphas(
            patch.image_hu,
            trimap.labels,
            spacing_mm=patch.grid.spacing_mm,
            methods=METHODS,
            parameters=context.recipe.parameters,
            readers=patch.readers,
        )
        context.reports = {name: _report(solution) for name, solution in solutions.items()}
        if not any(solution.converged for solution in solutions.values()):
            raise InputError(
                "no method converged",
                got="; ".join(
                    f"{name}: {solution.status.value}" for name, solution in solutions.items()
                ),
                expected="at least one matte",
                remedy="Check the image and the masks of this nodule.",
            )
        return solutions


def score_candidates(
    context: NoduleContext, patch: Patch, trimap: Trimap, solutions: dict[str, Solution]
) -> None:
    """Compute candidate metrics and, on synthetic scans, errors against known alpha."""
    with context.timed_stage("judge"):
        unknown = trimap.labels == UNKNOWN
        intensity = to_intensity(patch.image_hu, context.recipe.solver.intensity_range_hu)
        metrics = candidate_metrics(
            solutions, intensity, unknown, patch.readers, spacing_mm=patch.grid.spacing_mm
        )
        pairs = pairwise_differences(solutions, unknown)
        context.scores = CandidateScores(
            methods={one.method: _rounded(one) for one in metrics},
            differences={
                f"{pair.first}|{pair.second}": round(pair.difference, 6) for pair in pairs
            },
            tied=tuple((pair.first, pair.second) for pair in pairs if pair.tied),
        )
        if patch.known_alpha is not None:
            context.errors = _errors(patch, trimap, solutions)


def _rounded(metrics: CandidateMetrics) -> dict[str, float]:
    return {name: round(value, 6) for name, value in asdict(metrics).items() if name != "method"}


def _report(solution: Solution) -> SolverReport:
    residual = float(f"{solution.residual:.3g}") if math.isfinite(solution.residual) else None
    return SolverReport(
        status=solution.status.value,
        converged=solution.converged,
        iterations=solution.iterations,
        residual=residual,
        clipped=float(f"{solution.clipped:.3g}"),
    )


def _errors(patch: Patch, trimap: Trimap, solutions: dict[str, Solution]) -> dict[str, float]:
    """Return the mean absolute error over unknown voxels, of converged mattes and baselines."""
    truth = np.asarray(patch.known_alpha, np.float64)
    region = trimap.labels == UNKNOWN
    mattes = {name: solution.alpha for name, solution in solutions.items() if solution.converged}
    mattes |= {"readers_mean": readers_mean(patch.readers), "hu_linear": hu_linear(patch.image_hu)}
    errors = {name: mean_absolute_error(matte, truth, region) for name, matte in mattes.items()}
    errors["best_reader"] = min(
        mean_absolute_error(mask.astype(np.float64), truth, region) for mask in patch.readers
    )
    return {name: round(error, 6) for name, error in errors.items()}

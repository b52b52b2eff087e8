"""The eight mattes of a nodule, and how good each looks without a truth to hold it against."""

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
    rank,
)
from matting.measures.metrics import mean_absolute_error
from matting.solvers.solve_domain import to_intensity
from tasks.curation.context import NoduleContext


def solve_eight(record: NoduleContext, patch: Patch, trimap: Trimap) -> dict[str, Solution]:
    """Estimate the eight mattes; refuses where none of them converged."""
    with record.at("solve"):
        solutions = estimate_alphas(
            patch.image_hu,
            trimap.labels,
            spacing_mm=patch.grid.spacing_mm,
            methods=METHODS,
            parameters=record.recipe.parameters,
        )
        record.facts["reports"] = {name: _report(solution) for name, solution in solutions.items()}
        if not any(solution.converged for solution in solutions.values()):
            raise InputError(
                "no method gave a matte",
                got="; ".join(
                    f"{name}: {solution.status.value}" for name, solution in solutions.items()
                ),
                expected="at least one that converged",
                remedy="Look at the image and the masks of this nodule.",
            )
        return solutions


def score_candidates(
    record: NoduleContext, patch: Patch, trimap: Trimap, solutions: dict[str, Solution]
) -> None:
    """Note the candidate figures and, on simulated scans, the errors against the known alpha."""
    with record.at("judge"):
        unknown = trimap.labels == UNKNOWN
        intensity = to_intensity(patch.image_hu, record.recipe.solver.intensity_range_hu)
        figures = candidate_metrics(
            solutions, intensity, unknown, patch.readers, spacing_mm=patch.grid.spacing_mm
        )
        pairs = pairwise_differences(solutions, unknown)
        record.facts["figures"] = {
            "methods": {figure.method: _rounded(figure) for figure in figures},
            "differences": {
                f"{pair.first}|{pair.second}": round(pair.difference, 6) for pair in pairs
            },
            "tied": [[pair.first, pair.second] for pair in pairs if pair.tied],
            "ranking": rank(figures),
        }
        if patch.known_alpha is not None:
            record.facts["errors"] = _errors(patch, trimap, solutions)


def _rounded(figure: CandidateMetrics) -> dict[str, float]:
    return {name: round(value, 6) for name, value in asdict(figure).items() if name != "method"}


def _report(solution: Solution) -> dict[str, object]:
    return {
        "status": solution.status.value,
        "converged": solution.converged,
        "iterations": solution.iterations,
        "residual": float(f"{solution.residual:.3g}") if math.isfinite(solution.residual) else None,
        "clipped": float(f"{solution.clipped:.3g}"),
    }


def _errors(patch: Patch, trimap: Trimap, solutions: dict[str, Solution]) -> dict[str, float]:
    """Mean absolute error in the unknown region against the known alpha: mattes that converged, then trivial rows."""
    truth = np.asarray(patch.known_alpha, np.float64)
    region = trimap.labels == UNKNOWN
    mattes = {name: solution.alpha for name, solution in solutions.items() if solution.converged}
    mattes |= {"readers_mean": readers_mean(patch.readers), "hu_linear": hu_linear(patch.image_hu)}
    errors = {name: mean_absolute_error(matte, truth, region) for name, matte in mattes.items()}
    errors["best_reader"] = min(
        mean_absolute_error(mask.astype(np.float64), truth, region) for mask in patch.readers
    )
    return {name: round(error, 6) for name, error in errors.items()}

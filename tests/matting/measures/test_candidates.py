"""Figures of candidates: each is best where it should be, and the pick follows them."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest

from matting.measures.candidates import (
    CandidateMetrics,
    candidate_metrics,
    pairwise_differences,
)
from matting.solvers.conjugate_gradient import Solution, Status
from matting.targets import rank

SHAPE = (30, 40, 40)
SPACING = (1.0, 0.5, 0.5)


def ball(radius_mm: float, softness_mm: float = 1.0) -> np.ndarray:
    grid = np.stack(
        np.meshgrid(*(np.arange(n) * s for n, s in zip(SHAPE, SPACING, strict=True)), indexing="ij")
    )
    centre = np.array([(n - 1) * s / 2 for n, s in zip(SHAPE, SPACING, strict=True)])
    distance = np.sqrt(((grid - centre[:, None, None, None]) ** 2).sum(axis=0))
    return np.clip(0.5 + (radius_mm - distance) / softness_mm, 0.0, 1.0)


TRUTH = ball(5.0)
READERS = np.stack([ball(radius) > 0.5 for radius in (4.6, 4.9, 5.1, 5.4)])
INTENSITY = 0.1 + 0.6 * TRUTH
UNKNOWN = (ball(7.0) > 0.5) & (ball(3.0) < 0.5)


def solution(
    alpha: np.ndarray, *, status: Status = Status.CONVERGED, clipped: float = 0.0
) -> Solution:
    return Solution(alpha, status, 10, 1e-8, clipped)


def figures_of(**alphas: np.ndarray) -> dict[str, CandidateMetrics]:
    solutions = {name: solution(alpha) for name, alpha in alphas.items()}
    found = candidate_metrics(solutions, INTENSITY, UNKNOWN, READERS, spacing_mm=SPACING)
    return {figures.method: figures for figures in found}


def test_the_true_matte_explains_the_image_best() -> None:
    figures = figures_of(truth=TRUTH, small=ball(4.0), large=ball(6.0), flat=np.full(SHAPE, 0.5))
    best = min(figures.values(), key=lambda f: f.compositing_residual)
    assert best.method == "truth"
    assert best.compositing_residual < 1e-3 < 0.01 < figures["small"].compositing_residual


def test_agreement_is_best_for_what_the_readers_drew() -> None:
    figures = figures_of(mean=READERS.mean(axis=0), small=ball(3.0), large=ball(7.0))
    assert min(figures.values(), key=lambda f: f.cross_entropy).method == "mean"


def test_cross_entropy_by_hand() -> None:
    readers = np.zeros((4, *SHAPE), bool)
    readers[:2, 15, 20, 20] = True
    readers[2:, 15, 20, 20] = True
    alpha = np.zeros(SHAPE)
    found = candidate_metrics(
        {"a": solution(alpha)}, INTENSITY, UNKNOWN, readers, spacing_mm=(5.1, 5.1, 5.1)
    )
    assert found[0].cross_entropy == pytest.approx(-math.log(1e-3))
    found = candidate_metrics(
        {"a": solution(alpha)}, INTENSITY, UNKNOWN, readers, spacing_mm=(5.0, 5.1, 5.1)
    )
    assert found[0].cross_entropy == pytest.approx((-math.log(1e-3) - 2 * math.log(1 - 1e-3)) / 3)


def test_mass_outside_is_the_share_beyond_every_reader() -> None:
    union = READERS.any(axis=0)
    alpha = np.where(union, 0.5, 0.0)
    alpha[0, 0, 0] = 0.25 * union.sum()
    figures = figures_of(inside=np.where(union, 0.7, 0.0), split=alpha, none=np.zeros(SHAPE))
    assert figures["inside"].mass_outside == 0.0
    assert figures["none"].mass_outside == 0.0
    near = np.where(UNKNOWN & ~union, 0.5, np.where(union, 0.5, 0.0))
    assert figures_of(near=near)["near"].mass_outside == pytest.approx(
        (UNKNOWN & ~union).sum() / (UNKNOWN | union).sum()
    )


def test_jumps_between_slices_show() -> None:
    steps = TRUTH.copy()
    steps[::2] *= 0.7
    figures = figures_of(smooth=TRUTH, jumping=steps)
    assert figures["jumping"].slice_roughness > 1.5 * figures["smooth"].slice_roughness


def test_the_same_bend_along_every_axis_has_roughness_one() -> None:
    squares = sum((np.indices(SHAPE)[axis] * SPACING[axis]) ** 2 for axis in range(3))
    assert figures_of(bowl=squares / squares.max())["bowl"].slice_roughness == pytest.approx(1.0)


def test_without_unknown_voxels_nothing_is_rough() -> None:
    solutions = {"a": solution(TRUTH)}
    nothing = np.zeros(SHAPE, bool)
    found = candidate_metrics(solutions, INTENSITY, nothing, READERS, spacing_mm=SPACING)[0]
    assert found.slice_roughness == found.compositing_residual == 0.0
    assert (
        pairwise_differences({"a": solution(TRUTH), "b": solution(0 * TRUTH)}, nothing)[
            0
        ].difference
        == 0.0
    )


def test_what_did_not_converge_is_no_candidate() -> None:
    solutions = {
        "bad": solution(TRUTH, status=Status.OUT_OF_ITERATIONS),
        "good": solution(TRUTH, clipped=0.2),
        "also": solution(ball(4.0)),
    }
    found = candidate_metrics(solutions, INTENSITY, UNKNOWN, READERS, spacing_mm=SPACING)
    assert [figures.method for figures in found] == ["good", "also"]
    assert found[0].clipped == 0.2
    assert [(p.first, p.second) for p in pairwise_differences(solutions, UNKNOWN)] == [
        ("good", "also")
    ]


@pytest.mark.parametrize(("shift", "tied"), [(0.0049, True), (0.0051, False)])
def test_candidates_closer_than_the_limit_are_tied(shift: float, tied: bool) -> None:
    pair = pairwise_differences({"a": solution(TRUTH), "b": solution(TRUTH + shift)}, UNKNOWN)[0]
    assert pair.difference == pytest.approx(shift)
    assert pair.tied is tied


def test_figures_are_plain_numbers() -> None:
    solutions = {"a": solution(TRUTH), "b": solution(ball(4.0))}
    found = candidate_metrics(solutions, INTENSITY, UNKNOWN, READERS, spacing_mm=SPACING)
    pairs = pairwise_differences(solutions, UNKNOWN)
    assert json.loads(json.dumps([asdict(f) for f in found])) == [asdict(f) for f in found]
    assert json.loads(json.dumps([asdict(p) for p in pairs])) == [asdict(p) for p in pairs]


def test_the_true_matte_is_picked() -> None:
    figures = figures_of(large=ball(6.5), truth=TRUTH, small=ball(3.5))
    assert rank({name: asdict(one) for name, one in figures.items()}, "opacity")[0] == "truth"

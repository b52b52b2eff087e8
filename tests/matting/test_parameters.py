"""Every parameter of the solvers refuses what makes no sense, just outside its bounds and not just inside."""

import math

import pytest

from matting.parameters import ClosedForm, Density, InformationFlow, Knn, LearningBased, Solver
from matting.refusal import Refusal

CASES = [
    (Solver, "intensity_range_hu", [(400.0, 400.0), (1.0, 0.0)], [(399.0, 400.0)]),
    (Solver, "search_margin_mm", [-0.1], [0.0]),
    (Solver, "position_scale_mm", [0.0, math.inf], [1e-3]),
    (Solver, "tolerance", [0.0, 1.0, -1.0], [1e-12, 0.9]),
    (Solver, "max_iterations", [0], [1]),
    (Solver, "constraint_weight", [0.0, -1.0, math.inf], [None, 1e-3]),
    (Solver, "range_tolerance", [-0.1], [0.0, math.inf]),
    (Density, "width_hu", [0.0], [1.0]),
    (Density, "fall_hu", [0.0], [1.0]),
    (Density, "high_hu", [149.0], [150.0, None]),
    (Solver, "intensity_curve", [-0.1, math.inf], [0.0, 3.0]),
    (ClosedForm, "epsilon", [0.0], [1e-12]),
    (ClosedForm, "ramp_strength", [-1e-9, math.inf], [0.0]),
    (ClosedForm, "rim_strength", [-0.1, math.inf], [0.0]),
    (ClosedForm, "rim_mm", [0.0, math.inf], [1e-3]),
    (ClosedForm, "mean_reach_mm", [-1.0, math.inf], [0.0]),
    (ClosedForm, "trusted_variance", [0.0, math.inf], [None, 1e-9]),
    (Knn, "neighbours", [(10,), (0, 2)], [(1, 1)]),
    (Knn, "position_weights", [(1.0,), (1.0, 0.0)], [(1.0, 1e-3)]),
    (Knn, "intensity_weight", [0.0], [1e-3]),
    (LearningBased, "ridge", [0.0], [1e-9]),
    (LearningBased, "ramp_strength", [-1e-9], [0.0]),
    (LearningBased, "rim_strength", [math.inf], [0.0]),
    (LearningBased, "rim_mm", [0.0], [1e-3]),
    (LearningBased, "mean_reach_mm", [-1.0], [0.0]),
    (LearningBased, "trusted_variance", [0.0], [None]),
    (LearningBased, "windows", ["all"], ["touching"]),
    (LearningBased, "kernel", ["cubic"], ["gaussian"]),
    (LearningBased, "kernel_width", [0.0], [1e-3]),
    (InformationFlow, "mixture_neighbours", [0], [1]),
    (InformationFlow, "mixture_position_weight", [0.0], [1e-3]),
    (InformationFlow, "mixture_ridge", [0.0], [1e-9]),
    (InformationFlow, "known_neighbours", [0], [1]),
    (InformationFlow, "known_position_weight", [0.0], [1e-3]),
    (InformationFlow, "known_strength", [-0.1], [0.0]),
    (InformationFlow, "intra_neighbours", [0], [1]),
    (InformationFlow, "intra_position_weight", [0.0], [1e-3]),
    (InformationFlow, "intra_strength", [-0.1], [0.0]),
    (InformationFlow, "local_epsilon", [0.0], [1e-9]),
    (InformationFlow, "local_mean_reach_mm", [-1.0], [0.0]),
    (InformationFlow, "local_trusted_variance", [0.0], [None]),
    (InformationFlow, "local_strength", [0.0], [1e-9]),
    (InformationFlow, "ramp_strength", [-1e-9], [0.0]),
    (InformationFlow, "rim_strength", [-0.1], [0.0]),
    (InformationFlow, "rim_mm", [0.0], [1e-3]),
]


@pytest.mark.parametrize(("section", "name", "value"), [(s, n, v) for s, n, bad, _ in CASES for v in bad])
def test_refuses(section: type, name: str, value: object) -> None:
    with pytest.raises(Refusal, match=rf"{name}.* out of bounds"):
        section(**{name: value})


@pytest.mark.parametrize(("section", "name", "value"), [(s, n, v) for s, n, _, good in CASES for v in good])
def test_accepts(section: type, name: str, value: object) -> None:
    assert getattr(section(**{name: value}), name) == value


def test_every_field_of_the_solvers_sections_is_bounded_or_free_on_purpose() -> None:
    free = {(Density, "level_hu")}
    sections = (Solver, Density, ClosedForm, Knn, LearningBased, InformationFlow)
    every = {(section, name) for section in sections for name in section.__dataclass_fields__}
    assert every == {(section, name) for section, name, _, _ in CASES} | free

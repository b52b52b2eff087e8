"""Every parameter of the solvers is refused just outside its bounds, accepted just inside."""

import math
from dataclasses import fields, replace

import pytest

from matting.errors import InputError
from matting.parameters import (
    IMPROVED_RESAMPLE,
    IMPROVED_TRIMAP,
    ClosedFormSettings,
    DensitySettings,
    InformationFlowSettings,
    KnnSettings,
    LearningBasedSettings,
    Parameters,
    PriorSettings,
    ResampleSettings,
    SolverSettings,
    TrimapSettings,
    form_of,
)

CASES = [
    (SolverSettings, "intensity_range_hu", [(400.0, 400.0), (1.0, 0.0)], [(399.0, 400.0)]),
    (SolverSettings, "search_margin_mm", [-0.1], [0.0]),
    (SolverSettings, "position_scale_mm", [0.0, math.inf], [1e-3, None]),
    (SolverSettings, "tolerance", [0.0, 1.0, -1.0], [1e-12, 0.9]),
    (SolverSettings, "max_iterations", [0], [1]),
    (SolverSettings, "constraint_weight", [0.0, -1.0, math.inf], [None, 1e-3]),
    (SolverSettings, "range_tolerance", [-0.1], [0.0, math.inf]),
    (DensitySettings, "width_hu", [0.0], [1.0]),
    (DensitySettings, "fall_hu", [0.0], [1.0]),
    (DensitySettings, "high_hu", [149.0], [150.0, None]),
    (SolverSettings, "intensity_curve", [-0.1, math.inf], [0.0, 3.0]),
    (ClosedFormSettings, "epsilon", [0.0], [1e-12]),
    (ClosedFormSettings, "mean_reach_mm", [-1.0, math.inf], [0.0]),
    (ClosedFormSettings, "trusted_variance", [0.0, math.inf], [None, 1e-9]),
    (KnnSettings, "neighbours", [(10,), (0, 2)], [(1, 1)]),
    (KnnSettings, "position_weights", [(1.0,), (1.0, 0.0)], [(1.0, 1e-3)]),
    (KnnSettings, "intensity_weight", [0.0], [1e-3]),
    (LearningBasedSettings, "ridge", [0.0], [1e-9]),
    (LearningBasedSettings, "mean_reach_mm", [-1.0], [0.0]),
    (LearningBasedSettings, "trusted_variance", [0.0], [None]),
    (LearningBasedSettings, "windows", ["all"], ["touching"]),
    (LearningBasedSettings, "kernel", ["cubic"], ["gaussian"]),
    (LearningBasedSettings, "kernel_width", [0.0], [1e-3]),
    (InformationFlowSettings, "mixture_neighbours", [0], [1]),
    (InformationFlowSettings, "mixture_position_weight", [0.0], [1e-3]),
    (InformationFlowSettings, "mixture_ridge", [0.0], [1e-9]),
    (InformationFlowSettings, "known_neighbours", [0], [1]),
    (InformationFlowSettings, "known_position_weight", [0.0], [1e-3]),
    (InformationFlowSettings, "known_strength", [-0.1], [0.0]),
    (InformationFlowSettings, "intra_neighbours", [0], [1]),
    (InformationFlowSettings, "intra_position_weight", [0.0], [1e-3]),
    (InformationFlowSettings, "intra_strength", [-0.1], [0.0]),
    (InformationFlowSettings, "local_epsilon", [0.0], [1e-9]),
    (InformationFlowSettings, "local_mean_reach_mm", [-1.0], [0.0]),
    (InformationFlowSettings, "local_trusted_variance", [0.0], [None]),
    (InformationFlowSettings, "local_strength", [0.0], [1e-9]),
    (PriorSettings, "width_mm", [0.0, math.inf], [1e-3]),
    (PriorSettings, "density_weight", [-0.1, math.inf], [0.0]),
    (PriorSettings, "closed_form", [-1e-9], [0.0]),
    (PriorSettings, "knn", [-1e-9], [0.0]),
    (PriorSettings, "learning_based", [math.inf], [0.0]),
    (PriorSettings, "information_flow", [math.nan], [0.0]),
]


@pytest.mark.parametrize(
    ("section", "name", "value"), [(s, n, v) for s, n, bad, _ in CASES for v in bad]
)
def test_refuses(section: type, name: str, value: object) -> None:
    with pytest.raises(InputError, match=rf"{name}.* out of bounds"):
        section(**{name: value})


@pytest.mark.parametrize(
    ("section", "name", "value"), [(s, n, v) for s, n, _, good in CASES for v in good]
)
def test_accepts(section: type, name: str, value: object) -> None:
    assert getattr(section(**{name: value}), name) == value


def test_every_field_of_the_solvers_sections_is_bounded_or_free_on_purpose() -> None:
    free = {
        (DensitySettings, "level_hu"),
        (KnnSettings, "search_known"),
        (InformationFlowSettings, "edge_trimming"),
        (InformationFlowSettings, "patch_trimming"),
    }
    sections = (
        SolverSettings,
        DensitySettings,
        ClosedFormSettings,
        KnnSettings,
        LearningBasedSettings,
        InformationFlowSettings,
        PriorSettings,
    )
    every = {(section, name) for section in sections for name in section.__dataclass_fields__}
    assert every == {(section, name) for section, name, _, _ in CASES} | free


def test_both_forms_know_their_names() -> None:
    assert (
        Parameters().form == form_of(Parameters(), TrimapSettings(), ResampleSettings()) == "paper"
    )
    improved = Parameters.improved()
    assert improved.form == form_of(improved, IMPROVED_TRIMAP, IMPROVED_RESAMPLE) == "improved"


@pytest.mark.parametrize("form", [Parameters(), Parameters.improved()], ids=lambda one: one.form)
@pytest.mark.parametrize(
    ("section", "name", "value"),
    [(s, n, v) for s, n, _, good in CASES for v in good],
)
def test_one_other_value_makes_a_form_custom(
    form: Parameters, section: type, name: str, value: object
) -> None:
    held_by = next(f.name for f in fields(Parameters) if type(getattr(form, f.name)) is section)
    before = getattr(form, held_by)
    if name in ("neighbours", "position_weights") and len(value) != 2:
        pytest.skip("the two go together")
    after = replace(form, **{held_by: replace(before, **{name: value})})
    assert after.form == (form.form if getattr(before, name) == value else "custom")


@pytest.mark.parametrize(
    ("trimap", "resample"),
    [
        (TrimapSettings(dilation_mm=9.0), ResampleSettings()),
        (TrimapSettings(), ResampleSettings(spacing_mm=0.9)),
    ],
)
def test_another_trimap_or_grid_makes_a_form_custom(
    trimap: TrimapSettings, resample: ResampleSettings
) -> None:
    assert form_of(Parameters(), trimap, resample) == "custom"
    assert form_of(Parameters.improved(), trimap, resample) == "custom"


def test_the_paper_form_has_no_term_that_the_paper_has_not() -> None:
    parameters = Parameters()
    assert parameters.solver.intensity_curve == 0.0
    assert not parameters.prior.used
    windows = (parameters.closed_form, parameters.learning_based)
    assert all(one.mean_reach_mm == 0 and one.trusted_variance is None for one in windows)
    assert parameters.information_flow.local_mean_reach_mm == 0.0
    assert parameters.information_flow.local_trusted_variance is None

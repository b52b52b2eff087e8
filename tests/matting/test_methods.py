"""The eight methods against dense twins written from the papers' formulas."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matting import METHODS, Parameters, Status, estimate_alphas, solve
from matting.parameters import (
    ClosedFormSettings,
    DensitySettings,
    InformationFlowSettings,
    KnnSettings,
    LearningBasedSettings,
    PriorSettings,
    SolverSettings,
)
from matting.solvers.foreground_target import foreground_target
from tests import laws, references
from tests.references import EVERY_TERM, Scene, random_scene

STRICT = SolverSettings(
    tolerance=1e-12, search_margin_mm=1000.0, position_scale_mm=6.0, range_tolerance=math.inf
)
PAPER = Parameters(solver=STRICT)
PARAMETERS = replace(EVERY_TERM, solver=replace(STRICT, intensity_curve=1.0))
VARIANTS = {
    "cf": [
        Parameters(
            solver=STRICT,
            closed_form=ClosedFormSettings(epsilon=0.05),
        ),
        Parameters(
            solver=STRICT,
            closed_form=ClosedFormSettings(mean_reach_mm=2.0),
            prior=PriorSettings(width_mm=2.5, density_weight=0.8, closed_form=0.7),
        ),
    ],
    "knn": [
        Parameters(solver=STRICT, knn=KnnSettings((3, 2, 4), (2.0, 0.3, 0.05), 1.7)),
        Parameters(solver=STRICT, prior=PriorSettings(width_mm=1.0, knn=2.0)),
    ],
    "lb": [
        Parameters(
            solver=STRICT,
            learning_based=LearningBasedSettings(ridge=0.02, mean_reach_mm=2.5),
        ),
        Parameters(
            solver=STRICT,
            learning_based=LearningBasedSettings(
                trusted_variance=1e-4,
                windows="touching",
                kernel="gaussian",
                kernel_width=0.3,
            ),
            prior=PriorSettings(learning_based=0.3),
        ),
        Parameters(
            solver=STRICT,
            learning_based=LearningBasedSettings(ridge=0.1, windows="touching", kernel="gaussian"),
        ),
    ],
    "if": [
        Parameters(
            solver=STRICT,
            information_flow=InformationFlowSettings(
                9,
                0.7,
                0.03,
                4,
                3.0,
                0.6,
                3,
                0.4,
                0.2,
                1e-3,
                0.3,
            ),
        ),
        Parameters(solver=STRICT, prior=PriorSettings(information_flow=0.2)),
    ],
}


def known_values(scene: Scene, density: DensitySettings) -> np.ndarray:
    foreground = scene.foreground.ravel()
    plus = np.where(foreground, foreground_target(scene.hu.ravel(), density), 0.0)
    return np.stack([foreground.astype(float), plus], axis=1)


def expected(family: str, scene: Scene, parameters: Parameters) -> dict[str, np.ndarray]:
    known = known_values(scene, parameters.density)
    operator, pull, target = references.system(family, scene, known, parameters)
    if parameters.solver.constraint_weight is None:
        alphas = references.solve(operator, scene, known, pull, target)
    else:
        alphas = references.solve_weighted(
            operator, scene, known, parameters.solver.constraint_weight, pull, target
        )
    return {
        family + form: alphas[:, n].reshape(scene.intensity.shape)
        for n, form in enumerate(("", "+"))
    }


def agrees(family: str, scene: Scene, parameters: Parameters) -> None:
    solved = estimate_alphas(
        scene.hu,
        scene.trimap,
        spacing_mm=scene.spacing_mm,
        methods=(family, family + "+"),
        parameters=parameters,
        readers=scene.readers,
    )
    for method, alpha in expected(family, scene, parameters).items():
        assert solved[method].status is Status.CONVERGED
        np.testing.assert_allclose(solved[method].alpha, alpha, atol=1e-6)


@pytest.mark.parametrize("family", ["cf", "knn", "lb", "if"])
@pytest.mark.parametrize("parameters", [PAPER, PARAMETERS], ids=["paper", "every-term"])
@pytest.mark.parametrize("ties", [False, True])
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_equals_its_dense_twin(family: str, ties: bool, parameters: Parameters, seed: int) -> None:
    agrees(family, random_scene(seed, ties=ties), parameters)


@pytest.mark.parametrize("family", ["knn", "if"])
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_paper_form_measures_position_over_the_longest_side_of_the_box(
    family: str, seed: int
) -> None:
    scene = random_scene(seed)
    side_mm = max(n * mm for n, mm in zip(scene.intensity.shape, scene.spacing_mm, strict=True))
    whole = replace(PAPER, solver=replace(STRICT, position_scale_mm=None))
    measured = replace(PAPER, solver=replace(STRICT, position_scale_mm=side_mm))
    over_the_box, over_its_side = (
        solve(
            family,
            scene.hu,
            scene.trimap,
            spacing_mm=scene.spacing_mm,
            parameters=parameters,
            readers=scene.readers,
        )
        for parameters in (whole, measured)
    )
    assert np.array_equal(over_the_box.alpha, over_its_side.alpha)
    agrees(family, replace(scene, position_scale_mm=side_mm), whole)


@pytest.mark.parametrize(
    ("family", "variant"),
    [(family, n) for family in VARIANTS for n in range(len(VARIANTS[family]))],
)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_equals_its_dense_twin_with_every_parameter_moved(
    family: str, variant: int, seed: int
) -> None:
    agrees(family, random_scene(seed), VARIANTS[family][variant])


def paper_form(scene: Scene, **information_flow: Any) -> Parameters:
    """The literature's values: no term of ours, position over the longest side of the box."""
    return Parameters(
        solver=replace(STRICT, intensity_curve=0.0, position_scale_mm=scene.longest_side_mm),
        closed_form=ClosedFormSettings(1e-7, 0.0, None),
        knn=KnnSettings((10, 2), (1.0, 0.01), 1.0, search_known=True),
        learning_based=LearningBasedSettings(1e-7, 0.0, None, windows="centred"),
        information_flow=InformationFlowSettings(
            intra_strength=0.01,
            local_epsilon=1e-6,
            local_mean_reach_mm=0.0,
            local_trusted_variance=None,
            **information_flow,
        ),
    )


PAPER_VARIANTS = {
    "cf": {},
    "knn": {},
    "lb": {},
    "if": {"local_strength": 1.0},
    "if, local term over 27": {"local_strength": 1.0 / 27.0},
    "if, trimmed by edges": {"local_strength": 1.0 / 27.0, "edge_trimming": True},
    "if, trimmed by patches": {"local_strength": 1.0 / 27.0, "patch_trimming": True},
    "if, trimmed both ways": {
        "local_strength": 1.0 / 27.0,
        "edge_trimming": True,
        "patch_trimming": True,
    },
}


def smooth_scene(seed: int) -> Scene:
    """A lesion that fades into lung with noise: both trimmings find voxels in it."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(7, 9, 3))
    centre = np.array(shape) / 2.0
    spacing = rng.uniform(0.6, 1.2, 3)
    far = np.sqrt((((np.indices(shape).T - centre) * spacing) ** 2).sum(axis=-1)).T
    intensity = np.clip(0.15 + 0.7 / (1.0 + np.exp(3.0 * (far - 2.0))), 0.0, 1.0)
    intensity = np.clip(intensity + rng.normal(0.0, 0.01, shape), 0.0, 1.0)
    foreground = far < 1.2
    unknown = (far < 3.2) & ~foreground
    scene = Scene(intensity, unknown, foreground, tuple(spacing.tolist()))
    return replace(scene, position_scale_mm=scene.longest_side_mm)


@pytest.mark.parametrize("variant", PAPER_VARIANTS)
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("smooth", [False, True])
def test_the_papers_form_equals_its_dense_twin(variant: str, seed: int, smooth: bool) -> None:
    scene = smooth_scene(seed) if smooth else random_scene(seed)
    scene = replace(scene, position_scale_mm=scene.longest_side_mm)
    agrees(variant.split(",")[0], scene, paper_form(scene, **PAPER_VARIANTS[variant]))


@pytest.mark.parametrize("ties", [False, True])
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_known_voxels_that_search_equal_their_dense_twin(ties: bool, seed: int) -> None:
    scene = random_scene(seed, ties=ties)
    agrees("knn", scene, replace(PARAMETERS, knn=KnnSettings(search_known=True)))


@pytest.mark.parametrize("trimming", ["edge_trimming", "patch_trimming"])
def test_each_trimming_moves_the_matte_and_leaves_readers_marks_alone(trimming: str) -> None:
    scene = smooth_scene(1)
    regions = (scene.foreground, scene.background)
    by_edges = references.trimmed_by_edges(scene)
    by_patches = references.trimmed_by_patches(scene, regions)
    found = by_edges if trimming == "edge_trimming" else by_patches
    assert any((region & scene.unknown).any() for region in found)
    assert not (found[0] & found[1]).any()
    before, after = (
        solve(
            "if+",
            scene.hu,
            scene.trimap,
            spacing_mm=scene.spacing_mm,
            parameters=parameters,
            readers=scene.readers,
        )
        for parameters in (paper_form(scene), paper_form(scene, **{trimming: True}))
    )
    laws.keeps_known(
        after, scene.trimap, foreground_target(scene.hu[scene.foreground], DensitySettings())
    )
    assert np.abs(before.alpha - after.alpha).max() > 1e-4


@pytest.mark.parametrize("family", ["cf", "knn", "lb", "if"])
@pytest.mark.parametrize("weight", [0.5, 1e4])
def test_constraint_weight_equals_eq_18(family: str, weight: float) -> None:
    parameters = replace(PARAMETERS, solver=replace(PARAMETERS.solver, constraint_weight=weight))
    agrees(family, random_scene(5), parameters)


@pytest.mark.parametrize("method", METHODS)
def test_a_growing_constraint_weight_tends_to_exact_elimination(method: str) -> None:
    scene = random_scene(6)
    exact = solve(
        method,
        scene.hu,
        scene.trimap,
        spacing_mm=scene.spacing_mm,
        parameters=PARAMETERS,
        readers=scene.readers,
    ).alpha
    gaps = []
    for weight in (1e2, 1e4, 1e6):
        parameters = replace(
            PARAMETERS, solver=replace(PARAMETERS.solver, constraint_weight=weight)
        )
        weighted = solve(
            method,
            scene.hu,
            scene.trimap,
            spacing_mm=scene.spacing_mm,
            parameters=parameters,
            readers=scene.readers,
        )
        gaps.append(np.abs(weighted.alpha - exact).max())
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 1e-4


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
@pytest.mark.parametrize("method", METHODS)
def test_flips_and_transposes_commute(method: str, seed: int) -> None:
    scene = random_scene(seed)

    def run(
        volume: np.ndarray, trimap: np.ndarray, spacing_mm: tuple[float, float, float]
    ) -> np.ndarray:
        return solve(method, volume, trimap, spacing_mm=spacing_mm, parameters=PARAMETERS).alpha

    laws.commutes_with_symmetries(run, scene.hu, scene.trimap, scene.spacing_mm, within=1e-6)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_known_voxels_come_out_exactly_and_the_rest_within_range(seed: int) -> None:
    scene = random_scene(seed)
    solved = estimate_alphas(
        scene.hu,
        scene.trimap,
        spacing_mm=scene.spacing_mm,
        parameters=PARAMETERS,
        readers=scene.readers,
    )
    dense = foreground_target(scene.hu[scene.foreground], DensitySettings())
    for method, solution in solved.items():
        laws.keeps_known(solution, scene.trimap, dense if method.endswith("+") else 1.0)
        laws.within_range(solution.alpha)


@pytest.mark.parametrize("family", ["cf", "knn", "lb", "if"])
def test_plain_and_optimised_agree_where_the_target_is_one(family: str) -> None:
    scene = random_scene(8)
    volume = np.where(scene.foreground, 150.0 + 100.0 * scene.intensity, scene.hu)
    both = estimate_alphas(
        volume, scene.trimap, spacing_mm=scene.spacing_mm, methods=(family, family + "+")
    )
    assert np.array_equal(both[family].alpha, both[family + "+"].alpha)


@pytest.mark.parametrize("method", METHODS)
def test_the_unit_of_length_does_not_matter(method: str) -> None:
    scene = random_scene(9)
    one, two = (
        solve(
            method,
            scene.hu,
            scene.trimap,
            spacing_mm=tuple(unit * s for s in scene.spacing_mm),
            parameters=replace(
                PARAMETERS,
                solver=replace(STRICT, position_scale_mm=unit * 6.0),
                closed_form=ClosedFormSettings(mean_reach_mm=unit * 2.0),
                learning_based=LearningBasedSettings(mean_reach_mm=unit * 2.0),
                information_flow=InformationFlowSettings(local_mean_reach_mm=unit * 2.0),
            ),
        ).alpha
        for unit in (1.0, 2.0)
    )
    np.testing.assert_allclose(one, two, atol=1e-9)


@pytest.mark.parametrize(
    ("method", "reach_mm", "moves"),
    [
        ("cf", 0.0, False),
        ("lb", 0.0, False),
        ("cf", 2.0, True),
        ("lb", 2.0, True),
        ("knn", 0.0, True),
        ("if", 0.0, True),
    ],
)
def test_thicker_slices_matter_to_the_methods_that_use_lengths(
    method: str, reach_mm: float, moves: bool
) -> None:
    scene = random_scene(10)
    parameters = replace(
        PARAMETERS,
        closed_form=ClosedFormSettings(mean_reach_mm=reach_mm),
        learning_based=LearningBasedSettings(mean_reach_mm=reach_mm),
    )
    thin, thick = (
        solve(
            method, scene.hu, scene.trimap, spacing_mm=(dz, 1.0, 1.0), parameters=parameters
        ).alpha
        for dz in (0.6, 4.0)
    )
    assert (np.abs(thin - thick).max() > 1e-3) == moves


@pytest.mark.parametrize("method", ["cf", "lb"])
def test_a_matte_that_is_linear_in_intensity_is_recovered(method: str) -> None:
    scene = random_scene(12)
    intensity = np.where(scene.unknown, scene.intensity, scene.foreground)
    parameters = PAPER
    solved = solve(
        method,
        1400.0 * intensity - 1000.0,
        scene.trimap,
        spacing_mm=scene.spacing_mm,
        parameters=parameters,
    )
    np.testing.assert_allclose(solved.alpha, intensity, atol=1e-4)


def flat_scene() -> Scene:
    scene = random_scene(13)
    return replace(scene, intensity=np.full_like(scene.intensity, 0.4))


def test_on_a_flat_image_closed_form_averages_over_shared_windows() -> None:
    scene = flat_scene()
    unknown = scene.unknown.ravel()
    shared = np.zeros((unknown.size, unknown.size))
    for window in references.windows(scene.intensity.shape):
        if unknown[window].any():
            shared[np.ix_(window, window)] += 1.0
    np.fill_diagonal(shared, 0.0)
    for method in ("cf", "lb"):
        parameters = replace(
            PARAMETERS,
            closed_form=ClosedFormSettings(),
            learning_based=LearningBasedSettings(windows="touching"),
            prior=PriorSettings(),
        )
        alpha = solve(
            method,
            scene.hu,
            scene.trimap,
            spacing_mm=scene.spacing_mm,
            parameters=parameters,
            readers=scene.readers,
        ).alpha.ravel()
        average = shared @ alpha / np.maximum(shared.sum(axis=1), 1.0)
        np.testing.assert_allclose(alpha[unknown], average[unknown], atol=1e-5)


def test_on_a_flat_image_known_voxels_say_nothing_to_information_flow() -> None:
    scene = flat_scene()
    alphas = []
    for strength in (0.0, 10.0):
        parameters = replace(
            PARAMETERS, information_flow=InformationFlowSettings(known_strength=strength)
        )
        alphas.append(
            solve(
                "if",
                scene.hu,
                scene.trimap,
                spacing_mm=scene.spacing_mm,
                parameters=parameters,
                readers=scene.readers,
            ).alpha
        )
    assert min(scene.foreground.sum(), scene.background.sum()) >= 7, (
        "both sides give as many neighbours"
    )
    np.testing.assert_allclose(alphas[0], alphas[1], atol=1e-6)


def test_learning_based_with_all_windows_and_a_tiny_ridge_is_closed_form() -> None:
    scene = random_scene(14)
    parameters = replace(
        PARAMETERS,
        closed_form=ClosedFormSettings(1e-7, 2.0, 0.01),
        learning_based=LearningBasedSettings(1e-7, 2.0, 0.01, windows="touching"),
    )
    both = estimate_alphas(
        scene.hu,
        scene.trimap,
        spacing_mm=scene.spacing_mm,
        methods=("cf", "lb"),
        parameters=parameters,
    )
    np.testing.assert_allclose(both["cf"].alpha, both["lb"].alpha, atol=1e-4)


def prior_moves(strength: str) -> list[tuple[str, PriorSettings]]:
    prior = PARAMETERS.prior
    changes = ({strength: 0.0}, {"width_mm": 9.0}, {"density_weight": 2.0})
    return [("prior", replace(prior, **change)) for change in changes]


MOVES = {
    "cf": [
        *prior_moves("closed_form"),
        ("closed_form", replace(PARAMETERS.closed_form, epsilon=1.0)),
        ("closed_form", replace(PARAMETERS.closed_form, mean_reach_mm=0.0)),
        ("closed_form", replace(PARAMETERS.closed_form, trusted_variance=None)),
        ("solver", replace(PARAMETERS.solver, intensity_curve=0.0)),
    ],
    "knn": [
        *prior_moves("knn"),
        ("solver", replace(PARAMETERS.solver, position_scale_mm=1.0)),
        ("knn", replace(PARAMETERS.knn, neighbours=(4, 2))),
        ("knn", replace(PARAMETERS.knn, position_weights=(3.0, 0.01))),
        ("knn", replace(PARAMETERS.knn, intensity_weight=0.2)),
        ("knn", replace(PARAMETERS.knn, search_known=True)),
    ],
    "lb": [
        *prior_moves("learning_based"),
        ("learning_based", replace(PARAMETERS.learning_based, ridge=0.5)),
        ("learning_based", replace(PARAMETERS.learning_based, mean_reach_mm=1.0)),
        ("learning_based", replace(PARAMETERS.learning_based, trusted_variance=None)),
        ("solver", replace(PARAMETERS.solver, intensity_curve=0.0)),
        ("learning_based", replace(PARAMETERS.learning_based, windows="centred")),
        ("learning_based", replace(PARAMETERS.learning_based, kernel="gaussian")),
    ],
    "if": [
        *prior_moves("information_flow"),
        ("information_flow", replace(PARAMETERS.information_flow, mixture_neighbours=8)),
        ("information_flow", replace(PARAMETERS.information_flow, mixture_position_weight=5.0)),
        ("information_flow", replace(PARAMETERS.information_flow, mixture_ridge=0.5)),
        ("information_flow", replace(PARAMETERS.information_flow, known_neighbours=2)),
        ("information_flow", replace(PARAMETERS.information_flow, known_position_weight=0.1)),
        ("information_flow", replace(PARAMETERS.information_flow, known_strength=1.0)),
        ("information_flow", replace(PARAMETERS.information_flow, intra_neighbours=2)),
        ("information_flow", replace(PARAMETERS.information_flow, intra_position_weight=3.0)),
        ("information_flow", replace(PARAMETERS.information_flow, intra_strength=1.0)),
        ("information_flow", replace(PARAMETERS.information_flow, local_epsilon=0.5)),
        ("information_flow", replace(PARAMETERS.information_flow, local_mean_reach_mm=1.0)),
        ("information_flow", replace(PARAMETERS.information_flow, local_trusted_variance=None)),
        ("information_flow", replace(PARAMETERS.information_flow, local_strength=0.1)),
    ],
    "cf+": [
        ("density", DensitySettings(level_hu=-400.0)),
        ("density", DensitySettings(width_hu=1000.0)),
        ("density", DensitySettings(level_hu=-800.0, width_hu=1000.0, high_hu=-100.0)),
        ("solver", replace(PARAMETERS.solver, intensity_range_hu=(-900.0, 200.0))),
        ("solver", replace(PARAMETERS.solver, constraint_weight=1.0)),
    ],
}


@pytest.mark.parametrize(
    ("method", "turn"), [(method, n) for method in MOVES for n in range(len(MOVES[method]))]
)
def test_turning_a_parameter_turns_the_matte(method: str, turn: int) -> None:
    scene = random_scene(15)
    section, value = MOVES[method][turn]
    before, after = (
        solve(
            method,
            scene.hu,
            scene.trimap,
            spacing_mm=scene.spacing_mm,
            parameters=parameters,
            readers=scene.readers,
        ).alpha
        for parameters in (PARAMETERS, replace(PARAMETERS, **{section: value}))
    )
    assert np.abs(before - after).max() > 1e-4


def test_the_kernel_width_turns_the_gaussian_model() -> None:
    scene = random_scene(15)
    narrow, wide = (
        solve(
            "lb",
            scene.hu,
            scene.trimap,
            spacing_mm=scene.spacing_mm,
            parameters=replace(
                PARAMETERS,
                learning_based=replace(
                    PARAMETERS.learning_based, kernel="gaussian", kernel_width=width
                ),
            ),
        ).alpha
        for width in (0.1, 0.5)
    )
    assert np.abs(narrow - wide).max() > 1e-4


def test_a_larger_ridge_makes_alpha_follow_intensity_less() -> None:
    scene = random_scene(16)
    intensity = np.where(scene.unknown, scene.intensity, scene.foreground)
    distances = []
    for ridge in (1e-7, 1.0, 100.0):
        parameters = Parameters(
            solver=STRICT,
            closed_form=ClosedFormSettings(epsilon=ridge),
            learning_based=LearningBasedSettings(ridge=ridge),
        )
        both = estimate_alphas(
            1400.0 * intensity - 1000.0,
            scene.trimap,
            spacing_mm=scene.spacing_mm,
            methods=("cf", "lb"),
            parameters=parameters,
        )
        distances.append(
            [np.abs(both[m].alpha - intensity)[scene.unknown].mean() for m in ("cf", "lb")]
        )
    assert (np.diff(np.array(distances), axis=0) > 0).all()


def test_the_search_margin_bounds_where_neighbours_are_found() -> None:
    rng = np.random.default_rng(17)
    volume = rng.uniform(-1000, 400, (24, 24, 24))
    trimap = np.zeros(volume.shape, np.uint8)
    trimap[10:14, 10:14, 10:14] = 128
    trimap[12, 12, 12] = 255
    near, far = (
        solve(
            "knn",
            volume,
            trimap,
            spacing_mm=(1, 1, 1),
            parameters=Parameters(
                solver=SolverSettings(search_margin_mm=margin, position_scale_mm=200.0)
            ),
        )
        for margin in (2.0, 10.0)
    )
    assert np.abs(near.alpha - far.alpha).max() > 1e-3


@pytest.mark.parametrize("method", ["knn", "if"])
def test_the_size_of_the_searched_box_does_not_decide_how_far_is_far(method: str) -> None:
    # The added voxels are too far away to be neighbours; only a scale taken from the box could
    # make a difference
    rng = np.random.default_rng(18)
    volume = rng.uniform(-1000, 400, (16, 16, 16))
    trimap = np.zeros(volume.shape, np.uint8)
    trimap[6:10, 6:10, 6:10] = 128
    trimap[8, 8, 8] = 255
    solver = SolverSettings(search_margin_mm=1000.0, position_scale_mm=1.0)
    near, far = (
        solve(
            method,
            np.pad(volume, by, mode="symmetric"),
            np.pad(trimap, by),
            spacing_mm=(1, 1, 1),
            parameters=Parameters(
                solver=solver, information_flow=InformationFlowSettings(intra_position_weight=1.0)
            ),
        ).alpha
        for by in (0, 8)
    )
    assert np.array_equal(far[8:-8, 8:-8, 8:-8], near)

"""Simulated nodules: known matte, density of each kind, composition, reproducibility."""

from dataclasses import fields, replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest

from matting.geometry.resample import signed_distance_mm
from matting.phantoms import (
    BONE_HU,
    LUNG_HU,
    OUTSIDE_HU,
    TISSUE_HU,
    Lesion,
    Ratings,
    Scene,
    compose_scene,
    scan_scene,
    scanner_noise,
    simulate_lesion,
    torso_hu,
)

SPACING_MM = (1.25, 0.7, 0.7)
SHAPE = (19, 44, 44)
SOLID = Ratings(texture=5, margin=4, spiculation=1, calcification=6)
PART_SOLID = replace(SOLID, texture=3)
GROUND_GLASS = replace(SOLID, texture=1)
KINDS = pytest.mark.parametrize("ratings", [SOLID, PART_SOLID, GROUND_GLASS], ids=lambda r: r.kind)


@cache
def readers(radius_mm: float = 8.0) -> np.ndarray:
    """Four balls whose sizes differ by half a millimetre."""
    index = np.indices(SHAPE).T.T
    centre_mm = np.array(SHAPE) / 2 * SPACING_MM
    distance_mm = np.sqrt(
        sum((i * s - c) ** 2 for i, s, c in zip(index, SPACING_MM, centre_mm, strict=True))
    )
    return np.stack([distance_mm < radius_mm + grow for grow in (-0.5, 0.0, 0.5, 1.0)])


@cache
def mean_depth_mm() -> np.ndarray:
    return np.mean([signed_distance_mm(mask, SPACING_MM) for mask in readers()], axis=0)


def arguments(ratings: Ratings, seed: int = 7) -> dict[str, object]:
    return {
        "readers": readers(),
        "spacing_mm": SPACING_MM,
        "ratings": ratings,
        "surroundings_hu": np.full(SHAPE, LUNG_HU, np.float32),
        "generator": np.random.default_rng(seed),
    }


def scene(ratings: Ratings, seed: int = 7, **changes: object) -> Scene:
    return compose_scene(**{**arguments(ratings, seed), **changes})


def lesion(ratings: Ratings, seed: int = 7) -> Lesion:
    return simulate_lesion(**{**arguments(ratings, seed), "thickness_mm": 1.25})


@KINDS
@pytest.mark.parametrize("seed", range(3))
def test_the_matte_agrees_with_the_readers(ratings: Ratings, seed: int) -> None:
    alpha = lesion(ratings, seed).alpha
    depth_mm = mean_depth_mm()
    assert alpha.min() >= 0
    assert alpha.max() <= 1
    assert alpha[depth_mm > 4].min() > 0.98
    assert alpha[depth_mm < -6].max() < 0.02
    fine = scene(ratings, seed).alpha
    assert ((fine > 0.1) & (fine < 0.9)).sum() > 1000, (
        "the rim is soft by itself, not by thick slices alone"
    )


def test_the_half_surface_lies_inside_the_mean_outline() -> None:
    inset_mm = []
    for seed in range(6):
        alpha = lesion(SOLID, seed).alpha
        depth_mm = mean_depth_mm()
        inset_mm.append(depth_mm[(alpha > 0.4) & (alpha < 0.6)].mean())
    assert 0.1 < np.mean(inset_mm) < 0.6


@pytest.mark.parametrize(
    ("name", "hard", "soft"),
    [("texture", 5.0, 1.0), ("margin", 5.0, 1.0), ("spiculation", 1.0, 5.0)],
)
def test_ratings_soften_the_matte(name: str, hard: float, soft: float) -> None:
    def partial(value: float) -> int:
        alpha = lesion(replace(SOLID, **{name: value})).alpha
        return int(((alpha > 0.05) & (alpha < 0.95)).sum())

    assert partial(soft) > 1.02 * partial(hard)


@KINDS
def test_the_scene_is_composed_before_the_scanner_blurs_it(ratings: Ratings) -> None:
    made = scene(ratings)
    expected = made.alpha * made.foreground_hu + (1 - made.alpha) * made.background_hu
    np.testing.assert_allclose(made.composed_hu, expected, atol=1e-3)
    sharp = scan_scene(made, thickness_mm=SPACING_MM[0], fwhm_mm=0.0)
    mean = expected.reshape(SHAPE[0], made.steps, *SHAPE[1:]).mean(axis=1)
    np.testing.assert_allclose(sharp.image_hu, mean, atol=1e-2)


def test_blur_and_thick_slices_smooth_the_image_but_not_the_matte() -> None:
    made = scene(SOLID)
    shows = [
        scan_scene(made, thickness_mm=t, fwhm_mm=f)
        for t, f in ((1.25, 0.0), (1.25, 1.2), (5.0, 1.2))
    ]
    roughness = [
        sum(float(np.abs(np.diff(show.image_hu, axis=axis)).sum()) for axis in range(3))
        for show in shows
    ]
    assert all(after < before for before, after in pairwise(roughness))
    assert all(np.array_equal(show.alpha, shows[0].alpha) for show in shows)


def test_slices_are_averages_of_finer_ones() -> None:
    assert scene(SOLID).steps == 2
    thick = (2.5, 0.7, 0.7)
    made = scene(SOLID, spacing_mm=thick)
    assert made.steps == 4
    assert made.alpha.shape == (4 * SHAPE[0], *SHAPE[1:])
    assert made.spacing_mm == pytest.approx((0.625, 0.7, 0.7))


@pytest.mark.parametrize("seed", range(4))
def test_each_kind_has_its_radiodensity(seed: int) -> None:
    def core_hu(ratings: Ratings) -> float:
        made = lesion(ratings, seed)
        return float(np.median(made.foreground_hu[readers(4.0).all(axis=0)]))

    assert -700 < core_hu(GROUND_GLASS) < -500
    assert -160 < core_hu(PART_SOLID) < 60
    assert -10 < core_hu(SOLID) < 80
    assert 180 < core_hu(replace(SOLID, calcification=3)) < 800


def test_part_solid_nodules_have_a_core_within_ground_glass() -> None:
    pure_hu = lesion(PART_SOLID).foreground_hu
    rim = readers(8.0)[1] & ~readers(7.0)[1]
    assert np.median(pure_hu[rim]) < np.median(pure_hu[readers(3.0)[1]]) - 100


def test_some_large_solid_nodules_are_necrotic() -> None:
    core, rim = readers(3.0)[1], readers(8.0)[3] & ~readers(8.0)[0]
    fields_hu = [scene(SOLID, seed).foreground_hu[::2] for seed in range(8)]
    lower = [np.median(field_hu[core]) < np.median(field_hu[rim]) - 10 for field_hu in fields_hu]
    assert 1 <= sum(lower) < 8


def test_vessels_at_tissue_density_reach_into_the_rim() -> None:
    made = scene(SOLID)
    near = (made.alpha < 0.02) & (made.background_hu > -200)
    depth_mm = mean_depth_mm()
    band = np.repeat((depth_mm > -2) & (depth_mm < 2), made.steps, axis=0)
    assert (near & band).sum() > 20
    assert 25 < np.median(made.background_hu[made.background_hu > 0]) < 55


def test_chest_wall_and_outer_air_stay_as_they_came() -> None:
    surroundings_hu = np.full(SHAPE, LUNG_HU, np.float32)
    surroundings_hu[:, :, 4:8] = TISSUE_HU
    surroundings_hu[:, :, :4] = OUTSIDE_HU
    background_hu = scene(SOLID, surroundings_hu=surroundings_hu).background_hu
    assert np.all(background_hu[:, :, 4:8] == TISSUE_HU)
    assert np.all(background_hu[:, :, :4] == OUTSIDE_HU)
    assert background_hu[:, :, 8:].std() > 15


def test_the_trivial_matte_fails_on_ground_glass() -> None:
    made = lesion(GROUND_GLASS)
    core = readers(4.0).all(axis=0)
    trivial = np.clip((made.image_hu - LUNG_HU) / (TISSUE_HU - LUNG_HU), 0, 1)
    assert np.abs(trivial - made.alpha)[core].mean() > 0.4


def test_the_same_generator_state_gives_the_same_arrays_and_another_does_not() -> None:
    first, again, other = lesion(SOLID, 3), lesion(SOLID, 3), lesion(SOLID, 4)
    for name in (field.name for field in fields(Lesion)):
        assert getattr(first, name).tobytes() == getattr(again, name).tobytes()
        assert getattr(first, name).tobytes() != getattr(other, name).tobytes()


def test_noise_has_its_strength_and_a_grain() -> None:
    noise = scanner_noise((6, 128, 128), SPACING_MM, 30.0, np.random.default_rng(0))
    assert noise.std() == pytest.approx(30, rel=0.03)
    assert noise.mean() == pytest.approx(0, abs=1)
    side_by_side = np.corrcoef(noise[:, :, 1:].ravel(), noise[:, :, :-1].ravel())[0, 1]
    across_slices = np.corrcoef(noise[1:].ravel(), noise[:-1].ravel())[0, 1]
    assert side_by_side > 0.2
    assert abs(across_slices) < 0.03


def test_a_torso_holds_the_nodule_in_a_lung_or_at_its_wall() -> None:
    outline = np.zeros((512, 512), bool)
    outline[250:262, 440:452] = True
    free, touching = (
        torso_hu((512, 512), (0.7, 0.7), [(outline, touches)]) for touches in (False, True)
    )
    ahead = free[256, 440:457]
    assert np.all(ahead == LUNG_HU)
    assert np.all(touching[256, 454:456] == TISSUE_HU)
    assert (touching[outline] < -400).all()
    assert free[0, 0] == OUTSIDE_HU
    assert BONE_HU in free

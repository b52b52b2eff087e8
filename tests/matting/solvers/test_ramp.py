"""The ramp through the unknown band, against distances taken voxel by voxel."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matting.solvers.conjugate_gradient import DataTerm
from matting.solvers.ramp import ramp_and_rim, ramp_data_term
from matting.solvers.solve_domain import solve_domain_around, tone_curve
from tests import references
from tests.references import Scene, random_scene


def domain_of(scene: Scene):
    return solve_domain_around(
        scene.hu,
        scene.trimap,
        spacing_mm=scene.spacing_mm,
        margin_mm=1e3,
        mean_reach_mm=0.0,
        position_scale_mm=6.0,
        range_hu=(-1000.0, 400.0),
        intensity_curve=0.0,
    )


def ball(unknown_mm: tuple[float, float]) -> Scene:
    """A ball whose unknown band lies between two radii, in a volume far larger than it."""
    spacing = (1.5, 0.5, 0.5)
    z, y, x = np.indices((8, 24, 24)) * np.array(spacing)[:, None, None, None]
    radius = np.sqrt((z - 6) ** 2 + (y - 6) ** 2 + (x - 6) ** 2)
    low, high = unknown_mm
    return Scene(np.zeros(radius.shape), (radius >= low) & (radius < high), radius < low, spacing)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rim_mm=st.sampled_from([0.5, 1.7, 100.0]))
def test_equals_its_plain_twin(seed: int, rim_mm: float) -> None:
    scene = random_scene(seed)
    unknown = scene.unknown.ravel()
    for ours, plain in zip(
        ramp_and_rim(domain_of(scene), rim_mm), references.ramp_and_rim(scene, rim_mm), strict=True
    ):
        np.testing.assert_allclose(ours, plain[unknown], atol=1e-12)


def test_runs_from_the_foreground_to_the_rim_whatever_lies_beyond() -> None:
    scene = ball((2.0, 5.0))
    along, rim = (np.zeros(scene.intensity.shape) for _ in range(2))
    along[scene.unknown], rim[scene.unknown] = ramp_and_rim(domain_of(scene), 1.5)
    outward = along[4, 12, 16:22]
    assert (np.diff(outward) < 0).all()
    assert outward[0] == pytest.approx(2.25**2 / (0.5**2 + 2.25**2))
    assert outward[-1] == 0.0, "within the outer half of the rim"
    np.testing.assert_allclose(
        rim[4, 12, 16:22], [0, 0, 0, 0, (1 / 3) ** 2, (2 / 3) ** 2], atol=1e-12
    )


def test_what_lies_well_within_the_band_is_no_background_however_far_from_the_core() -> None:
    scene = ball((1.0, 5.5))
    along = np.zeros(scene.intensity.shape)
    along[scene.unknown] = ramp_and_rim(domain_of(scene), 1.0)[0]
    # 2.5 mm from the core, which counts as 1, and as far from the background
    assert along[4, 12, 18] == pytest.approx(2.0**2 / (1.0**2 + 2.0**2))


def test_pulls_to_the_mean_of_the_known_lesion_and_at_the_rim_to_background() -> None:
    domain = domain_of(ball((2.0, 5.0)))
    term = ramp_data_term(
        domain, lambda voxels: np.stack([np.ones(len(voxels)), voxels % 2], axis=1), 0.2, 3.0, 1.5
    )
    ramp, rim = ramp_and_rim(domain, 1.5)
    np.testing.assert_allclose(term.weight, 0.2 + 3.0 * rim)
    np.testing.assert_allclose(term.weight * term.target[:, 0], 0.2 * ramp, atol=1e-12)
    share = (np.flatnonzero(domain.foreground) % 2).mean()
    np.testing.assert_allclose(term.target[:, 1], share * term.target[:, 0])


def test_two_pulls_make_one() -> None:
    one = DataTerm(np.array([1.0, 3.0, 0.0]), np.array([[0.0], [1.0], [0.5]]))
    other = DataTerm(np.array([3.0, 1.0, 0.0]), np.array([[1.0], [0.0], [0.5]]))
    both = one + other
    np.testing.assert_array_equal(both.weight, [4.0, 4.0, 0.0])
    np.testing.assert_array_equal(both.target, [[0.75], [0.75], [0.0]])


def test_curved_intensities_keep_their_ends_and_order_and_lift_what_is_faint() -> None:
    intensity = np.linspace(0.0, 1.0, 101)
    for curve in (0.0, 1.0, 5.0):
        result = tone_curve(intensity, curve)
        assert (result[0], result[-1]) == (0.0, 1.0)
        assert (np.diff(result) > 0).all()
        assert (result >= intensity).all()
    np.testing.assert_allclose(tone_curve(intensity, 0.0), intensity, atol=1e-15)
    assert tone_curve(np.array([0.25]), 1.0)[0] == pytest.approx(0.4)


def test_without_strength_there_is_no_term() -> None:
    domain = domain_of(ball((2.0, 5.0)))

    def known(voxels: np.ndarray) -> np.ndarray:
        return np.ones((len(voxels), 1))

    assert ramp_data_term(domain, known, 0.0, 0.0, 1.5) is None
    assert ramp_data_term(domain, known, 0.0, 1.0, 1.5) is not None
    assert ramp_data_term(domain, known, 1.0, 0.0, 1.5) is not None

"""Features measure what their names say, and the classifiers on them learn."""

import numpy as np
import pytest

from matting.diagnosis.feature_classifier import score_by_features
from matting.diagnosis.features import FEATURES, cube_features


def ellipsoid(radii_mm, spacing_mm=1.0, side_mm=32.0, edge_mm=0.0):
    """Return a cube with an ellipsoid, with a linear edge of some width."""
    side = round(side_mm / spacing_mm)
    place = (np.indices((side,) * 3) - (side - 1) / 2) * spacing_mm
    distance = np.sqrt(sum((p / r) ** 2 for p, r in zip(place, radii_mm, strict=True)))
    inside_mm = (1 - distance) * min(radii_mm)
    return np.clip(0.5 + inside_mm / edge_mm, 0, 1) if edge_mm else (inside_mm > 0).astype(float)


def measured(cube, spacing_mm=1.0):
    return dict(zip(FEATURES, cube_features(cube, spacing_mm), strict=True))


def test_sizes_and_radii_are_those_of_the_ellipsoid():
    found = measured(ellipsoid((4, 6, 9)))
    volume_mm3 = 4 / 3 * np.pi * 4 * 6 * 9
    assert np.expm1(found["log mass"]) == pytest.approx(volume_mm3, rel=0.03)
    # The radius of gyration of an ellipsoid along an axis is its half axis / sqrt(5).
    radii = [found[f"{name} radius"] * np.sqrt(5) for name in ("shortest", "middle", "longest")]
    assert radii == pytest.approx([4, 6, 9], rel=0.05)


def test_features_do_not_depend_on_the_spacing_or_the_direction():
    coarse, fine = (
        measured(ellipsoid((5, 7, 8), spacing, edge_mm=4), spacing) for spacing in (1.0, 0.5)
    )
    names = ("log mass", "longest radius", "compactness", "softness", "mean slope", "median")
    assert [coarse[n] for n in names] == pytest.approx([fine[n] for n in names], rel=0.06)
    cube = ellipsoid((4, 6, 9), edge_mm=3)
    assert cube_features(cube.transpose(2, 0, 1)[:, ::-1], 1.0) == pytest.approx(
        cube_features(cube, 1.0), abs=1e-9
    )


def test_a_soft_edge_is_told_from_a_sharp_one_and_texture_from_none():
    sharp, soft = (measured(ellipsoid((7, 7, 7), edge_mm=width)) for width in (1, 5))
    assert soft["softness"] > 2 * sharp["softness"]
    assert soft["steepest slope"] < sharp["steepest slope"]
    cube = ellipsoid((7, 7, 7), edge_mm=1)
    noise = np.random.default_rng(0).uniform(0.6, 1, cube.shape)
    assert measured(cube * noise)["local deviation"] > sharp["local deviation"]
    assert measured(cube * noise)["correlation of neighbours"] < sharp["correlation of neighbours"]


@pytest.mark.parametrize("cube", [np.zeros((8, 8, 8)), np.ones((8, 8, 8)), np.eye(512)[300]])
def test_odd_cubes_have_finite_features(cube):
    found = cube_features(cube.reshape(8, 8, 8), 1.0)
    assert found.shape == (len(FEATURES),)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("kind", ["logistic", "boosting"])
def test_a_classifier_learns_what_can_be_learned_and_repeats_itself(kind):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(120, 5))
    malignant = features[:, 2] + 0.3 * rng.normal(size=120) > 0
    learned = features[:80], malignant[:80], features[80:], kind
    scores = score_by_features(*learned, seed=3)
    assert ((scores > 0) == malignant[80:]).mean() > 0.8
    assert np.array_equal(scores, score_by_features(*learned, seed=3))

"""Cubes lie where they should and lose nothing."""

import numpy as np
import pytest

from matting.diagnosis.cubes import cube_around


def test_a_cube_of_the_same_spacing_is_the_box_itself():
    volume = np.random.default_rng(0).random((9, 10, 11))
    cube = cube_around(volume, (4.5, 5.5, 3.5), (0.5, 0.5, 0.5), 4, 0.5)
    assert cube == pytest.approx(volume[3:7, 4:8, 2:6], abs=1e-12)


def test_beyond_the_volume_is_nothing():
    volume = np.ones((4, 30, 30))
    cube = cube_around(volume, (1.5, 14.5, 14.5), (1.0, 1.0, 1.0), 8, 1.0)
    assert np.array_equal(cube[:, 4, 4], [0, 0, 1, 1, 1, 1, 0, 0])
    at_corner = cube_around(volume, (1.5, 0.5, 14.5), (1.0, 1.0, 1.0), 8, 1.0)
    assert np.array_equal(at_corner[4, :, 4], [0, 0, 0, 1, 1, 1, 1, 1])


def test_a_coarser_cube_keeps_the_volume_of_a_nodule_at_any_place():
    rng = np.random.default_rng(1)
    volume = np.zeros((40, 50, 60))
    volume[18:22, 20:29, 25:31] = rng.random((4, 9, 6))
    whole_mm3 = volume.sum() * 0.5**3
    for centre in ((19.5, 24.0, 28.0), (20.3, 25.1, 27.2)):
        cube = cube_around(volume, centre, (0.5, 0.5, 0.5), 16, 1.25)
        assert cube.sum() * 1.25**3 == pytest.approx(whole_mm3, rel=0.02)
        assert 0 <= cube.min() <= cube.max() <= 1


def test_a_finer_cube_is_linear_interpolation():
    volume = np.indices((8, 8, 8), dtype=float).sum(axis=0)
    cube = cube_around(volume, (3.5, 3.5, 3.5), (2.0, 1.0, 1.0), 4, 0.5)
    z, y, x = (
        (np.arange(4) - 1.5)[:, None, None] / 4,
        (np.arange(4) - 1.5)[:, None] / 2,
        (np.arange(4) - 1.5) / 2,
    )
    assert cube == pytest.approx(10.5 + z + y + x)

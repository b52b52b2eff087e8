import numpy as np
import pytest

from matting.geometry.grid import Grid
from matting.geometry.patch import AIR_HU, Patch
from matting.geometry.resample import resample_patch, signed_distance_mm
from matting.parameters import ResampleSettings


def ramp(shape=(5, 9, 10), spacing_mm=(2.0, 0.75, 0.75)):
    """HU that rises linearly in patient space: linear interpolation must reproduce it."""
    grid = Grid(shape, spacing_mm, (5.0, -7.0, 40.0))
    points = grid.to_patient(np.moveaxis(np.indices(shape), 0, -1))
    image = (10 * points[..., 0] - 4 * points[..., 1] + 20 * points[..., 2]).astype(np.float32)
    readers = np.zeros((2, *shape), bool)
    readers[:, 1:4, 2:7, 3:8] = True
    return Patch(grid, image, np.ones(shape, bool), readers)


def test_a_linear_image_stays_linear_in_patient_space():
    out = resample_patch(ramp(), ResampleSettings(spacing_mm=0.5))
    points = out.grid.to_patient(np.moveaxis(np.indices(out.grid.shape), 0, -1))
    expected = 10 * points[..., 0] - 4 * points[..., 1] + 20 * points[..., 2]
    assert np.abs(out.image_hu - expected).max() <= 0.51  # rounded to whole HU
    assert (out.image_hu == np.rint(out.image_hu)).all()


def test_each_choice_of_interpolation_gives_another_image():
    patch = ramp()
    patch.image_hu[2, 4, 5] += 500
    linear, bspline = (
        resample_patch(patch, ResampleSettings(image=how)).image_hu for how in ("linear", "bspline")
    )
    assert np.abs(linear - bspline).max() > 10


def test_a_mask_through_its_distance_keeps_its_size_and_place():
    patch = ramp()
    out = resample_patch(patch, ResampleSettings(readers="distance"))
    native_mm3 = patch.readers[0].sum() * np.prod(patch.grid.spacing_mm)
    assert out.readers[0].sum() * 0.5**3 == pytest.approx(native_mm3, rel=0.15)
    before = patch.grid.to_patient(np.argwhere(patch.readers[0]).mean(axis=0))
    after = out.grid.to_patient(np.argwhere(out.readers[0]).mean(axis=0))
    assert np.abs(after - before).max() < 0.3


def test_a_mask_through_its_distance_is_smooth_across_slices_where_the_nearest_steps():
    shape = (3, 21, 21)
    readers = np.zeros((1, *shape), bool)
    for z, radius in enumerate((3, 6, 9)):
        y, x = np.indices(shape[1:]) - 10
        readers[0, z] = y**2 + x**2 <= radius**2
    grid = Grid(shape, (3.0, 0.5, 0.5), (0.0, 0.0, 0.0))
    patch = Patch(grid, np.zeros(shape, np.float32), np.ones(shape, bool), readers)
    areas = {
        how: resample_patch(patch, ResampleSettings(readers=how)).readers[0].sum(axis=(1, 2))
        for how in ("distance", "nearest")
    }
    assert len(set(areas["nearest"].tolist())) == 3
    assert (np.diff(areas["distance"].astype(int)) >= 0).all()
    assert len(set(areas["distance"].tolist())) > 6


def test_a_mask_of_two_slices_survives():
    shape = (4, 9, 9)
    readers = np.zeros((1, *shape), bool)
    readers[0, 1:3, 4, 4] = True
    grid = Grid(shape, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    out = resample_patch(
        Patch(grid, np.zeros(shape, np.float32), np.ones(shape, bool), readers), ResampleSettings()
    )
    assert out.readers.any()


def test_an_empty_mask_stays_empty():
    distance = signed_distance_mm(np.zeros((3, 3, 3), bool), (1.0, 1.0, 1.0))
    assert (distance < 0).all()
    patch = ramp()
    patch.readers[1] = False
    assert not resample_patch(patch, ResampleSettings()).readers[1].any()


def test_signed_distance_is_zero_midway_between_inside_and_outside():
    mask = np.zeros((1, 1, 6), bool)
    mask[..., :3] = True
    assert signed_distance_mm(mask, (1.0, 1.0, 2.0))[0, 0].tolist() == [6, 4, 2, -2, -4, -6]


def test_only_what_every_sample_measured_is_valid():
    patch = ramp()
    patch.valid[2] = False
    patch.image_hu[2] = AIR_HU
    out = resample_patch(patch, ResampleSettings(spacing_mm=0.5))
    # slices 2 mm apart, every fourth new slice lies on an old one: 4 is invalid itself, 5-11 mix
    # with it
    assert [bool(out.valid[z].all()) for z in (4, 5, 7, 8, 11, 12)] == [
        True,
        False,
        False,
        False,
        False,
        True,
    ]
    assert (out.image_hu[~out.valid] == AIR_HU).all()


def test_known_alpha_is_interpolated_like_the_image_and_stays_in_range():
    patch = ramp()
    alpha = np.zeros(patch.grid.shape, np.float32)
    alpha[1:4, 2:7, 3:8] = 1
    out = resample_patch(
        Patch(patch.grid, patch.image_hu, patch.valid, patch.readers, alpha), ResampleSettings()
    )
    assert out.known_alpha.min() == 0
    assert out.known_alpha.max() == 1
    assert out.known_alpha[2, 6, 7] == pytest.approx(0.5, abs=0.3)


def test_spacing_decides_the_lattice():
    assert resample_patch(ramp(), ResampleSettings(spacing_mm=1.0)).grid.spacing_mm == (
        1.0,
        1.0,
        1.0,
    )
    assert resample_patch(ramp(), ResampleSettings(spacing_mm=1.0)).grid.shape == (9, 7, 7)

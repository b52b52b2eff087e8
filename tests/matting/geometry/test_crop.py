import numpy as np
import pytest

from matting.errors import InputError
from matting.geometry.crop import crop_to_nodule
from matting.geometry.grid import Grid
from matting.geometry.patch import AIR_HU, Patch
from matting.parameters import CropSettings


def scan(low=(4, 10, 12), high=(7, 16, 20), shape=(12, 40, 44)):
    readers = np.zeros((2, *shape), bool)
    readers[0, low[0] : high[0], low[1] : high[1], low[2] : high[2]] = True
    readers[1, low[0], low[1], low[2]] = True
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    grid = Grid(shape, (2.5, 0.7, 0.7), (-30.0, -40.0, 100.0))
    return Patch(grid, values, np.ones(shape, bool), readers, values / values.max())


def test_the_window_is_centred_on_the_union_with_padding_slices():
    patch = crop_to_nodule(scan(), CropSettings(in_plane_voxels=16, padding_slices=3))
    assert patch.grid.shape == (3 + 6, 16, 16)
    z, y, x = (np.flatnonzero(patch.readers[0].any(axis=axes)) for axes in [(1, 2), (0, 2), (0, 1)])
    assert (z[0], z[-1]) == (3, 5)
    assert (y[0], y[-1]) == (5, 10)  # 6 of 16 rows, centred
    assert (x[0], x[-1]) == (4, 11)


def test_voxels_keep_their_value_and_their_place_in_the_patient():
    whole = scan()
    patch = crop_to_nodule(whole, CropSettings(in_plane_voxels=16, padding_slices=1))
    at = (2, 7, 9)
    there = np.rint(whole.grid.to_index(patch.grid.to_patient(at))).astype(int)
    assert patch.image_hu[at] == whole.image_hu[tuple(there)]
    assert patch.known_alpha[at] == whole.known_alpha[tuple(there)]


def test_what_lies_outside_the_scan_is_air_and_not_valid():
    whole = scan(low=(0, 0, 0), high=(2, 4, 4))
    patch = crop_to_nodule(whole, CropSettings(in_plane_voxels=16, padding_slices=3))
    assert patch.grid.shape == (8, 16, 16)
    outside = ~patch.valid
    assert outside[:3].all()
    assert (patch.image_hu[outside] == AIR_HU).all()
    assert not patch.readers[:, outside].any()
    assert patch.valid[3:, 6:, 6:].all()
    assert patch.readers.sum() == whole.readers.sum()


def test_a_nodule_wider_than_the_window_is_refused():
    with pytest.raises(
        InputError, match=r"wider than the crop: got 6 x 8 voxels, expected at most 7 x 7"
    ):
        crop_to_nodule(scan(), CropSettings(in_plane_voxels=7))
    assert (
        crop_to_nodule(scan(), CropSettings(in_plane_voxels=8)).readers.sum()
        == scan().readers.sum()
    )


def test_an_unmarked_scan_is_refused():
    whole = scan()
    empty = Patch(whole.grid, whole.image_hu, whole.valid, np.zeros_like(whole.readers))
    with pytest.raises(InputError, match="no reader marked anything"):
        crop_to_nodule(empty, CropSettings())

import numpy as np
import pytest
from scipy import ndimage

from matting.errors import InputError
from matting.geometry.trimap import BACKGROUND, FOREGROUND, UNKNOWN, build_trimap
from matting.parameters import TrimapSettings

SPACING_MM = (0.5, 0.5, 0.5)


def balls(radii_mm, shape=(40, 40, 40)):
    """Readers' masks: one ball each round the centre."""
    places = (np.indices(shape) - 20).transpose(1, 2, 3, 0) * SPACING_MM
    distance = np.sqrt((places**2).sum(axis=-1))
    return np.stack([distance <= radius for radius in radii_mm])


def build(readers, valid=None, **parameters):
    valid = np.ones(readers.shape[1:], bool) if valid is None else valid
    return build_trimap(
        readers, valid, spacing_mm=SPACING_MM, parameters=TrimapSettings(**parameters)
    )


def test_the_band_holds_the_disagreement_and_its_dilation():
    readers = balls([4.0, 5.0])
    trimap = build(readers, dilation_mm=1.5)
    disagreement = readers.any(axis=0) & ~readers.all(axis=0)
    grown = ndimage.distance_transform_edt(~disagreement, sampling=SPACING_MM) <= 1.5
    assert ((trimap.labels == UNKNOWN) == grown).all()
    assert trimap.inward_mm == 1.5


def test_the_band_grows_also_where_all_agree():
    trimap = build(balls([4.0, 4.0]), dilation_mm=1.0)
    centre_line = trimap.labels[20, 20]
    # 4 mm is voxel 28; within 1 mm of the edge, both ways, nothing is known
    assert centre_line[20:32].tolist() == [FOREGROUND] * 7 + [UNKNOWN] * 4 + [BACKGROUND]


def test_a_small_core_is_not_eaten():
    readers = balls([2.0, 5.0])
    trimap = build(readers, dilation_mm=3.0, min_core_voxels=8)
    assert trimap.core_voxels >= 8
    assert 0 < trimap.inward_mm < 2.0
    more = build(readers, dilation_mm=3.0, min_core_voxels=100)
    assert more.inward_mm < trimap.inward_mm
    assert more.core_voxels >= 100


def test_the_largest_radius_that_leaves_the_core_is_used():
    readers = balls([3.0, 5.0])
    trimap = build(readers, dilation_mm=10.0, min_core_voxels=8)
    depth = ndimage.distance_transform_edt(readers.all(axis=0), sampling=SPACING_MM)
    deeper = min(value for value in np.unique(depth) if value > trimap.inward_mm)
    assert ((depth > trimap.inward_mm) == (trimap.labels == FOREGROUND)).all()
    assert (depth > deeper).sum() < 8 <= trimap.core_voxels


def test_a_core_below_the_wanted_size_is_left_whole():
    readers = balls([0.5, 5.0])
    trimap = build(readers, min_core_voxels=1000)
    assert trimap.inward_mm == 0
    assert (trimap.labels == FOREGROUND).sum() == readers.all(axis=0).sum()


def test_what_was_not_measured_is_background():
    valid = np.ones((40, 40, 40), bool)
    valid[:15] = False
    labels = build(balls([4.0, 5.0]), valid).labels
    assert (labels[:15] == BACKGROUND).all()
    assert (labels[15:] == UNKNOWN).any()


def test_an_empty_intersection_is_refused():
    readers = balls([3.0, 3.0])
    readers[1] = np.roll(readers[0], 15, axis=0)
    with pytest.raises(InputError, match=r"share no voxel: got an empty intersection"):
        build(readers)


def test_an_empty_mask_is_refused_with_its_reader():
    readers = balls([3.0, 3.0, 3.0])
    readers[1] = False
    with pytest.raises(InputError, match="nothing marked by reader 1"):
        build(readers)


def test_a_patch_without_background_is_refused():
    with pytest.raises(InputError, match="holds no background"):
        build(balls([40.0, 40.0]))

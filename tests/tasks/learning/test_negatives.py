"""Crops of CT without a nodule."""

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from matting.errors import InputError
from matting.learned.batches import TENSORS
from tasks.learning.crops import TrainingCrops
from tasks.learning.negatives import cut_negative, negatives_sha256, read_negatives
from tasks.learning.train import TrainingJob, learn, training_id_of
from tests.tasks.learning.conftest import TRAINING

SPACING_MM = (2.0, 0.7, 0.7)
SHAPE = (30, 60, 70)


@pytest.fixture
def table(tmp_path):
    """Two points of a CT whose HU tell the place: -1000 + 10 z, and lung at one side."""
    image = np.broadcast_to(-900.0 + 30 * np.arange(30)[:, None, None], SHAPE).copy()
    image[:, :, 60:] = -850
    volume = sitk.GetImageFromArray(image.astype(np.int16))
    volume.SetSpacing(SPACING_MM[::-1])
    sitk.WriteImage(volume, str(tmp_path / "ct.nii.gz"))
    path = tmp_path / "points.csv"
    path.write_text("image,z,y,x\nct.nii.gz,15,30,35\nct.nii.gz,2,58,35\n")
    return path


def test_the_surroundings_are_on_the_network_s_voxels(table):
    inner, edge = read_negatives(table, 1.0, (16, 32, 32))
    # 12 mm and 24 mm to each side: 6 slices and 34 pixels, cut at the CT's border
    assert inner.image_hu.shape == (25, 42, 48)
    z, y, x = inner.point
    assert inner.image_hu[z, y, x] == -900 + 30 * 15
    assert (z, y, x) == (12, 21, 24)
    assert edge.point == (4, 24, 24)
    assert edge.image_hu[4, 24, 24] == pytest.approx(-900 + 30 * 2, abs=1)
    assert inner.valid.all()
    assert len({negatives_sha256([inner]), negatives_sha256([edge])}) == 2


@pytest.mark.parametrize("measured", [(16, 32, 32), (5, 20, 31), (1, 1, 1), (40, 60, 60)])
def test_a_crop_holds_the_point_and_as_much_ct_as_a_nodule_s(table, measured):
    around = read_negatives(table, 1.0, (16, 32, 32))[0]
    crop = tuple(-(-size // 16) * 16 for size in measured)
    for seed in range(20):
        cut = cut_negative(around, measured, crop, np.random.default_rng(seed))
        assert set(cut) == set(TENSORS)
        assert all(tensor.shape == (1, *crop) for tensor in cut.values())
        held = [min(m, n) for m, n in zip(measured, around.image_hu.shape, strict=True)]
        valid = cut["valid"][0]
        assert int(valid.sum()) == np.prod(held)
        corners = torch.argwhere(valid)
        assert (corners.max(0).values - corners.min(0).values + 1).tolist() == held
        assert set(cut["image"][0][~valid].tolist()) <= {-1000.0}
        assert not cut["alpha"].any()
        assert not cut["overlap"].any()
        assert not cut["union"].any()
        at = around.image_hu[around.point]
        assert bool(((cut["image"][0] - at).abs() < 1e-3)[valid].any()), "the point is in it"


def test_an_epoch_has_one_crop_of_each_nodule_and_of_each_point(release, table):
    around = read_negatives(table, 0.5, TRAINING.crop_zyx)
    nodules = ["n0", "n1", "n2"]
    crops = TrainingCrops(release, nodules, replace(TRAINING, fitted=True), around)
    assert len(crops) == 5
    marked = [bool(crops[0, index]["union"].any()) for index in range(5)]
    assert marked == [True] * 3 + [False] * 2
    sizes = {tuple(crops[0, index]["image"].shape) for index in range(3)}
    assert all(tuple(crops[e, 3]["image"].shape) in sizes for e in range(5))
    twice = [crops[1, 4]["image"] for _ in range(2)]
    assert torch.equal(*twice)
    assert not torch.equal(twice[0], crops[2, 4]["image"])


def test_a_training_with_points_is_another_one(release, table):
    plain = TrainingJob(release, "3dmm-mg", training=replace(TRAINING, epochs=1))
    around = read_negatives(table, 0.5, TRAINING.crop_zyx)
    taught = replace(plain, negatives=around)
    assert training_id_of(taught) != training_id_of(plain)
    assert training_id_of(taught) == training_id_of(replace(plain, negatives=around[:2]))
    assert training_id_of(taught) != training_id_of(replace(plain, negatives=around[:1]))
    config = learn(taught).config
    assert (config.nodules, config.negatives) == (3, 2)
    assert config.window_mm == (8.0, 8.0, 16.0)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ct.nii.gz,30,1,1", r"a point is not in its CT: got voxel \(30, 1, 1\).*line 2"),
        ("other.nii.gz,3,1,1", "other.nii.gz"),
    ],
)
def test_points_elsewhere_are_refused(table, line, message):
    table.write_text(f"image,z,y,x\n{line}\n")
    with pytest.raises(InputError, match=message):
        read_negatives(table, 1.0, (16, 16, 32))


def test_a_ct_in_other_values_is_refused(table):
    path = table.parent / "ct.nii.gz"
    image = sitk.ReadImage(str(path))
    sitk.WriteImage(image + 1024, str(path))
    with pytest.raises(InputError, match="not in HU"):
        read_negatives(table, 1.0, (16, 16, 32))

"""Predicting a part of a CT: which voxels, and back on the CT's own voxels."""

import json

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
import torch

from matting.errors import InputError
from matting.geometry.grid import Grid
from matting.learned.network import MattingNetwork, NetworkOutput
from matting.parameters import Auxiliary
from storage.results.checkpoints import Checkpoint
from storage.sources.ct import CtVolume
from tasks.learning import predict
from tasks.learning.place import Place
from tasks.learning.predict import PredictionSettings, predict_file, predict_table
from tasks.learning.predict_volume import predict_box, predict_whole
from tests.cases import checkpoint_config

GRID = Grid((20, 40, 44), (2.0, 1.0, 0.8), (-30.0, 12.0, 99.0))
CONFIG = checkpoint_config(
    spacing_mm=1.0,
    synthetic=True,
    matte_form="improved form",
    target="density",
    digest="d1",
    content_key={"variant": "3dmm-mg", "training": {"crop_zyx": [64, 64, 64]}},
)
CHECKPOINT = Checkpoint({}, CONFIG)


class Repeats(MattingNetwork):
    """Returns its input as the matte; masks where the input is above 0.25 and above 0.75."""

    def __init__(self, *, auxiliary: Auxiliary = "told") -> None:
        super().__init__("3dmm-mg", auxiliary)

    def forward(self, image):
        masks = torch.cat([image - 0.75, image - 0.25], dim=1) * 1e4
        return NetworkOutput(image, masks if self.branches else None)


@pytest.fixture
def ct():
    """HU that rise along x, so that linear resampling is exact; some voxels were not measured."""
    image = np.broadcast_to(np.linspace(-1000, 400, 44), GRID.shape).astype(np.float32)
    valid = np.ones(GRID.shape, bool)
    valid[4, 5, 6] = False
    return CtVolume(GRID, image, valid)


@pytest.mark.parametrize(
    ("point", "box", "expected"),
    [
        (None, None, (slice(0, 20), slice(0, 40), slice(0, 44))),
        # 16, 32 and 32 mm to each side: 8, 32 and 40 voxels, cut at the CT's border
        ("10,35,43", None, (slice(2, 19), slice(3, 40), slice(3, 44))),
        ("0,0,0", None, (slice(0, 9), slice(0, 33), slice(0, 41))),
        (None, "1,2,3,19,39,43", (slice(1, 20), slice(2, 40), slice(3, 44))),
        (None, "5,5,5,5,5,5", (slice(5, 6),) * 3),
    ],
)
def test_a_point_or_box_names_these_voxels(ct, point, box, expected):
    whole = point is None and box is None
    assert Place.parse(point, box, whole).within(ct.grid, (32.0, 64.0, 64.0)) == expected


@pytest.mark.parametrize(
    ("point", "box", "message"),
    [
        (None, None, "the place to predict is not clear: got none, expected one of --point"),
        ("1,2", None, "--point.*got '1,2', expected 3 whole numbers"),
        ("a,2,3", None, "--point.*expected 3"),
        (None, "1,2,3", "--box.*expected 6"),
        ("1,2,3", "1,2,3,4,5,6", "got --point and --box"),
    ],
)
def test_what_cannot_be_parsed_is_refused(point, box, message):
    with pytest.raises(InputError, match=message):
        Place.parse(point, box, whole=False)


@pytest.mark.parametrize(
    ("point", "box"),
    [
        ("20,0,0", None),
        ("0,-1,0", None),
        (None, "0,0,0,0,0,44"),
        (None, "3,3,3,2,9,9"),
        (None, "-1,0,0,1,1,1"),
    ],
)
def test_a_place_outside_the_ct_is_refused(ct, point, box):
    with pytest.raises(InputError, match=r"not in the CT: got .*below 20, 40, 44"):
        Place.parse(point, box, whole=False).within(ct.grid, (64.0, 64.0, 64.0))


def test_a_box_is_predicted_on_isotropic_voxels_and_resampled_back(ct):
    box = (slice(2, 12), slice(3, 23), slice(4, 40))
    volumes = predict_box(Repeats(), CHECKPOINT, ct, box)
    intensity = np.broadcast_to(np.linspace(0, 1, 44), GRID.shape)[box]
    valid = ct.valid[box]
    # Isotropic voxels that an unmeasured one contributes to are 0, and blur into their neighbours
    far = np.ones(valid.shape, bool)
    far[:5, :6, :7] = False
    np.testing.assert_allclose(volumes["alpha"][far], intensity[far], atol=2e-3)
    assert volumes["alpha"][2, 2, 2] == 0.0
    clear = far & (np.abs(intensity - 0.75) > 0.03) & (np.abs(intensity - 0.25) > 0.03)
    assert np.array_equal(volumes["overlap"][clear] > 0.5, intensity[clear] > 0.75)
    assert np.array_equal(volumes["union"][clear] > 0.5, intensity[clear] > 0.25)
    assert [*predict_box(Repeats(auxiliary="none"), CHECKPOINT, ct, box)] == ["alpha"]


def test_the_files_have_the_ct_s_grid_and_0_outside_the_box(ct, tmp_path, monkeypatch):
    monkeypatch.setattr(predict, "read_checkpoint", lambda _: CHECKPOINT)
    monkeypatch.setattr(predict, "read_ct", lambda *_: ct)
    monkeypatch.setattr(predict, "load_network", lambda *_: Repeats())
    place = Place((8, 6, 7), (15, 30, 31))
    files = predict_file("checkpoint", tmp_path / "ct.nii.gz", place, tmp_path / "out", "cpu").files
    names = ["alpha.nii.gz", "overlap.nii.gz", "union.nii.gz", "about.json"]
    assert [*files] == [tmp_path / "out" / name for name in names]
    image = sitk.ReadImage(str(files[0]))
    assert image.GetSpacing() == pytest.approx(GRID.spacing_mm[::-1])
    assert image.GetOrigin() == pytest.approx(GRID.origin_lps_mm)
    alpha = sitk.GetArrayFromImage(image)
    inside = alpha[8:16, 6:31, 7:32].copy()
    alpha[8:16, 6:31, 7:32] = 0
    assert inside.max() > 0.5
    assert not alpha.any()
    about = json.loads(files[-1].read_text())
    assert about["first_voxel_zyx"] == [8, 6, 7]
    assert about["last_voxel_zyx"] == [15, 30, 31]
    assert (about["checkpoint"], about["network"], about["image"]) == ("d1", "3dmm-mg", "ct.nii.gz")
    assert about["trained_on_stand_in"] is True
    assert about["trained_on_mattes"] == "improved form, density"


def test_a_ct_in_other_values_is_refused_unless_they_are_known(ct, tmp_path, monkeypatch):
    shifted = CtVolume(GRID, ct.image_hu + 1024, ct.valid)
    monkeypatch.setattr(predict, "read_checkpoint", lambda _: CHECKPOINT)
    monkeypatch.setattr(predict, "read_ct", lambda *_: shifted)
    monkeypatch.setattr(predict, "load_network", lambda *_: Repeats())
    given = ("checkpoint", tmp_path / "ct.nii.gz", Place((8, 6, 7), (9, 7, 8)), tmp_path, "cpu")
    with pytest.raises(InputError, match=r"not in HU: got 24 to 1424.*--no-hu-check"):
        predict_file(*given)
    assert predict_file(*given, PredictionSettings(hu_check=False)).files[0].exists()


BALLS = {(10, 20, 12): 6.0, (10, 20, 32): 6.0}
"""Centres of two lesions, and their radius in mm."""


@pytest.fixture
def two_lesions(tmp_path, monkeypatch):
    """A CT of two soft balls side by side; the network returns intensities as alpha."""
    index = np.moveaxis(np.indices(GRID.shape), 0, -1)
    image = np.full(GRID.shape, -1000.0)
    for centre, radius in BALLS.items():
        distance = np.linalg.norm((index - centre) * GRID.spacing_mm, axis=-1)
        image = np.maximum(image, -1000 + 1400 / (1 + np.exp(distance - radius)))
    ct = CtVolume(GRID, image.astype(np.float32), np.ones(GRID.shape, bool))
    monkeypatch.setattr(predict, "read_checkpoint", lambda _: CHECKPOINT)
    monkeypatch.setattr(predict, "read_ct", lambda *_: ct)
    monkeypatch.setattr(predict, "load_network", lambda *_: Repeats())
    return tmp_path


def at_point(folder, point, **settings):
    place = Place.parse(point, None, whole=False)
    known = PredictionSettings(hu_check=False, **settings)
    return predict_file("checkpoint", folder / "ct.nii.gz", place, folder / "out", "cpu", known)


def read_alpha(predicted):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(predicted.files[0])))


@pytest.mark.parametrize("beside", [0, 1, 7])
def test_the_lesion_at_the_point_is_kept_alone(two_lesions, beside):
    """A point may be in the lesion, or up to 2 mm beside it (voxels of .8 mm)."""
    alpha = read_alpha(at_point(two_lesions, f"10,20,{12 - beside - 1}"))
    assert alpha[10, 20, 12] > 0.9
    assert alpha[10, 20, 32] == 0
    assert 0 < alpha[10, 20, 12 + 9] < 0.5, "its soft border stays"
    both = read_alpha(at_point(two_lesions, "10,20,12", all_lesions=True))
    assert both[10, 20, 32] > 0.9
    assert np.array_equal(both[:, :, :20], alpha[:, :, :20])


class Fades(Repeats):
    """Draws nothing within 2 mm of the faces, as it learned from crops that are never cut there."""

    def forward(self, image):
        whole = [slice(2, -2) if side > 4 else slice(None) for side in image.shape[2:]]
        inner = torch.zeros_like(image)
        inner[(..., *whole)] = 1
        return super().forward(image * inner)


@pytest.mark.parametrize(
    ("network", "side_mm"), [(Repeats, 4.0), (Repeats, 8.0), (Repeats, 40.0), (Fades, 8.0)]
)
def test_a_window_grows_until_the_lesion_is_whole(two_lesions, monkeypatch, network, side_mm):
    """Lesions of 12 mm: the smaller windows cut them, and the result is that of the large one."""
    monkeypatch.setattr(predict, "load_network", lambda *_: network())
    alone = at_point(two_lesions, "10,20,12")
    expected = read_alpha(alone)
    small = checkpoint_config(
        spacing_mm=1.0, content_key=CONFIG.content_key, window_mm=(side_mm, side_mm, side_mm)
    )
    monkeypatch.setattr(predict, "read_checkpoint", lambda _: Checkpoint({}, small))
    grown = at_point(two_lesions, "10,20,12")
    core = expected >= 0.5
    np.testing.assert_allclose(read_alpha(grown)[core], expected[core], atol=2e-2)
    about = json.loads(grown.files[-1].read_text())
    predicted_mm = (about["last_voxel_zyx"][2] - about["first_voxel_zyx"][2] + 1) * 0.8
    assert 12 < predicted_mm <= 64 + 0.8


@pytest.mark.parametrize("seen_in", ["small", "large"])
def test_a_lesion_in_one_of_two_windows_does_not_count(two_lesions, monkeypatch, seen_in):
    class Sees(Repeats):
        """Returns intensities for windows of one size, and 0 for others."""

        def forward(self, image):
            small = image.shape[-1] <= 32
            return super().forward(image * float(small == (seen_in == "small")))

    small = checkpoint_config(
        spacing_mm=1.0, content_key=CONFIG.content_key, window_mm=(16.0, 24.0, 24.0)
    )
    monkeypatch.setattr(predict, "read_checkpoint", lambda _: Checkpoint({}, small))
    monkeypatch.setattr(predict, "load_network", lambda *_: Sees())
    predicted = at_point(two_lesions, "10,20,12")
    assert predicted.files == ()
    assert predicted.highest_alpha == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("point", ["2,4,40", "10,38,22"])
def test_where_there_is_no_lesion_nothing_is_written(two_lesions, point):
    predicted = at_point(two_lesions, point)
    assert predicted.files == ()
    assert predicted.highest_alpha < 0.5
    assert not (two_lesions / "out").exists()


def test_the_points_of_a_table_are_predicted_each_by_itself(two_lesions, monkeypatch):
    """A CT is read once; one that cannot be read, and a point outside it, cost themselves alone."""
    read, known = [], predict.read_ct

    def read_ct(path, *given):
        read.append(path.name)
        if path.name == "broken.nii.gz":
            raise InputError("it is broken", got="b", expected="a", remedy="Mend it.")
        return known(path, *given)

    monkeypatch.setattr(predict, "read_ct", read_ct)
    table = two_lesions / "points.csv"
    table.write_text(
        "name,image,z,y,x\nleft,ct.nii.gz,10,20,12\nlost,broken.nii.gz,1,1,1\n"
        "air,ct.nii.gz,2,4,40\nfar,ct.nii.gz,99,4,40\n,ct.nii.gz,10,20,32\n"
    )
    out = two_lesions / "out"
    seen = []
    settings = PredictionSettings(hu_check=False)
    points = predict_table(
        "checkpoint", table, out, "cpu", settings, lambda *numbers: seen.append(numbers)
    )
    states = {point.name: point.state for point in points}
    assert states == {
        "left": "found", "air": "no nodule", "far": "refused", "line-6": "found", "lost": "refused"
    }  # fmt: skip
    assert read == ["ct.nii.gz", "broken.nii.gz"]
    assert seen == [(n, 5) for n in range(1, 6)]
    assert {path.name for path in out.iterdir()} == {"left", "line-6", "predictions.csv"}
    alone = at_point(two_lesions / "alone", "10,20,12")
    for name in ("alpha.nii.gz", "about.json"):
        written = (two_lesions / "alone" / "out" / name).read_bytes()
        assert (out / "left" / name).read_bytes() == written
    lines = pd.read_csv(out / "predictions.csv").set_index("name")
    assert lines.loc["left", "volume_mm3"] == alone.volume_mm3
    # Soft balls of 6 mm
    assert alone.volume_mm3 == pytest.approx(4 / 3 * np.pi * (6**3 + np.pi**2 * 6), rel=0.1)
    assert "not in the CT" in lines.loc["far", "reason"]
    assert "it is broken" in lines.loc["lost", "reason"]
    assert pd.isna(lines.loc["air", "volume_mm3"])


def test_a_table_and_a_place_beside_it_are_refused():
    with pytest.raises(InputError, match="got --table and --image, --whole, expected a"):
        Place.check_table(image=True, point=None, box=None, whole=True)


def test_a_whole_ct_is_blended_from_windows_of_the_training_s_size(ct, monkeypatch):
    seen, calls = [], []

    class Watches(Repeats):
        def forward(self, image):
            seen.append(tuple(image.shape[2:]))
            return super().forward(image)

    config = checkpoint_config(
        spacing_mm=1.0,
        synthetic=True,
        content_key={**CONFIG.content_key, "training": {"crop_zyx": [16, 16, 32]}},
    )
    maps = predict_whole(
        Watches(), Checkpoint({}, config), ct, progress=lambda *numbers: calls.append(numbers)
    )
    assert set(seen) == {(16, 16, 32)}
    assert calls == [(n, len(seen)) for n in range(1, len(seen) + 1)]
    intensity = np.broadcast_to(np.linspace(0, 1, 44), GRID.shape)
    far = np.ones(GRID.shape, bool)
    far[:6, :8, :9] = False
    np.testing.assert_allclose(maps["alpha"][far], intensity[far], atol=0.03)
    assert maps["alpha"][4, 5, 6] == 0


def test_flips_are_averaged(ct):
    """A network that adds what lies before a voxel is symmetric after averaging."""

    class Leans(Repeats):
        def forward(self, image):
            return NetworkOutput((image + image.roll(1, dims=4)) / 2, None)

    box = (slice(2, 12), slice(8, 24), slice(10, 26))
    network = Leans(auxiliary="none")
    intensity = np.broadcast_to(np.linspace(0, 1, 44), GRID.shape)[box]
    inner = (slice(None), slice(None), slice(3, -3))
    plain = predict_box(network, CHECKPOINT, ct, box)["alpha"][inner]
    flipped = predict_box(network, CHECKPOINT, ct, box, flips=True)["alpha"][inner]
    assert np.abs(plain - intensity[inner]).max() > 0.01
    np.testing.assert_allclose(flipped, intensity[inner], atol=2e-3)

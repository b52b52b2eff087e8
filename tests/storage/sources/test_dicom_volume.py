"""Slices into HU on a grid, and what is refused on the way."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.uid import JPEG2000Lossless, RLELossless

from matting.errors import InputError
from matting.geometry.patch import AIR_HU
from matting.parameters import ResampleSettings
from storage.sources.dicom_series import find_series
from storage.sources.dicom_volume import SliceStack, read_slice_stack
from tests.dicom import SERIES, slice_dataset, write_series, write_slice


def slab(folder: Path, first: int = 0, stop: int = 100, **settings: Any) -> SliceStack:
    series = find_series([folder])[SERIES]
    return read_slice_stack(series, first, stop, ResampleSettings(**settings))


def test_slices_lie_where_their_headers_say(tmp_path: Path) -> None:
    write_series(tmp_path, [3.0, 4.5, 6.0, 7.5])
    got = slab(tmp_path, 1, 4)
    assert got.grid.shape == (3, 6, 5)
    assert got.grid.spacing_mm == (1.5, 0.7, 0.6), (
        "the distance of slices must not come from SliceThickness"
    )
    assert got.grid.to_patient((2, 3, 4)).tolist() == pytest.approx(
        [-10 + 4 * 0.6, -20 + 3 * 0.7, 7.5]
    )
    assert got.image_hu[:, 0, 0].tolist() == [1, 2, 3]
    assert got.image_hu.dtype == np.float32
    assert got.valid.all()
    assert got.sha256[0] == hashlib.sha256((tmp_path / "001.dcm").read_bytes()).hexdigest()


def test_a_patient_lying_face_down_keeps_patient_coordinates(tmp_path: Path) -> None:
    write_series(tmp_path, [0, 1, 2], ImageOrientationPatient=[-1, 0, 0, 0, -1, 0])
    grid = slab(tmp_path).grid
    assert grid.to_patient((2, 3, 4)).tolist() == pytest.approx([-10 - 4 * 0.6, -20 - 3 * 0.7, 2])


def test_every_slice_has_its_own_slope_and_intercept(tmp_path: Path) -> None:
    write_slice(tmp_path / "a.dcm", 0, hu=10, intercept=-1024)
    write_slice(tmp_path / "b.dcm", 1, hu=20, intercept=-1000)
    write_slice(tmp_path / "c.dcm", 2, hu=0, intercept=-8, RescaleSlope=1.5)
    assert slab(tmp_path).image_hu[:, 2, 2].tolist() == [10, 20, 8 * 1.5 - 8]


@pytest.mark.parametrize(
    ("stored", "tags", "valid"),
    [
        ([-2000, -1999, 24, 1064], {"PixelPaddingValue": -2000}, [False, False, True, True]),
        ([24, 25, 26, 27], {"PixelPaddingValue": 25}, [True, False, True, True]),
        (
            [24, 25, 26, 27],
            {"PixelPaddingValue": 26, "PixelPaddingRangeLimit": 25},
            [True, False, False, True],
        ),
        ([24, 25, 26, 27], {"PixelPaddingValue": ""}, [True, True, True, True]),
        ([0, -1, -2, 1], {}, [True, False, False, True]),
    ],
    ids=["tag and far below air", "tag", "range", "empty tag", "just below -1024 HU"],
)
def test_padding_becomes_air_and_is_marked(
    tmp_path: Path, stored: list[int], tags: dict[str, Any], valid: list[bool]
) -> None:
    for k in range(2):
        write_slice(tmp_path / f"{k}.dcm", k, hu=np.array([stored]) - 1024, shape=(1, 4), **tags)
    got = slab(tmp_path)
    assert got.valid[0, 0].tolist() == valid
    expected = [s - 1024 if v else AIR_HU for s, v in zip(stored, valid, strict=True)]
    assert got.image_hu[0, 0].tolist() == expected


def test_a_padding_value_written_unsigned_beside_signed_pixels_is_understood(
    tmp_path: Path,
) -> None:
    for k in range(2):
        ds = slice_dataset(
            k, hu=np.array([[24, -2000, 24, 24]]) - 1024, shape=(1, 4), RescaleIntercept=1000
        )
        ds.add_new("PixelPaddingValue", "US", 2**16 - 2000)
        ds.save_as(tmp_path / f"{k}.dcm", enforce_file_format=True)
    assert slab(tmp_path).valid[0, 0].tolist() == [True, False, True, True]


def test_a_padding_value_that_tissue_has_is_refused(tmp_path: Path) -> None:
    for k in range(2):
        write_slice(
            tmp_path / f"{k}.dcm", k, hu=[[-1000, 40, 41, 50]], shape=(1, 4), PixelPaddingValue=1064
        )
    with pytest.raises(
        InputError, match=r"one that tissue has: got padding from 40 to 40 HU at 1 of 4 voxels in "
    ):
        slab(tmp_path)


def test_a_missing_slice_is_refused_with_the_gap_and_the_files_passed_over(tmp_path: Path) -> None:
    write_series(tmp_path, [0, 2.5, 5.0, 7.5, 10.0])
    (tmp_path / "002.dcm").write_bytes(b"nothing of use")
    message = (
        r"a gap between the slices that the nodule needs: got 5\.000 mm between positions 2\.500 "
        r"and 7\.500 mm, "
        r"expected 2\.500 mm\..*Files passed over: 002\.dcm \(not DICOM\)"
    )
    with pytest.raises(InputError, match=message):
        slab(tmp_path)
    assert slab(tmp_path, 2, 4).grid.shape[0] == 2, "a gap elsewhere does not matter"


def test_two_slices_with_a_gap_between_them_are_held_against_the_series(tmp_path: Path) -> None:
    write_series(tmp_path, [0, 2, 4, 40, 42, 44])
    with pytest.raises(
        InputError, match=r"36\.000 mm between positions 4\.000 and 40\.000 mm, expected 2\.000 mm"
    ):
        slab(tmp_path, 2, 4)


@pytest.mark.parametrize(("shift_mm", "refused"), [(0.04, False), (0.06, False), (0.15, True)])
def test_even_spacing_has_a_tolerance(tmp_path: Path, shift_mm: float, refused: bool) -> None:
    write_series(tmp_path, [0, 1, 2, 3 - shift_mm])
    if refused:
        with pytest.raises(InputError, match=r"unevenly spaced slices: got 0\.850 mm between"):
            slab(tmp_path)
    else:
        assert slab(tmp_path).grid.spacing_mm[0] == pytest.approx(1, abs=0.03)


def test_one_needed_slice_takes_its_spacing_from_the_series(tmp_path: Path) -> None:
    write_series(tmp_path, [0, 2, 4])
    got = slab(tmp_path, 1, 2)
    assert got.grid.shape[0] == 1
    assert got.grid.spacing_mm[0] == 2


def test_a_series_of_one_slice_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path, [0])
    with pytest.raises(InputError, match=r"a single slice: got .*000\.dcm, expected two or more"):
        slab(tmp_path)


@pytest.mark.parametrize(
    ("name", "odd", "message"),
    [
        ("size", {"shape": (6, 4)}, r"differ in size: got \(6, 4\) in odd\.dcm, expected \(6, 5\)"),
        (
            "spacing",
            {"PixelSpacing": [0.7, 0.61]},
            r"differ in pixel spacing: got \(0\.7, 0\.61\) in odd\.dcm",
        ),
        (
            "orientation",
            {"ImageOrientationPatient": [1, 0, 0, 0, 0.999, 0.0447]},
            r"differ in orientation",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else "",
)
def test_slices_of_another_kind_are_refused_where_they_are_needed(
    tmp_path: Path, name: str, odd: dict[str, Any], message: str
) -> None:
    del name
    write_series(tmp_path, [0, 1, 2])
    write_slice(tmp_path / "odd.dcm", 3, **odd)
    assert slab(tmp_path, 0, 3).grid.shape[0] == 3
    with pytest.raises(InputError, match=message):
        slab(tmp_path)


@pytest.mark.parametrize(("lean_mm", "refused"), [(0.0008, False), (0.0012, True)])
def test_a_tilted_gantry_is_refused(tmp_path: Path, lean_mm: float, refused: bool) -> None:
    for k in range(4):
        write_slice(tmp_path / f"{k}.dcm", k, number=k, xy=(0.0, k * lean_mm))
    if refused:
        with pytest.raises(
            InputError,
            match=r"not orthogonal: got slices that lean by 0\.07 degrees, as of a tilted gantry",
        ):
            slab(tmp_path)
    else:
        assert slab(tmp_path).grid.axes_lps[0] == (0, 0, 1)


def test_a_file_cut_short_is_refused_with_both_sizes(tmp_path: Path) -> None:
    write_series(tmp_path, [0, 1])
    whole = (tmp_path / "001.dcm").read_bytes()
    (tmp_path / "001.dcm").write_bytes(whole[:-7])
    with pytest.raises(
        InputError, match=r"cut short: got 53 bytes in .*001\.dcm, expected 60 bytes"
    ):
        slab(tmp_path)


def test_wherever_a_file_is_cut_it_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path, [0, 1, 2, 3, 4])
    file = tmp_path / "002.dcm"
    whole = file.read_bytes()
    for length in range(0, len(whole), 3):
        file.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"002\.dcm"):
            slab(tmp_path)


def test_compression_that_can_be_decoded_is_decoded(tmp_path: Path) -> None:
    for k in range(2):
        ds = slice_dataset(k, hu=np.arange(30).reshape(6, 5))
        ds.compress(RLELossless, generate_instance_uid=False)
        ds.save_as(tmp_path / f"{k}.dcm", enforce_file_format=True)
    assert slab(tmp_path).image_hu[1].ravel().tolist() == list(range(30))


def test_compression_that_cannot_be_decoded_is_refused_by_name(tmp_path: Path) -> None:
    for k in range(2):
        ds = slice_dataset(k)
        ds.compress(RLELossless, generate_instance_uid=False)
        ds.file_meta.TransferSyntaxUID = JPEG2000Lossless
        ds.save_as(tmp_path / f"{k}.dcm", enforce_file_format=True)
    with pytest.raises(
        InputError, match=r"cannot be decoded: got JPEG 2000 .*0\.dcm.*Fetch the file again"
    ):
        slab(tmp_path)


@pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept"])
def test_values_without_a_way_to_hu_are_refused(tmp_path: Path, keyword: str) -> None:
    write_series(tmp_path, [0, 1], **{keyword: None})
    with pytest.raises(InputError, match=f"how to turn its values into HU: got .*{keyword} None"):
        slab(tmp_path)


def test_a_colour_image_is_refused(tmp_path: Path) -> None:
    write_series(
        tmp_path, [0, 1], SamplesPerPixel=3, PlanarConfiguration=0, PixelData=b"\0" * 6 * 5 * 6
    )
    with pytest.raises(InputError, match=r"no single grey image: got pixels of shape \(6, 5, 3\)"):
        slab(tmp_path)


def test_a_slice_that_vanished_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path, [0, 1])
    series = find_series([tmp_path])[SERIES]
    (tmp_path / "001.dcm").unlink()
    with pytest.raises(InputError, match=r"cannot be read: got .*001\.dcm: No such file"):
        read_slice_stack(series, 0, 2)


def write_ramp(folder: Path, positions: list[float], *, lean: float, degrees: float = 0.0) -> None:
    """Write slices of a radiodensity that rises linearly in the patient; each leans by `lean`."""
    turn = np.radians(degrees)
    along_rows = np.array([1.0, 0.0, 0.0])
    along_columns = np.array([0.0, np.cos(turn), np.sin(turn)])
    for k, z in enumerate(positions):
        first = np.array([-10.0, -20.0 + lean * z, z])
        row, column = np.indices((12, 10))
        points = first + column[..., None] * 0.6 * along_rows + row[..., None] * 0.7 * along_columns
        write_slice(
            folder / f"{k}.dcm",
            z,
            number=k + 1,
            xy=tuple(first[:2]),
            shape=(12, 10),
            hu=np.rint((ramp(points) + 1024) * 16),
            intercept=0,
            RescaleSlope=1 / 16,
            RescaleIntercept=-1024,
            ImageOrientationPatient=[*along_rows, *along_columns],
        )


def ramp(points: Any) -> Any:
    return -500 + points @ np.array([3.0, 7.0, 5.0])


@pytest.mark.parametrize(
    ("positions", "lean", "degrees", "settings"),
    [
        ([0, 2, 4, 6, 8], 0.3, 0.0, {"tilt": "correct"}),
        ([0, 2, 4, 6, 8], 0.0, 18.0, {"tilt": "correct"}),
        ([0, 4, 8, 15, 22, 29], 0.0, 0.0, {"uneven": "interpolate"}),
        ([0, 4, 8, 12, 13, 20, 27], 0.0, 0.0, {"uneven": "interpolate"}),
        ([0, 4, 8, 15, 22, 29], 0.2, 0.0, {"uneven": "interpolate", "tilt": "correct"}),
        ([0, 2, 4, 6, 8], 0.0, 0.0, {"uneven": "interpolate", "tilt": "correct"}),
    ],
)
def test_uneven_and_leaning_slices_become_an_even_upright_stack(
    tmp_path: Path, positions: list[float], lean: float, degrees: float, settings: dict[str, str]
) -> None:
    write_ramp(tmp_path, positions, lean=lean, degrees=degrees)
    got = slab(tmp_path, **settings)
    points = got.grid.to_patient(np.moveaxis(np.indices(got.grid.shape), 0, -1))
    assert np.abs(got.image_hu - ramp(points))[got.valid].max() < 0.15
    assert got.valid.mean() > 0.6
    assert got.valid[got.grid.shape[0] // 2].mean() > 0.7
    axes = np.asarray(got.grid.axes_lps)
    assert np.allclose(axes @ axes.T, np.eye(3), atol=1e-9)
    assert len(got.slices) == len(positions)
    assert (got.restacking is None) == (not lean and not degrees and len(positions) == 5)


def test_what_may_be_a_lost_slice_is_never_interpolated(tmp_path: Path) -> None:
    write_series(tmp_path, [0, 2.5, 5, 10, 12.5, 15])
    with pytest.raises(InputError, match=r"a gap between .* 5\.000 mm .* Fetch the whole series"):
        slab(tmp_path, uneven="interpolate")


def test_uneven_slices_of_a_scanner_are_offered_interpolation(tmp_path: Path) -> None:
    write_series(tmp_path, [0, 4, 8, 15, 22, 29])
    with pytest.raises(InputError, match=r"got 4\.000 mm .*set `resample.uneven: interp"):
        slab(tmp_path, 0, 5)
    assert slab(tmp_path, 0, 3).grid.spacing_mm[0] == 4, "of what is even nothing is interpolated"

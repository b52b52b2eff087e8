"""Predictions that fit their nodule are read as they are; all others are refused in words."""

import io
import zipfile

import nibabel as nib
import numpy as np
import pytest

from matting.errors import InputError
from matting.geometry.grid import Grid
from storage.exports.nifti import affine_ras
from storage.sources.predictions import (
    VALUE_TOLERANCE,
    list_predictions,
    read_prediction,
)

GRID = Grid((3, 4, 5), (0.5, 0.5, 0.5), (-10.0, 20.0, -300.0))
MATTE = np.random.default_rng(0).random(GRID.shape).astype(np.float32)
GEOMETRY = {
    "spacing_mm": np.array(GRID.spacing_mm),
    "origin_lps_mm": np.array(GRID.origin_lps_mm),
    "axes_lps": np.array(GRID.axes_lps),
}


def nifti(path, values=MATTE, grid=GRID):
    nib.save(nib.Nifti1Image(values.transpose(), affine_ras(grid)), path)
    return path


def npz(path, **arrays):
    np.savez_compressed(path, **arrays)
    return path


def header_of(shape):
    """Return the start of a file that claims a shape and holds nothing."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": "<f8", "fortran_order": False, "shape": shape}
    )
    return stream.getvalue()


def test_files_are_listed_by_nodule(tmp_path):
    for name in ("b.2.nii.gz", "a.nii", "a.npz", "notes.txt", ".DS_Store"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "c.npz").mkdir()
    found = list_predictions(tmp_path)
    assert {name: [path.name for path in own] for name, own in found.files.items()} == {
        "a": ["a.nii", "a.npz"],
        "b.2": ["b.2.nii.gz"],
    }
    assert [path.name for path in found.others] == ["c.npz", "notes.txt"]


def test_a_folder_without_predictions_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"got .*nowhere, expected a folder"):
        list_predictions(tmp_path / "nowhere")
    (tmp_path / "n1.mha").write_bytes(b"")
    with pytest.raises(InputError, match=r"got 1 other files .* expected NODULE.nii.gz"):
        list_predictions(tmp_path)


@pytest.mark.parametrize(
    ("make", "has_geometry"),
    [
        (lambda folder: nifti(folder / "n.nii.gz"), True),
        (lambda folder: nifti(folder / "n.nii", MATTE.astype(np.float64)), True),
        (lambda folder: npz(folder / "n.npz", alpha=MATTE), False),
        (lambda folder: npz(folder / "n.npz", anything=MATTE), False),
        (lambda folder: npz(folder / "n.npz", alpha=MATTE, other=MATTE[:1]), False),
        (lambda folder: npz(folder / "n.npz", alpha=MATTE, **GEOMETRY), True),
        (
            lambda folder: npz(
                folder / "n.npz", alpha=np.pad(MATTE, ((0, 1), (0, 2), (0, 0))), **GEOMETRY
            ),
            True,
        ),
    ],
)
def test_what_fits_is_read_as_it_is(tmp_path, make, has_geometry):
    found = read_prediction(make(tmp_path), GRID)
    np.testing.assert_array_equal(found.matte, MATTE)
    assert found.has_geometry is has_geometry


def test_rounding_is_clipped_and_more_is_refused(tmp_path):
    inside = np.array([-0.9, 1 / VALUE_TOLERANCE + 0.9]) * VALUE_TOLERANCE
    values = np.resize(inside, GRID.shape)
    assert set(np.unique(read_prediction(npz(tmp_path / "n.npz", a=values), GRID).matte)) == {0, 1}
    for outside in (-1.1 * VALUE_TOLERANCE, 1 + 1.1 * VALUE_TOLERANCE):
        path = npz(tmp_path / "n.npz", a=np.full(GRID.shape, outside))
        with pytest.raises(InputError, match=r"values outside 0\.\.1: got .* in n.npz"):
            read_prediction(path, GRID)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"alpha": MATTE.transpose()}, r"got \(5, 4, 3\) in n.npz, expected \(3, 4, 5\)"),
        ({"alpha": MATTE[None]}, r"got \(1, 3, 4, 5\)"),
        ({"alpha": np.float32(0.5)}, r"got \(\) in n.npz"),
        ({"a": MATTE, "b": MATTE}, "not one array: got a, b"),
        ({}, "not one array: got nothing"),
        ({"alpha": MATTE + 0j}, "holds no numbers: got complex64"),
        ({"alpha": np.full(GRID.shape, "x")}, "holds no numbers: got <U1"),
        ({"alpha": np.full(GRID.shape, None)}, "cannot be read.*allow_pickle"),
        ({"alpha": np.full(GRID.shape, np.nan)}, "no numbers: got 60 of 60 NaN"),
        ({"alpha": np.full(GRID.shape, -np.inf)}, "no numbers: got 60 of 60 NaN or infinite"),
        ({"alpha": MATTE * 255}, "values outside 0..1: got .* Apply the sigmoid"),
        ({"alpha": np.full(GRID.shape, 254, np.uint8)}, "Divide every prediction by the one value"),
        ({"alpha": MATTE, "spacing_mm": np.ones(3)}, "incomplete geometry: got spacing_mm"),
        ({"alpha": MATTE, **GEOMETRY, "axes_lps": np.eye(2)}, "axes_lps does not have the shape"),
        ({"alpha": MATTE, **GEOMETRY, "axes_lps": np.eye(3)[::-1] * 2}, "orthogonal unit vectors"),
        ({"alpha": MATTE, **GEOMETRY, "origin_lps_mm": np.zeros(3)}, "not cover|not on the grid"),
        ({"alpha": MATTE[0], **GEOMETRY}, r"got \(4, 5\) in n.npz, expected \(3, 4, 5\)"),
        ({"alpha": np.stack([MATTE] * 8), **GEOMETRY}, r"got \(8, 3, 4, 5\) in n.npz"),
    ],
)
def test_an_npz_file_that_does_not_fit_is_refused(tmp_path, arrays, words):
    with pytest.raises(InputError, match=words):
        read_prediction(npz(tmp_path / "n.npz", **arrays), GRID)


@pytest.mark.parametrize("geometry", [{}, GEOMETRY])
def test_a_volume_too_large_to_unpack_is_refused_by_its_header(tmp_path, geometry):
    path = npz(tmp_path / "n.npz", **geometry)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("alpha.npy", header_of((10**5, 10**5, 10**5)))
    with pytest.raises(InputError, match="another shape than the nodule"):
        read_prediction(path, GRID)


@pytest.mark.parametrize("suffix", [".npz", ".nii.gz"])
def test_a_file_cut_short_anywhere_is_refused(tmp_path, suffix):
    make = {".npz": lambda path: npz(path, alpha=MATTE), ".nii.gz": nifti}[suffix]
    whole = make(tmp_path / f"n{suffix}").read_bytes()
    for length in range(0, len(whole) - 1, len(whole) // 12):
        path = tmp_path / f"cut{suffix}"
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=f"cut{suffix}"):
            read_prediction(path, GRID)


@pytest.mark.parametrize(
    ("values", "grid", "words"),
    [
        (MATTE, GRID, None),
        (MATTE, Grid(GRID.shape, (0.5, 0.5, 0.5), (-9.75, 20.0, -300.0)), "0.25 mm off"),
        (MATTE, Grid(GRID.shape, (0.7, 0.7, 0.7), (-10.0, 20.0, -300.0)), "of 0.7 x 0.7 x 0.7 mm"),
        (MATTE[1:], GRID.window((1, 0, 0), (2, 4, 5)), "does not cover the nodule's volume"),
        (np.where(MATTE < 0.5, np.nan, MATTE), GRID, r"NaN or infinite in n\.nii"),
        (np.rint(MATTE * 200).astype(np.uint8), GRID, "Divide every prediction"),
        (np.stack([MATTE, MATTE]), GRID, "is not one volume"),
    ],
)
def test_a_nifti_file_fits_or_is_refused(tmp_path, values, grid, words):
    path = nifti(tmp_path / "n.nii", values, grid)
    if words is None:
        np.testing.assert_array_equal(read_prediction(path, GRID).matte, MATTE)
    else:
        with pytest.raises(InputError, match=words) as refused:
            read_prediction(path, GRID)
        assert str(tmp_path) not in str(refused.value)

"""NIfTI files of any geometry: what is read is what was written, or it is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matting.errors import InputError
from storage.sources.image_io import read_volume
from tests.kinds import write_nifti

SHAPE = (3, 4, 5)
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])


@st.composite
def affines(draw: st.DrawFn) -> Any:
    """A rotation with flips and permutations, oblique or not, with spacing and offset."""
    axes = np.eye(3)[list(draw(st.permutations(range(3))))]
    axes = axes * draw(st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3))
    angle = draw(st.sampled_from([0.0, 0.1, 0.5, 1.2]))
    turn = np.eye(3)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    spacing = draw(st.tuples(*[st.floats(0.3, 5)] * 3))
    affine = np.eye(4)
    affine[:3, :3] = turn @ axes * spacing
    affine[:3, 3] = draw(st.tuples(*[st.floats(-300, 300)] * 3))
    return affine


@settings(max_examples=60, deadline=None)
@given(
    affine=affines(),
    dtype=st.sampled_from(["u1", "i2", "u2", "i4", "f4", "f8"]),
    codes=st.sampled_from([(1, 0), (0, 1), (1, 1), (2, 4)]),
    shift_mm=st.sampled_from([0.0, 0.04, 0.2]),
    suffix=st.sampled_from([".nii", ".NII"]),
    scale=st.sampled_from([(1.0, 0.0), (2.0, -1024.0), (0.5, 0.25), (0.0, 0.0), (0.0, 7.0)]),
)
def test_what_is_read_is_what_was_written(
    tmp_path_factory: pytest.TempPathFactory,
    affine: Any,
    dtype: str,
    codes: tuple[int, int],
    shift_mm: float,
    suffix: str,
    scale: tuple[float, float],
) -> None:
    path = tmp_path_factory.mktemp("nifti") / f"volume{suffix}"
    values = np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(dtype)
    qform = affine + np.pad([[shift_mm]], ((0, 3), (3, 0)))
    sform_code, qform_code = codes
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    write_nifti(
        path,
        values,
        sform=affine,
        qform=qform if qform_code else None,
        sform_code=sform_code,
        qform_code=qform_code,
        spacing=spacing,
    )
    _set_scale(path, *scale)
    if sform_code and qform_code and shift_mm > 0.05:
        with pytest.raises(InputError, match="two geometries that disagree"):
            read_volume(path, "the CT")
        return
    slope, intercept = scale
    if slope == 0 and intercept:
        with pytest.raises(InputError, match="in two ways: got scl_slope 0 and scl_inter 7"):
            read_volume(path, "the CT")
        return
    volume = read_volume(path, "the CT")
    # A slope of 0 stands for values that are stored as they are (NIfTI-1 standard, scl_slope).
    assert np.array_equal(volume.values, values * slope + intercept if slope else values)
    wanted = affine if sform_code else qform
    corner = (2, 1, 4)
    assert volume.grid.to_patient(corner) == pytest.approx(
        RAS_TO_LPS @ (wanted @ (*corner[::-1], 1))[:3], abs=0.05
    )


@pytest.mark.parametrize(("slope", "intercept"), [(2.0, -1024.0), (1.0, -1000.0), (0.5, 0.0)])
def test_a_sheared_file_is_scaled_as_any_other(
    tmp_path: Path, slope: float, intercept: float
) -> None:
    affine = np.array([[-0.7, 7e-4, 0, 1], [0, -0.7, 0, 2], [0, 0, 2.5, 3], [0, 0, 0, 1]])
    values = np.arange(60, dtype=np.int16).reshape(SHAPE)
    path = write_nifti(
        tmp_path / "a.nii", values, sform=affine, sform_code=1, spacing=(0.7, 0.7, 2.5)
    )
    _set_scale(path, slope, intercept)
    assert np.array_equal(read_volume(path, "the CT").values, values * slope + intercept)


def _set_scale(path: Path, slope: float, intercept: float) -> None:
    content = bytearray(path.read_bytes())
    content[112:120] = np.array([slope, intercept], "<f4").tobytes()
    path.write_bytes(content)


def test_a_file_cut_short_is_refused_with_both_sizes(tmp_path: Path) -> None:
    values = np.arange(60, dtype=np.int16).reshape(SHAPE)
    path = write_nifti(tmp_path / "a.nii", values, qform=np.eye(4), qform_code=1)
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(InputError, match=r"cannot be read: got .*a\.nii: 113 of 120 bytes"):
        read_volume(path, "the CT")


def test_a_header_without_sense_is_refused_in_words(tmp_path: Path) -> None:
    values = np.arange(60, dtype=np.int16).reshape(SHAPE)
    path = write_nifti(tmp_path / "a.nii", values, qform=np.eye(4), qform_code=1)
    whole = path.read_bytes()
    for start, stop in ((40, 56), (70, 74), (76, 108), (108, 112), (123, 124), (252, 280)):
        path.write_bytes(whole[:start] + b"\xff" * (stop - start) + whole[stop:])
        try:
            read_volume(path, "the CT")
        except InputError as error:
            assert "Traceback" not in str(error)  # noqa: PT017

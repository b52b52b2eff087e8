"""DICOM series of any geometry and scale: what is read is what was written."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.sources.ct import read_ct
from tests.dicom import write_slice

SHAPE = (4, 3, 5)
"""Slices, rows, columns."""
NUMBER = st.floats(-300, 300).map(lambda value: round(value, 4))


@st.composite
def orientations(draw: st.DrawFn) -> Any:
    """Directions of columns, rows and slices in the patient: turned, permuted and flipped."""
    axes = np.eye(3)[list(draw(st.permutations(range(3))))]
    axes = axes * draw(st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3))
    angle = draw(st.sampled_from([0.0, 0.02, 0.5, 1.2]))
    turn = np.eye(3)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    across, down = np.round(turn @ axes, 9)[:2]
    return across, down, np.cross(across, down)


@settings(max_examples=40, deadline=None)
@given(
    orientation=orientations(),
    spacing_mm=st.tuples(*[st.floats(0.3, 5).map(lambda value: round(value, 4))] * 3),
    origin_mm=st.tuples(NUMBER, NUMBER, NUMBER),
    scale=st.sampled_from([(1, -1024), (1, 0), (0.5, -1000), (2, -1024), (0.25, -500.5)]),
    signed=st.booleans(),
    bits=st.sampled_from([12, 16]),
    names=st.permutations(range(SHAPE[0])),
    data=st.data(),
)
def test_what_is_read_is_what_was_written(
    tmp_path_factory: pytest.TempPathFactory,
    orientation: Any,
    spacing_mm: tuple[float, float, float],
    origin_mm: tuple[float, float, float],
    scale: tuple[float, float],
    signed: bool,
    bits: int,
    names: list[int],
    data: st.DataObject,
) -> None:
    folder = tmp_path_factory.mktemp("series")
    across, down, up = orientation
    slope, intercept = scale
    lowest, highest = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    # HU that a CT can have: lower ones are padding, and are tested beside the reading of pixels
    lowest = max(lowest, int(np.ceil((-1024 - intercept) / slope)))
    highest = min(highest, int((3000 - intercept) / slope))
    seed = data.draw(st.integers(0, 2**32 - 1))
    stored = np.random.default_rng(seed).integers(lowest, highest + 1, SHAPE)
    step, between_rows, between_columns = spacing_mm
    for k in range(SHAPE[0]):
        position = np.asarray(origin_mm) + up * step * k
        write_slice(
            folder / f"{names[k]}.dcm",
            float(k),
            shape=SHAPE[1:],
            number=names[k] + 1,
            ImagePositionPatient=[f"{value:.6f}" for value in position],
            ImageOrientationPatient=[f"{value:.9f}" for value in (*across, *down)],
            PixelSpacing=[between_rows, between_columns],
            BitsStored=bits,
            HighBit=bits - 1,
            PixelRepresentation=int(signed),
            PixelData=(stored[k] & (2**bits - 1)).astype("<u2").tobytes(),
            RescaleSlope=slope,
            RescaleIntercept=intercept,
        )
    ct = read_ct(folder)
    assert np.array_equal(ct.image_hu, (stored * slope + intercept).astype(np.float32))
    assert ct.valid.all()
    for index in ((0, 0, 0), (3, 0, 0), (3, 2, 4), (1, 2, 0)):
        k, row, column = index
        place = (
            np.asarray(origin_mm)
            + up * step * k
            + down * between_rows * row
            + across * between_columns * column
        )
        assert ct.grid.to_patient(index) == pytest.approx(place, abs=0.01)

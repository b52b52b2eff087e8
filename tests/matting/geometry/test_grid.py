import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from matting.errors import InputError
from matting.geometry import grid
from matting.geometry.grid import Grid

OBLIQUE = Grid(
    (4, 5, 6),
    (2.5, 0.7, 0.8),
    (-10.0, 20.0, -300.0),
    ((0.0, 0.6, 0.8), (0.0, 0.8, -0.6), (1.0, 0.0, 0.0)),
)


def test_axes_run_where_they_say():
    assert OBLIQUE.to_patient((0, 0, 1)) == pytest.approx((-10.0 + 0.8, 20.0, -300.0))
    assert OBLIQUE.to_patient((1, 0, 0)) == pytest.approx(
        (-10.0, 20.0 + 2.5 * 0.6, -300.0 + 2.5 * 0.8)
    )


@given(st.tuples(*[st.floats(-50, 50)] * 3))
def test_to_index_undoes_to_patient(index):
    assert OBLIQUE.to_index(OBLIQUE.to_patient(index)) == pytest.approx(index, abs=1e-9)


@given(st.tuples(*[st.floats(-50, 50)] * 3))
def test_the_affine_is_to_patient_as_a_matrix(index):
    assert (OBLIQUE.affine @ (*index, 1.0))[:3] == pytest.approx(OBLIQUE.to_patient(index))
    assert OBLIQUE.affine[3].tolist() == [0.0, 0.0, 0.0, 1.0]


def test_the_examples_in_the_docstrings_are_right():
    results = doctest.testmod(grid)
    assert results.attempted >= 8
    assert results.failed == 0


def test_window_keeps_every_voxel_in_its_place():
    window = OBLIQUE.window((-1, 2, 3), (3, 3, 3))
    assert window.to_patient((2, 1, 0)) == pytest.approx(OBLIQUE.to_patient((1, 3, 3)))


def test_with_spacing_stays_within_the_hull():
    fine = OBLIQUE.with_spacing((0.5, 0.5, 0.5))
    assert fine.shape == (16, 6, 9)  # 7.5 / 0.5 + 1, 2.8 / 0.5 + 1, 4.0 / 0.5 + 1
    last = OBLIQUE.to_index(fine.to_patient(np.array(fine.shape) - 1))
    assert (last <= np.array(OBLIQUE.shape) - 1 + 1e-9).all()


def test_orthogonality_tolerance_accepts_rounded_cosines_and_refuses_a_tilted_gantry():
    rounded = ((0.0, 0.0, 1.0), (0.0, 0.9999, 0.0), (1.0, 0.0, 0.0))
    assert Grid((2, 2, 2), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), rounded).shape == (2, 2, 2)
    tilted = ((0.0, 0.05, 0.99875), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
    with pytest.raises(InputError, match=r"orthogonal unit vectors.*0\.05"):
        Grid((2, 2, 2), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), tilted)


@pytest.mark.parametrize("spacing", [(0.0, 1.0, 1.0), (1.0, -1.0, 1.0), (1.0, float("nan"), 1.0)])
def test_spacing_must_be_positive(spacing):
    with pytest.raises(InputError, match="spacing must be positive"):
        Grid((2, 2, 2), spacing, (0.0, 0.0, 0.0))


def test_empty_grids_are_refused():
    with pytest.raises(InputError, match=r"three sizes: got \(0, 2, 2\)"):
        Grid((0, 2, 2), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))

"""The same voxels on another grid are found whatever their order; other voxels are refused."""

from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from matting.errors import InputError
from matting.geometry.alignment import TOLERANCE_MM, place_on_grid
from matting.geometry.grid import Grid

TARGET = Grid((3, 4, 5), (0.5, 0.5, 0.5), (-10.0, 20.0, -300.0))
VALUES = np.random.default_rng(0).random(TARGET.shape)
PADS = st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 3)


def stored(order, mirrored, pads=((0, 0),) * 3):
    """Return the values as another program stores them: within a larger volume, reordered."""
    values = np.pad(VALUES, pads, constant_values=9.0)
    grid = TARGET.window(tuple(-before for before, _ in pads), values.shape)
    axes = [np.array(axis) for axis in grid.axes_lps]
    origin = np.array(grid.origin_lps_mm)
    for axis in mirrored:
        values = np.flip(values, axis)
        origin = origin + axes[axis] * grid.spacing_mm[axis] * (grid.shape[axis] - 1)
        axes[axis] = -axes[axis]
    return values.transpose(order), Grid(
        tuple(values.shape[n] for n in order),
        tuple(grid.spacing_mm[n] for n in order),
        tuple(origin.tolist()),
        tuple(tuple(axes[n].tolist()) for n in order),
    )


@given(
    st.sampled_from(list(permutations(range(3)))),
    st.sets(st.sampled_from(range(3))),
    PADS,
)
def test_the_same_voxels_in_any_order_are_found(order, mirrored, pads):
    values, grid = stored(order, mirrored, pads)
    np.testing.assert_array_equal(place_on_grid(values, grid, TARGET, "it"), VALUES)


@pytest.mark.parametrize("axis", range(3))
def test_voxels_farther_off_than_the_tolerance_are_refused(axis):
    for factor, fits in ((0.9, True), (1.1, False)):
        origin = list(TARGET.origin_lps_mm)
        origin[axis] += factor * TOLERANCE_MM
        moved = replace(TARGET, origin_lps_mm=tuple(origin))
        if fits:
            np.testing.assert_array_equal(place_on_grid(VALUES, moved, TARGET, "it"), VALUES)
        else:
            with pytest.raises(InputError, match=r"it is not on the grid.*up to 0.011 mm off"):
                place_on_grid(VALUES, moved, TARGET, "it")


@pytest.mark.parametrize("spacing_mm", [(1.0, 0.5, 0.5), (0.25, 0.25, 0.25), (0.5, 0.5, 0.51)])
def test_another_spacing_is_refused(spacing_mm):
    grid = Grid((30, 40, 50), spacing_mm, TARGET.origin_lps_mm)
    if spacing_mm == (0.25, 0.25, 0.25):
        # Every second voxel is one of the target's, but what is cut out would be another volume
        assert grid.to_index(TARGET.to_patient((1, 1, 1))).tolist() == [2, 2, 2]
    with pytest.raises(InputError, match="Resample it to that grid"):
        place_on_grid(np.zeros(grid.shape), grid, TARGET, "it")


def test_a_turned_grid_is_refused():
    half = float(np.sqrt(0.5))
    axes = ((0.0, 0.0, 1.0), (half, half, 0.0), (half, -half, 0.0))
    grid = replace(TARGET, axes_lps=axes)
    with pytest.raises(InputError, match="not on the grid"):
        place_on_grid(VALUES, grid, TARGET, "it")


@pytest.mark.parametrize(("axis", "end"), [*product(range(3), (0, 1))])
def test_a_volume_that_lacks_a_slice_is_refused(axis, end):
    start, shape = [0, 0, 0], list(TARGET.shape)
    start[axis] = end
    shape[axis] -= 1
    grid = TARGET.window(tuple(start), tuple(shape))
    with pytest.raises(InputError, match="does not cover the nodule's volume"):
        place_on_grid(np.zeros(shape), grid, TARGET, "it")

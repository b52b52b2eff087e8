"""Slices that are uneven or lean, and masks on them."""

import numpy as np
import pytest

from matting.geometry.restack import Restacking


def restacking(along, moved=None):
    return Restacking(
        np.asarray(along, float), np.zeros((len(along), 2)) if moved is None else np.asarray(moved)
    )


def test_masks_take_the_nearest_slice():
    stack = restacking([0, 1, 2, 3.75, 5.5])
    masks = np.zeros((2, 5, 1, 1), bool)
    masks[0, 3] = True
    masks[1, 2] = True
    placed = stack.masks(masks)
    assert stack.depth == placed.shape[1] == 6
    assert placed[0, :, 0, 0].tolist() == [False, False, False, True, True, False]
    assert placed[1, :, 0, 0].tolist() == [False, False, True, False, False, False]


def test_masks_move_with_their_slices():
    stack = restacking([0, 1, 2], [[-1, 0], [0, 0], [1.4, -2]])
    masks = np.zeros((1, 3, 5, 5), bool)
    masks[0, :, 2, 2] = True
    placed = stack.masks(masks)[0]
    assert np.argwhere(placed).tolist() == [[0, 1, 2], [1, 2, 2], [2, 3, 0]]


def test_radiodensity_is_interpolated_only_between_measured_voxels():
    stack = restacking([0, 1, 3])
    image = np.array([0, 10, 30], np.float32)[:, None, None] * np.ones((3, 2, 2), np.float32)
    valid = np.ones((3, 2, 2), bool)
    valid[2, 0, 0] = False
    stacked, measured = stack.image(image, valid)
    assert stacked[:, 1, 1].tolist() == [0, 10, 20, 30]
    assert measured[:, 1, 1].all()
    assert measured[:, 0, 0].tolist() == [True, True, False, False]
    assert stacked[2:, 0, 0].tolist() == [-1000, -1000]


@pytest.mark.parametrize("by", [0.25, -0.5])
def test_what_moves_in_from_outside_was_not_measured(by):
    stack = restacking([0, 1], [[0, 0], [by, 0]])
    image = np.tile(np.arange(6, dtype=np.float32)[:, None], (2, 1, 3))
    stacked, measured = stack.image(image, np.ones(image.shape, bool))
    inner = measured[1].all(axis=1)
    assert inner.sum() == 5
    assert stacked[1, inner, 0].tolist() == pytest.approx((np.arange(6) - by)[inner].tolist())

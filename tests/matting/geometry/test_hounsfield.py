"""Which values are taken for HU."""

import numpy as np
import pytest

from matting.errors import InputError
from matting.geometry.hounsfield import check_hounsfield
from tests.phantoms import ball_patch

BALL = ball_patch()
MARKED = BALL.readers.any(axis=0)


def check(image_hu, valid=None, marked=MARKED):
    valid = np.ones(image_hu.shape, bool) if valid is None else valid
    check_hounsfield(image_hu.astype(np.float32), valid, marked, remedy="Convert it.")


def test_a_nodule_in_lung_is_ct():
    check(BALL.image_hu)
    check(BALL.image_hu, marked=None)


def with_metal(hu):
    image = BALL.image_hu.copy()
    image[0, 0, 0] = hu
    return image


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (with_metal(31744), r"-9\d\d to 31744: CT holds at most 31743"),
        (BALL.image_hu + 1024, r"hardly any voxel below -300; perhaps HU \+ 1024"),
        (BALL.image_hu / 1000, r"scaled to 0\.\.1"),
        (np.clip((BALL.image_hu + 1000) / 5, 0, 255), "picture of 8 bits"),
        (BALL.image_hu * 40 + 40000, "at most 31743"),
        (BALL.image_hu * 0 - 1024, "no contrast"),
        (np.where(BALL.image_hu < -300, -600, BALL.image_hu) / 3, "another scale"),
    ],
)
def test_other_values_are_refused_with_their_range(image, words):
    with pytest.raises(InputError, match=f"the CT is not in HU: got .*{words}.*Convert it"):
        check(image)


def test_metal_of_the_extended_scale_is_ct():
    check(with_metal(31743))


def test_padding_does_not_count():
    image = BALL.image_hu + 1024
    valid = np.ones(image.shape, bool)
    image[:3], valid[:3] = -1000, False
    with pytest.raises(InputError, match="hardly any voxel below -300"):
        check(image, valid)
    with pytest.raises(InputError, match="nothing measured: no contrast"):
        check(BALL.image_hu, np.zeros(image.shape, bool))


@pytest.mark.parametrize(
    ("hu", "refused"), [(-951, True), (-950, False), (2000, False), (2001, True)]
)
def test_what_the_readers_marked_is_tissue(hu, refused):
    image = np.where(MARKED, hu, BALL.image_hu)
    if not refused:
        check(image)
        return
    with pytest.raises(InputError, match=rf"marked no tissue: got a median of {hu} HU"):
        check(image)


def test_marks_on_padding_are_on_air():
    with pytest.raises(InputError, match="a median of -1000 HU"):
        check(BALL.image_hu, ~MARKED)

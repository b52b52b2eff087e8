"""Thumbnails: grey CT on the left, the picked matte or else the readers' mean on the right."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from qc.figures.drawing import DrawnNodule
from qc.report.thumbnail import SIDE_PIXELS, thumbnail
from tests.phantoms import ball_patch


def halves(picked, **changes):
    patch = ball_patch()
    subject = DrawnNodule(
        grid=patch.grid,
        image_hu=patch.image_hu,
        valid=patch.valid,
        readers=patch.readers,
        trimap=np.zeros(patch.grid.shape, np.uint8),
        alphas={"lb": patch.known_alpha, "cf": np.zeros_like(patch.known_alpha)},
        why_missing={},
        picked=picked,
        **changes,
    )
    data = thumbnail(subject)
    assert data == thumbnail(subject)
    pixels = np.asarray(Image.open(BytesIO(data)).convert("RGB")).astype(int)
    assert pixels.shape == (SIDE_PIXELS, 2 * SIDE_PIXELS, 3)
    return pixels[:, :SIDE_PIXELS], pixels[:, SIDE_PIXELS:]


@pytest.mark.parametrize(("picked", "bright"), [("lb", True), ("cf", False), (None, True)])
def test_the_picked_matte_is_beside_the_ct(picked, bright):
    ct, matte = halves(picked)
    middle = slice(SIDE_PIXELS // 2 - 4, SIDE_PIXELS // 2 + 4)
    assert ct[middle, middle].mean() > 200  # tissue
    assert np.ptp(ct[middle, middle], axis=-1).max() <= 8  # grey
    assert ct[16:20, 16:20].mean() < 120  # lung
    assert bool(matte[middle, middle].mean() > 180) is bright
    assert matte[:4, :4].max() < 20

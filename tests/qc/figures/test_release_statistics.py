from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from qc.figures.release_statistics import draw_release_statistics


def table(count, slice_distance_mm=2.5):
    draw = np.random.default_rng(1)
    volume = draw.lognormal(6, 1, count)
    middle = draw.normal(-200, 200, count)
    rows = pd.DataFrame({
        "nodule": [f"P-{n}" for n in range(count)], "split": "train", "volume_mm3": volume,
        "overlap_mm3": volume * 0.6, "union_mm3": volume * 1.5,
        "depth_mm": draw.uniform(10, 40, count),
        "slice_distance_mm": slice_distance_mm, "dice": draw.uniform(0.5, 1, count),
        "hu_p5": middle - 300, "hu_median": middle, "hu_p95": middle + 200,
    })  # fmt: skip
    return rows.to_csv(index=False).encode()


def test_the_same_table_gives_the_same_picture_and_another_another():
    assert draw_release_statistics(table(50), "one") == draw_release_statistics(table(50), "one")
    assert draw_release_statistics(table(50), "one") != draw_release_statistics(table(51), "one")
    assert b"Software" not in draw_release_statistics(table(5), "one")


@pytest.mark.parametrize(("count", "distance"), [(1, 2.5), (3, float("nan")), (200, 1.25)])
def test_few_nodules_and_unknown_distances_are_drawn_too(count, distance):
    image = imread(BytesIO(draw_release_statistics(table(count, distance), "Halosign 0.1.0")))
    assert image.shape[:2] == (682, 1210)
    assert image[..., :3].min() < 0.3

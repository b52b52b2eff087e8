"""Statistics of nodules against numbers counted by hand."""

import io
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from storage.cases.case import read_case, write_case
from storage.releases.statistics import nodule_statistics, statistics_files
from tests.cases import METHODS, lidc_facts, new_case
from tests.phantoms import ball_patch


@pytest.fixture
def case(store):
    patch = ball_patch(shape=(6, 8, 8))
    readers = np.zeros_like(patch.readers)
    readers[:, 2:4, 2:4, 2:4] = True
    readers[0, 2:4, 2:4, 4:6] = True
    alpha = np.zeros(patch.grid.shape)
    alpha[2:4, 2:4, 2:4] = 1
    alpha[2:4, 2:4, 4] = 0.5
    image = np.full(patch.grid.shape, -800, np.float32)
    image[readers.any(axis=0)] = 40
    grid = replace(patch.grid, spacing_mm=(2.0, 0.5, 0.5))
    whole = replace(patch, readers=readers, image_hu=image, grid=grid)
    source = lidc_facts(slice_positions_mm=(1.0, -1.5, -4.0, -6.5))
    write_case(store, new_case(patch=whole, alphas=dict.fromkeys(METHODS, alpha), source=source))
    return read_case(store, "P-1", "d" * 64)


def test_the_values_are_those_counted_by_hand(case):
    found = nodule_statistics(case, "cf", "train")
    assert (found.nodule, found.split) == ("P-1", "train")
    assert (found.depth_mm, found.rows_mm, found.columns_mm, found.slice_distance_mm) == (
        12,
        4,
        4,
        2.5,
    )
    assert (found.volume_mm3, found.overlap_mm3, found.union_mm3) == (5, 4, 8)
    assert (found.hu_p5, found.hu_median, found.hu_p95) == (40, 40, 40)
    assert found.dice == pytest.approx((3 * 2 * 8 / 24 + 3) / 6, abs=1e-4)
    assert found.soft_share == pytest.approx(4 / 12, abs=1e-4)


def test_the_table_has_a_row_per_nodule_and_its_quantiles_are_stored(case):
    rows = [
        replace(nodule_statistics(case, "cf", "train"), nodule=f"P-{n}", volume_mm3=float(n))
        for n in range(101)
    ]
    rows = [replace(row, slice_distance_mm=float("nan")) for row in rows]
    files = statistics_files(rows)
    table = pd.read_csv(io.BytesIO(files["fingerprint.csv"]))
    assert table["volume_mm3"].tolist() == list(range(101))
    spread = json.loads(files["fingerprint.json"])
    assert spread["nodules"] == 101
    assert spread["quantiles"]["volume_mm3"] == {
        "q0": 0, "q5": 5, "q25": 25, "q50": 50, "q75": 75, "q95": 95, "q100": 100,
    }  # fmt: skip
    assert "slice_distance_mm" not in spread["quantiles"]

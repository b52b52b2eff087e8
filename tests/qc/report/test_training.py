import csv
import io

import numpy as np
import pytest

from qc.report.training import draw_curves, draw_samples, losses_csv, sample_view, training_facts
from storage.records import Line
from storage.results.checkpoints import Checkpoint
from tests.cases import checkpoint_config

LOSSES = {"total": 3.0, "alpha": 0.2, "gradient": 0.1, "overlap": 0.0, "union": 0.0}

ROWS = [
    {"epoch": 1, "rate": 0.01, **LOSSES, "sad": None, "mse": None, "seconds": 2.0},
    {"epoch": 2, "rate": 0.005, **LOSSES, "sad": 120.0, "mse": 0.01, "seconds": 3.0},
]


def test_losses_are_written_one_line_an_epoch_and_what_was_not_measured_is_empty():
    lines = list(csv.DictReader(io.StringIO(losses_csv(ROWS).decode())))
    assert [line["sad"] for line in lines] == ["", "120.0"]
    assert list(lines[0]) == list(ROWS[0])


def test_the_slice_goes_through_the_middle_of_what_was_marked_with_a_margin():
    image = np.arange(9 * 80 * 90).reshape(9, 80, 90)
    union = np.zeros(image.shape, bool)
    union[2:7, 40:44, 3:6] = True
    one = sample_view("n", image, image / image.max(), image / image.max(), union)
    assert np.array_equal(one.image_hu, image[4, 16:68, 0:30])
    assert one.truth.shape == one.predicted.shape == one.image_hu.shape


@pytest.mark.parametrize("synthetic", [True, False])
def test_pictures_are_drawn_and_a_stand_in_says_so(synthetic):
    image = np.random.default_rng(0).uniform(-1000, 100, (3, 30, 30))
    one = sample_view("n", image, image * 0, image * 0 + 0.5, image > 0)
    for draw in (
        lambda mark: draw_curves(ROWS, split="validation", synthetic=mark),
        lambda mark: draw_samples([one], "epoch 2", synthetic=mark),
    ):
        assert draw(synthetic).startswith(b"\x89PNG")
        assert draw(synthetic) != draw(not synthetic)


def test_the_report_s_table_holds_one_truth_and_region_with_the_network_first():
    config = checkpoint_config(epochs=tuple(ROWS))
    means = {"sad": 1.0, "mse": 2.0, "grad": 3.0, "conn": 4.0}
    lines = [
        Line(matte, "known", region, 2, means, means)
        for matte in ("cf", "3dmm-mg", "readers' mean")
        for region in ("near", "whole")
    ]
    facts = training_facts(
        Checkpoint({}, config), lines, curves=b"c", samples=b"s", truth="known", region="near"
    )
    assert [row.matte for row in facts.scores] == ["3dmm-mg", "cf", "readers' mean"]
    assert [row.is_network for row in facts.scores] == [True, False, False]
    assert facts.scores[0].metrics == (1.0, 2.0, 3.0, 4.0)
    assert (facts.seconds, facts.epochs) == (5.0, 2)

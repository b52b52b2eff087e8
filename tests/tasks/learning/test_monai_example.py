"""The example that trains a network of MONAI's, predicts, and is scored."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

import halosign

EXAMPLE = Path(__file__).parents[3] / "examples" / "monai_network.py"


def test_the_example_s_predictions_can_be_scored(release, tmp_path, monkeypatch, capsys):
    out = tmp_path / "predictions"
    arguments = [release.store.url, release.version, "--epochs", "2", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), *arguments])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    first, second, _ = capsys.readouterr().out.splitlines()
    losses = [float(line.rpartition(" ")[2]) for line in (first, second)]
    assert losses[1] < losses[0]
    page = halosign.score(release, out, split="test")
    assert len(page.scored) == page.expected == 2
    assert page.without_geometry == 0
    assert not page.not_scored


@pytest.mark.parametrize("size", [1, 15, 33])
def test_a_prediction_has_the_volume_s_shape(size):
    example = runpy.run_path(str(EXAMPLE))
    valid = np.ones((size, 20, 40), bool)
    valid[0, 0, 0] = False
    alpha = example["predict"](example["build"](1), np.full(valid.shape, -500, np.int16), valid)
    assert alpha.shape == valid.shape
    assert alpha[0, 0, 0] == 0
    assert 0 < alpha[valid].min() <= alpha[valid].max() < 1

"""Figure 6 is drawn from rows, and says what it stands on."""

import csv
import io

from PIL import Image

from qc.evaluation.diagnosis import _kind, diagnosis_csv, draw_diagnosis
from storage.results.diagnoses import DiagnosisRow


def rows(backbones=("densenet121", "resnet50")):
    inputs = ("Image", "Mean", "CF", "CF+", "GT", "HU linear")
    found = [
        DiagnosisRow(backbone, name, seed, 0.7 + 0.02 * n, 0.65 + 0.02 * n, 0.78 + 0.02 * n, 40, 18)
        for backbone in backbones
        for n, name in enumerate(inputs)
        for seed in (1, 2, None)
    ]
    return [*found, DiagnosisRow("none", "Volume", None, 0.8, 0.75, 0.85, 40, 18)]


def test_the_figure_has_a_panel_a_backbone_and_says_stand_in():
    wide, narrow = (
        Image.open(io.BytesIO(draw_diagnosis(rows(b))))
        for b in (("resnet34", "resnet50"), ("resnet34",))
    )
    assert wide.width > narrow.width
    assert draw_diagnosis(rows(), synthetic=True) != draw_diagnosis(rows())
    assert draw_diagnosis(rows(), note="reduced setting") != draw_diagnosis(rows())
    assert draw_diagnosis(rows()) == draw_diagnosis(rows())


def test_nothing_to_draw_is_drawn_as_nothing():
    assert Image.open(io.BytesIO(draw_diagnosis([]))).width > 0


def test_rows_go_to_csv_as_they_are():
    lines = list(csv.DictReader(io.StringIO(diagnosis_csv(rows()).decode())))
    assert len(lines) == len(rows())
    assert lines[2] | {"backbone": "densenet121", "seed": "", "auroc": "0.7"} == lines[2]
    assert lines[-1]["input"] == "Volume"


def test_every_input_belongs_to_a_kind():
    assert [_kind(name) for name in ("Rand", "KNN", "KNN+", "GT")] == [
        "readers' masks",
        "plain mattes",
        "optimised mattes",
        "released matte",
    ]

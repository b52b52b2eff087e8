"""The page of scores shows every number of its table, and what was not scored."""

import csv
import io
import re
from dataclasses import replace
from html import unescape

import pytest

from qc.evaluation.scores import FILES, METRICS, REPORT, ScoresPage, render_scores
from storage.results.prediction_scores import CalibrationBin, MeanScore, NotScored

TRUTHS = {"released": ("sad", "mse", "mse_paper_sized", "grad", "conn"), "readers": ("brier",)}


def rows():
    """Return rows of two groups, each value another number."""
    number = 0.0
    for group in ("all", "solid"):
        for truth, metrics in TRUTHS.items():
            for matte in ("prediction", "cf", "readers' mean"):
                for metric in metrics:
                    number += 1
                    compared = matte != "prediction"
                    values = [-1.01 * number, -1.02 * number, -1.03 * number]
                    yield MeanScore(
                        group=group,
                        truth=truth,
                        region="unknown",
                        matte=matte,
                        metric=metric,
                        nodules=5,
                        patients=4,
                        mean=number,
                        low=None if metric == "brier" else 0.9 * number,
                        high=None if metric == "brier" else 1.1 * number,
                        pairs=3 if matte == "cf" else 5,
                        difference=values[0] if compared else None,
                        difference_low=values[2] if compared else None,
                        difference_high=values[1] if compared else None,
                    )


PAGE = ScoresPage(
    title="Scores",
    release="0.1.0",
    manifest_sha256="a" * 64,
    predictions="mattes",
    split="test",
    expected=8,
    synthetic=0,
    without_geometry=0,
    scored=("n1", "n2", "n3", "n4", "n5"),
    scores=tuple(rows()),
    nodules=(),
    readers=(),
    calibration=(CalibrationBin("prediction", "unknown", 4, 10, 0.45, 0.5),),
    not_scored=(),
)


def cells(html: str) -> dict[int, str]:
    """Return the text of each cell by the line of the table that it shows."""
    found = re.findall(r'data-line="(\d+)">(.*?)</td>', html, re.DOTALL)
    assert len(found) == len(dict(found))
    return {int(line): unescape(re.sub("<[^>]*>", " ", text)) for line, text in found}


def test_the_page_has_every_number_of_the_table():
    files = render_scores(PAGE)
    shown = cells(files[REPORT].decode())
    table = list(csv.DictReader(io.StringIO(files[FILES["scores"]].decode())))
    assert len(table) == len(shown) == len(PAGE.scores)
    for line, row in enumerate(table, start=2):
        numbers = [
            row[name].lstrip("'")
            for name in ("mean", "low", "high", "difference", "difference_low", "difference_high")
        ]
        expected = [f"{float(text):.3g}" for text in numbers if text]
        assert re.findall(r"-?\d[\d.e-]*", shown[line])[: len(expected)] == expected
        assert ("3 pairs" in shown[line]) is (row["matte"] == "cf")


def test_a_difference_is_marked_where_its_interval_excludes_0():
    intervals = {"best": (-2.0, -1.0), "behind": (1.0, 2.0), "": (-1.0, 1.0)}
    for mark, (low, high) in intervals.items():
        row = replace(PAGE.scores[5], difference=0.0, difference_low=low, difference_high=high)
        page = replace(PAGE, scores=(PAGE.scores[0], row))
        html = render_scores(page)[REPORT].decode()
        marks = re.findall(r'<td class="n( best| behind)?" data-line="3"', html)
        assert [found.strip() for found in marks] == [mark]


@pytest.mark.parametrize("kind", ["missing", "refused", "unknown nodule"])
def test_an_incomplete_scoring_says_so_first(kind):
    lacking = NotScored("n6", "n6.npz", kind, "got <b>, expected a matte")
    html = render_scores(replace(PAGE, not_scored=(lacking,)))[REPORT].decode()
    assert "5 OF 8 NODULES SCORED" in html
    assert "got &lt;b&gt;, expected a matte" in html
    assert 'id="incomplete"' not in render_scores(PAGE)[REPORT].decode()


def test_what_cannot_be_known_is_said():
    html = render_scores(PAGE)[REPORT].decode()
    assert "state no geometry" not in html
    assert 'id="synthetic"' not in html
    html = render_scores(replace(PAGE, without_geometry=2, synthetic=3))[REPORT].decode()
    assert "2 predictions state no geometry" in html
    assert "3 of 5 scored nodules have synthetic CT" in html


def test_the_page_loads_nothing_and_links_to_its_files():
    files = render_scores(PAGE)
    html = files[REPORT].decode()
    assert set(re.findall(r'href="([^"#][^"]*)"', html)) == files.keys() - {REPORT}
    assert all(source.startswith("data:") for source in re.findall(r'src="([^"]*)"', html))
    assert render_scores(PAGE) == files
    assert all(heading in html for name, heading in METRICS.items() if name in TRUTHS["released"])

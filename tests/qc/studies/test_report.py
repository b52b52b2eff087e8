import csv

import pytest
from PIL import Image

from qc.studies.report import draw_shares, read_study_result, report_text, write_study_report
from storage.recipe import Recipe
from storage.records import Verdict
from storage.reviews.studies import create_study, plan_study
from storage.reviews.verdicts import record_verdict
from tasks.auto_select import pick_automatically
from tests.reviewable import reviewable_store

CHOICES = {
    "ann": ["matte", "matte", "matte", "reader-1"],
    "bob": ["matte", "matte", "reader-2", "reader-1"],
}


@pytest.fixture
def answered(tmp_path):
    store = reviewable_store(tmp_path / "store", 4)
    pick_automatically(store)
    study = plan_study(store, "pilot", nodules=4, raters=2, seed=3, recipe=Recipe())
    create_study(store, study)
    for rater, answers in CHOICES.items():
        for item, answer in zip(study.items, answers, strict=True):
            choice = Verdict(
                item.nodule_id,
                item.digest,
                "choose",
                answer,
                rater,
                False,
                seconds=7.0,
                study="pilot",
            )
            record_verdict(store, choice)
    return store


def test_shares_and_agreement_are_those_of_the_answers(answered):
    result = read_study_result(answered, "pilot")
    ann, bob = result.raters
    assert (ann.name, ann.share("matte").value, bob.share("matte").value) == ("ann", 0.75, 0.5)
    assert ann.share("reader-4").value == 0.0
    # All options: p = 3/4, e = (3*2 + 1*1)/16, kappa 5/9; matte or mask: p = 3/4, e = (3*2 +
    # 1*2)/16, kappa 1/2
    assert result.pairs["ann", "bob"].value == pytest.approx(5 / 9)
    assert result.matte_pairs["ann", "bob"].value == pytest.approx(1 / 2)
    assert result.joint is None
    assert ann.median_seconds == 7.0


def test_an_answer_that_was_taken_back_does_not_count(answered):
    item = read_study_result(answered, "pilot").study.items[0]
    again = Verdict(item.nodule_id, item.digest, "choose", "reader-3", "ann", False, study="pilot")
    changed = record_verdict(answered, again)
    assert read_study_result(answered, "pilot").raters[0].share("matte").value == 0.5
    undo = Verdict(
        item.nodule_id, item.digest, "undo", None, "ann", False, undoes=changed.id, study="pilot"
    )
    record_verdict(answered, undo)
    assert read_study_result(answered, "pilot").raters[0].share("matte").value == 0.75


def test_the_report_says_what_it_rests_on(answered, tmp_path):
    text = write_study_report(answered, "pilot", tmp_path / "report")
    assert "**Synthetic data.** 4 of 4 scans are synthetic." in text
    assert "4 nodules, 2 of 2 raters, 5 options" in text
    assert "| ann | 4 of 4 | 25 % (5 to 70) |" in text
    assert "| ann and bob, all options | 4 | 0.56" in text
    shares = list(csv.DictReader((tmp_path / "report" / "shares.csv").read_text().splitlines()))
    assert [row["chosen"] for row in shares if row["option"] == "matte"] == ["3", "2"]
    answers = list(csv.DictReader((tmp_path / "report" / "answers.csv").read_text().splitlines()))
    assert len(answers) == 8
    assert {row["rater"] for row in answers} == {"ann", "bob"}
    with Image.open(tmp_path / "report" / "figure.png") as picture:
        assert picture.size == (1080, 540)


def test_the_figure_has_a_bar_for_every_rater_and_option(answered):
    axes = draw_shares(read_study_result(answered, "pilot")).axes[0]
    heights = [bar.get_height() for bar in axes.patches]
    assert heights == [25, 0, 0, 0, 75, 25, 25, 0, 0, 50]
    assert [label.get_text() for label in axes.get_xticklabels()][-1] == "matte"
    assert axes.get_title(loc="left") == "SYNTHETIC CT"


def test_a_study_that_nobody_has_answered_has_a_report(answered):
    create_study(
        answered, plan_study(answered, "new", nodules=2, raters=3, seed=3, recipe=Recipe())
    )
    assert "2 nodules, 0 of 3 raters" in report_text(read_study_result(answered, "new"))
    assert len(draw_shares(read_study_result(answered, "new")).axes[0].patches) == 0

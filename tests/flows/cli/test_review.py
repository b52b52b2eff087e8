"""The human half as a user types it."""

import csv
import os

import pytest
from typer.testing import CliRunner

from flows.cli.main import app
from storage.cases.outcomes import find_outcome
from storage.records import Verdict
from storage.reviews.verdicts import read_verdicts, record_verdict
from tests.reviewable import add_nodule, reviewable_store


@pytest.fixture
def reviewed(tmp_path):
    return reviewable_store(tmp_path / "store", 3)


def test_a_study_from_the_draw_to_the_figure(halosign, reviewed, tmp_path):
    url = reviewed.url
    done = halosign(
        "review",
        "study",
        "create",
        "pilot",
        "--store",
        url,
        "--nodules",
        3,
        "--raters",
        2,
        "--seed",
        4,
    )
    assert done.returncode == 2
    assert "too few nodules for the study: got 0 with a chosen matte" in done.stderr
    done = halosign("review", "auto", "--store", url)
    assert "3 verdicts added automatically; question: density" in done.stdout
    done = halosign(
        "review",
        "study",
        "create",
        "pilot",
        "--store",
        url,
        "--nodules",
        3,
        "--raters",
        2,
        "--seed",
        4,
    )
    assert "study pilot: 3 nodules, 2 raters" in done.stdout
    done = halosign(
        "review", "study", "report", "pilot", "--store", url, "--to", tmp_path / "report"
    )
    assert done.returncode == 0, done.stderr
    assert "3 nodules, 0 of 2 raters" in done.stdout
    assert {p.name for p in (tmp_path / "report").iterdir()} == {
        "report.md",
        "shares.csv",
        "answers.csv",
        "figure.png",
    }


def test_verdicts_go_out_and_come_in(halosign, reviewed, tmp_path):
    for reviewer, method in (("ann", "cf"), ("bob", "lb")):
        digest = find_outcome(reviewed, "P-1-a1").digest
        record_verdict(
            reviewed, Verdict("P-1-a1", digest, "choose", method, reviewer, automatic=False)
        )
    file = tmp_path / "decisions.csv"
    assert (
        "2 verdicts" in halosign("review", "export", "--store", reviewed.url, "--to", file).stdout
    )
    assert len(list(csv.DictReader(file.read_text().splitlines()))) == 2
    other = reviewable_store(tmp_path / "other", 3)
    assert (
        "2 verdicts added, 0 already present"
        in halosign("review", "import", file, "--store", other.url).stdout
    )
    assert (
        "0 verdicts added, 2 already present"
        in halosign("review", "import", file, "--store", other.url).stdout
    )
    assert read_verdicts(other, "P-1-a1") == read_verdicts(reviewed, "P-1-a1")
    done = halosign("review", "disputes", "--store", other.url)
    assert "1 nodule in dispute" in done.stdout
    assert "P-1-a1  ann: cf, bob: lb; counts: cf" in done.stdout


def test_the_page_is_not_opened_to_others_without_tokens(halosign, reviewed, tmp_path):
    done = halosign("review", "serve", "--store", reviewed.url, "--host", "0.0.0.0")
    assert done.returncode == 2
    assert "every reviewer needs a token: got --host 0.0.0.0 without --tokens" in done.stderr
    file = tmp_path / "reviewers.txt"
    token = halosign("review", "token", "ann", "--tokens", file).stdout.strip()
    assert len(token) == 43
    assert token not in file.read_text()
    assert os.stat(file).st_mode & 0o777 == 0o600
    done = halosign("review", "token", "ann", "--tokens", file)
    assert done.returncode == 2
    assert "has this reviewer already: got ann" in done.stderr


@pytest.fixture
def token_command():
    """Run `halosign review token` in this process."""
    return lambda *given: CliRunner().invoke(app, ["review", "token", *map(str, given)])


def test_tokens_are_created_with_a_role_and_revoked(token_command, tmp_path):
    file = tmp_path / "reviewers.txt"
    for given in (("ann",), ("create", "revoke", "--role", "rater"), ("--role", "curator", "bob")):
        assert len(token_command(*given, "--tokens", file).output.strip()) == 43
    roles = [line.split()[::2] for line in file.read_text().splitlines()]
    assert roles == [["ann", "reviewer"], ["revoke", "rater"], ["bob", "curator"]]
    done = token_command("revoke", "ann", "--tokens", file)
    assert done.exit_code == 0
    assert "ann has no token any more and is signed out" in done.output
    assert [line.split()[0] for line in file.read_text().splitlines()] == ["revoke", "bob"]
    assert "no such reviewer: got ann, expected one of: bob, revoke" in str(
        token_command("revoke", "ann", "--tokens", file).exception
    )
    assert "curator" in token_command("eve", "--role", "owner", "--tokens", file).output
    assert "and not auto" in str(token_command("auto", "--tokens", file).exception)


def test_the_automatic_pick_takes_its_question_from_the_recipe(halosign, reviewed, tmp_path):
    recipe = tmp_path / "opacity.yaml"
    recipe.write_text("review: {target: opacity}")
    options = ("--store", reviewed.url, "--recipe", recipe)
    assert (
        "3 verdicts added automatically; question: opacity"
        in halosign("review", "auto", *options).stdout
    )
    assert [one.method for one in read_verdicts(reviewed, "P-1-a1")] == ["lb"]
    add_nodule(reviewed, "P-9-a9", missing=("cf", "knn", "lb", "if"))
    done = halosign("review", "auto", *options)
    assert done.returncode == 1
    assert "0 verdicts added" in done.stdout
    assert "no form that estimates opacity converged: P-9-a9." in done.stdout


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("file/verdicts.csv", "File exists"),
        ("full.csv", "No space left on device"),
        ("folder.json", "Is a directory"),
        (f"{'x' * 300}.csv", "File name too long"),
    ],
)
def test_a_file_that_cannot_be_written_is_said_in_words(halosign, reviewed, tmp_path, name, words):
    (tmp_path / "full.csv").symlink_to("/dev/full")
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "file").write_text("no folder")
    done = halosign("review", "export", "--store", reviewed.url, "--to", tmp_path / name)
    assert done.returncode == 2
    assert words in done.stderr
    assert "run the same command again" in done.stderr
    assert "Traceback" not in done.stderr

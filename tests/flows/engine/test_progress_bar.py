"""Progress where nobody sees a bar: lines, or JSON events, with an estimate of the time left."""

import json
import re
import time

import pytest
from rich.console import Console

import flows.engine.progress_bar
from flows.engine.logs import log_json
from flows.engine.progress_bar import ProgressBar


def work(bar):
    with bar:
        bar.update(1, total=4, text="1 done")
        time.sleep(0.25)
    time.sleep(0.15)


def test_without_a_terminal_a_line_says_how_far_it_is(capsys):
    work(ProgressBar("scoring", every_s=0.1))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2  # none after the end
    assert all(re.fullmatch("scoring: 1 of 4, 1 done, about 0:00:0[01] left", one) for one in lines)


def test_without_a_first_step_nothing_is_estimated(capsys):
    with ProgressBar("reading", every_s=0.05) as bar:
        assert bar.seconds_left is None
        time.sleep(0.08)
    assert capsys.readouterr().err.splitlines() == ["reading: 0 of ?"]


def test_a_json_log_has_an_event_in_place_of_the_line(capsys):
    log_json()
    work(ProgressBar("scoring", every_s=0.1))
    first = json.loads(capsys.readouterr().err.splitlines()[0])
    assert (first["event"], first["message"]) == ("progress", "scoring")
    assert (first["completed"], first["total"]) == (1, 4)
    assert first["seconds_left"] in {0, 1}


def test_a_terminal_has_a_bar_and_no_lines(capsys, monkeypatch):
    def terminal(**_):
        return Console(stderr=True, force_terminal=True, width=120)

    monkeypatch.setattr(flows.engine.progress_bar, "Console", terminal)
    work(ProgressBar("scoring", kept=True, every_s=0.02))
    shown = capsys.readouterr().err
    assert "scoring" in shown
    assert "1/4" in shown
    assert "1 of 4" not in shown


def test_the_time_left_is_that_of_the_steps_so_far():
    with ProgressBar("scoring", 30) as bar:
        time.sleep(0.2)
        bar.update(10)
        assert bar.seconds_left == pytest.approx(0.4, abs=0.15)


def test_what_an_earlier_run_did_tells_nothing_of_the_pace():
    with ProgressBar("training", 120) as bar:
        bar.resume(100)
        assert bar.seconds_left is None
        time.sleep(0.2)
        bar.update(110)
        assert bar.seconds_left == pytest.approx(0.2, abs=0.15)

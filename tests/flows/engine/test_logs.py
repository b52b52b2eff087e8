"""JSON logs: one line per event, and no second copy through the root logger."""

import json
import logging

import pytest

from flows.engine.logs import is_json_logging, kept_lines, log_json, log_text, logger


@pytest.fixture
def root_records():
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    logging.getLogger().addHandler(handler)
    yield records
    logging.getLogger().removeHandler(handler)


def test_an_event_is_one_json_line_with_the_static_fields(capsys, root_records):
    log_json({"worker": "tcp://a:1"})
    logging.getLogger("halosign").info("stored", extra={"nodule": "n1"})
    assert is_json_logging()
    assert root_records == []
    (line,) = capsys.readouterr().err.splitlines()
    event = json.loads(line)
    assert event.pop("time")
    assert event == {"level": "INFO", "event": "stored", "nodule": "n1", "worker": "tcp://a:1"}


def test_a_second_call_replaces_the_first(capsys):
    log_json({"worker": "a"})
    log_json({"worker": "b"})
    logging.getLogger("halosign").warning("once")
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["worker"] == "b"


def test_lines_that_are_kept_for_the_store_leave_the_terminal_as_it_is(capsys):
    log_text()
    with kept_lines() as lines:
        logger.warning("disk almost full", extra={"left_gb": 1})
        assert not is_json_logging()
    logger.warning("afterwards")
    assert capsys.readouterr().err == "WARNING: disk almost full\nWARNING: afterwards\n"
    (line,) = map(json.loads, lines)
    assert (line["event"], line["level"], line["left_gb"]) == ("disk almost full", "WARNING", 1)

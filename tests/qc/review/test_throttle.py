import logging

import pytest

from qc.review.throttle import FORGET_S, FREE_FAILURES, LONGEST_DELAY_S, SignInThrottle


@pytest.fixture
def now():
    return [1000.0]


@pytest.fixture
def throttle(now):
    return SignInThrottle(clock=lambda: now[0])


def test_the_delay_doubles_up_to_a_limit(throttle, now):
    waits = []
    for _ in range(2000):
        now[0] += throttle.wait_s("1.2.3.4", "ann")
        throttle.fail("1.2.3.4", "ann")
        waits.append(throttle.wait_s("1.2.3.4", "ann"))
    assert waits[: FREE_FAILURES + 4] == [0.0] * (FREE_FAILURES - 1) + [1.0, 2.0, 4.0, 8.0, 16.0]
    assert set(waits[20:]) == {LONGEST_DELAY_S}


def test_a_delay_is_for_one_name_from_one_address(throttle, now):
    for _ in range(FREE_FAILURES):
        throttle.fail("1.2.3.4", "ann")
    assert throttle.wait_s("1.2.3.4", "ann") > 0
    assert throttle.wait_s("1.2.3.4", "bob") == 0
    assert throttle.wait_s("1.2.3.5", "ann") == 0
    throttle.succeed("1.2.3.4", "ann")
    assert throttle.wait_s("1.2.3.4", "ann") == 0


def test_wrong_tokens_are_forgotten(throttle, now):
    for _ in range(FREE_FAILURES):
        throttle.fail("1.2.3.4", "ann")
    now[0] += FORGET_S + 1
    throttle.fail("1.2.3.4", "ann")
    assert throttle.wait_s("1.2.3.4", "ann") == 0


def test_the_log_is_short_and_holds_no_name(throttle, now, caplog):
    caplog.set_level(logging.WARNING)
    for number in range(1000):
        now[0] += 0.01
        throttle.fail("1.2.3.4", f"secret-{number}")
    assert 9 <= len(caplog.records) <= 11
    assert "from 1.2.3.4" in caplog.text
    assert "0 more" in caplog.text
    assert sum(record.args[3] + 1 for record in caplog.records) > 800, "what is not logged counts"
    assert "secret" not in caplog.text

"""Filters of the pages: numbers as a reader sees them."""

import pytest

from qc.figures.templating import _duration, _size


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (1_550_000, "1.6 MB"),
        (3 * 10**12, "3.0 TB"),
        (5 * 10**15, "5000.0 TB"),
    ],
)
def test_sizes_are_shown_in_their_unit(count, shown):
    assert _size(count) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(59.94, "59.9 s"), (60, "1 min 0 s"), (3599, "59 min 59 s"), (3660, "1 h 1 min")],
)
def test_durations_are_shown_in_their_unit(seconds, shown):
    assert _duration(seconds) == shown

"""The kernel's memory values of this process."""

import numpy as np
import psutil
import pytest

from tasks import memory
from tasks.memory import peak_bytes, status_bytes


def test_the_resident_size_is_psutil_s():
    resident = psutil.Process().memory_info().rss
    assert status_bytes("VmRSS") == pytest.approx(resident, rel=0.1)


def test_the_peak_remembers_what_was_freed():
    large = np.ones(int(2e7))
    held = status_bytes("VmRSS")
    del large
    # The kernel updates its counters in batches of pages.
    assert peak_bytes() >= 0.99 * held
    assert peak_bytes() < 100 * held


def test_an_unknown_value_is_an_error_and_the_peak_then_comes_from_the_resource_usage(monkeypatch):
    with pytest.raises(OSError, match="VmNone"):
        status_bytes("VmNone")
    before = peak_bytes()

    def missing(name):
        raise OSError(name)

    monkeypatch.setattr(memory, "status_bytes", missing)
    assert peak_bytes() >= 0.9 * before

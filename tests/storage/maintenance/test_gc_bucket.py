"""Garbage collection in a bucket, whose server gives the times."""

import time
from datetime import datetime, timedelta

import pytest

from storage.cases.outcomes import write_outcome
from storage.maintenance.gc import find_garbage, remove_garbage
from storage.store import CLOCK, Store, open_store
from tests.s3 import BUCKET, ENVIRONMENT, environment, moto_server
from tests.storage.maintenance.test_gc import A, B, C, done, put_case

GRACE_S = 3.0
"""Buckets tell times in whole seconds."""


@pytest.fixture
def bucket():
    """A bucket with an old and a young case that nothing refers to, and an old one in use."""
    with (
        moto_server() as port,
        environment({**ENVIRONMENT, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}),
    ):
        store = open_store(f"s3://{BUCKET}/store", create=True)
        put_case(store, "n1", A)
        put_case(store, "n1", B)
        write_outcome(store, done("n1", B))
        time.sleep(GRACE_S + 1)
        put_case(store, "n1", C)
        yield store


def clock_off_by(days: int) -> type[datetime]:
    """Return the clock of a machine that is behind, or ahead."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(days=days)

    return Clock


def digests(store: Store) -> set[str]:
    return {key.split("/")[2].removesuffix(".done") for key in store.list_prefix("cases")}


def test_the_bucket_tells_the_age_of_a_case(bucket, monkeypatch):
    grace = timedelta(seconds=GRACE_S)
    for days in (-2, 2, 0):
        for module in ("storage.store", "storage.maintenance.gc"):
            monkeypatch.setattr(f"{module}.datetime", clock_off_by(days))
        found = find_garbage(bucket, grace)
        assert [case.digest for case in found.orphans] == [A]
        assert [case.digest for case in found.young] == [C]
    before = {key: bucket.get(key) for key in bucket.list_prefix("") if key != CLOCK}
    remove_garbage(bucket, found, grace)
    after = {key: bucket.get(key) for key in bucket.list_prefix("") if key != CLOCK}
    assert digests(bucket) == {B, C}
    assert after == {key: data for key, data in before.items() if A not in key}

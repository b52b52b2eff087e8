"""The store's promises on a bucket: a real S3 protocol, a server that fails for a while."""

import threading
import uuid

import pytest

from storage.errors import (
    AlreadyExistsError,
    NotFoundError,
    ReadError,
    UnavailableError,
    WriteError,
)
from storage.store import open_store, store_exists
from tests.s3 import BUCKET, Proxy, environment, moto_server


@pytest.fixture(scope="module")
def bucket_proxy():
    with moto_server() as port, Proxy(port) as proxy, environment(proxy.environment):
        yield proxy


@pytest.fixture
def bucket(bucket_proxy):
    return open_store(f"s3://{BUCKET}/{uuid.uuid4().hex}", create=True)


def test_keys_come_and_go_as_in_a_folder(bucket):
    bucket.put("a/b", b"one")
    bucket.put("a/b", b"two")
    assert bucket.get("a/b") == b"two"
    assert bucket.size("a/b") == 3
    assert bucket.size("a/none") is None
    assert bucket.list_dir("a") == ([], ["b"])
    assert list(bucket.list_prefix("a")) == ["a/b"]
    bucket.delete(["a/b", "never"])
    with pytest.raises(NotFoundError):
        bucket.get("a/b")
    assert not store_exists(f"s3://{BUCKET}/nowhere")


def test_one_of_many_creates_a_key(bucket):
    won, begin = [], threading.Barrier(8)

    def claim(n):
        begin.wait()
        try:
            bucket.create("claim", b"%d" % n)
            won.append(n)
        except AlreadyExistsError:
            pass

    threads = [threading.Thread(target=claim, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [b"%d" % n for n in won] == [bucket.get("claim")]


ACTIONS = {
    "create": lambda bucket: bucket.create("new", b"bytes"),
    "put": lambda bucket: bucket.put("new", b"bytes"),
    "get": lambda bucket: bucket.get("before"),
    "size": lambda bucket: bucket.size("before"),
    "list": lambda bucket: list(bucket.list_prefix("before")),
}


@pytest.mark.parametrize("mode", ["503", "reset", "lost"])
@pytest.mark.parametrize("action", ACTIONS)
def test_a_failure_that_passes_is_not_noticed(bucket, bucket_proxy, action, mode):
    bucket.put("before", b"kept")
    bucket_proxy.mode = mode
    asked = bucket_proxy.fail_times = 3
    ACTIONS[action](bucket)
    assert bucket_proxy.fail_times == 0, f"of {asked} failures"
    assert bucket.get("before") == b"kept"
    assert bucket.size("new") in (None, 5)


def test_an_answer_that_was_lost_does_not_make_a_stranger_of_the_writer(bucket, bucket_proxy):
    bucket_proxy.mode, bucket_proxy.fail_times = "lost", 2
    bucket.create("claim", b"mine")
    with pytest.raises(AlreadyExistsError):
        bucket.create("claim", b"another's")
    assert bucket.get("claim") == b"mine"


def test_a_conflict_with_another_writer_is_tried_again_and_read_back(bucket, bucket_proxy):
    bucket_proxy.conflicts = 2
    bucket.create("claim", b"mine")
    assert bucket.get("claim") == b"mine"
    bucket_proxy.conflicts = 1
    with pytest.raises(AlreadyExistsError):
        bucket.create("claim", b"another's")
    assert bucket.get("claim") == b"mine"


def test_a_conflict_that_does_not_end_is_unavailable(bucket, bucket_proxy, monkeypatch):
    monkeypatch.setattr("storage.store.RETRY_S", 0.3)
    bucket_proxy.conflicts = 100
    with pytest.raises(UnavailableError, match=r"claim is being written by another.*Try again"):
        bucket.create("claim", b"mine")
    bucket_proxy.conflicts = 0
    assert bucket.size("claim") is None


@pytest.mark.parametrize("action", ["get", "size", "list"])
def test_a_read_that_is_forbidden_says_so(bucket, bucket_proxy, action):
    with (
        bucket_proxy.failing("403"),
        pytest.raises(ReadError, match=r"before cannot be read: .*403.*Give read permission"),
    ):
        ACTIONS[action](bucket)


@pytest.mark.parametrize("action", ["create", "put"])
def test_a_write_that_is_forbidden_says_so(bucket, bucket_proxy, action):
    with (
        bucket_proxy.failing("403"),
        pytest.raises(WriteError, match=r"new cannot be written: .*403.*give write permission"),
    ):
        ACTIONS[action](bucket)


def test_a_bucket_that_stays_away_is_unavailable_in_the_end(bucket, bucket_proxy, monkeypatch):
    monkeypatch.setattr("storage.store.RETRIES", {"max_retries": 2})
    impatient = open_store(bucket.url)
    with (
        bucket_proxy.failing("503"),
        pytest.raises(UnavailableError, match=r"cannot be reached.*Try again"),
    ):
        impatient.put("x", b".")
    impatient.put("x", b".")

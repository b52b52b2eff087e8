"""The page elsewhere than over a folder on this machine: a store in a bucket, TLS in front, many
nodules at once."""

import httpx
import pytest

from qc.review import catalogue
from qc.review.auth import Authenticator
from qc.review.catalogue import Catalogue
from qc.review.routes import make_app
from qc.review.service import ReviewService
from storage.cases.case import read_case
from storage.recipe import ReviewSettings
from storage.reviews.verdicts import read_verdicts
from storage.store import open_store
from tests.qc.review.conftest import Caller, InThisProcess, wait_until
from tests.qc.review.test_payloads import unpack
from tests.reviewable import add_nodule, reviewable_store
from tests.s3 import BUCKET, Proxy, environment, moto_server


@pytest.fixture
def bucket(monkeypatch):
    """A store of three nodules in a bucket, and the proxy through which it is reached."""
    monkeypatch.setattr("storage.store.RETRIES", {"max_retries": 1})
    monkeypatch.setattr("storage.store.RETRY_S", 1.0)
    with moto_server() as port, Proxy(port) as proxy, environment(proxy.environment):
        yield reviewable_store(f"s3://{BUCKET}/set", 3), proxy


@pytest.fixture
def ann(bucket):
    store, _ = bucket
    page = InThisProcess(
        make_app(
            ReviewService(store, ReviewSettings(), blind=False), Authenticator(None), local=True
        )
    )
    caller = Caller(page.url, store, "ann")
    yield caller
    caller.client.close()
    page.stop()


def test_a_store_in_a_bucket_is_reviewed_as_a_folder_is(ann, bucket):
    store, proxy = bucket
    view = ann.client.get("/api/nodule/P-1-a1").json()
    with ann.client.stream("GET", view["ct"]) as answer:
        _, arrays = unpack(b"".join(answer.iter_raw()))
    image = read_case(store, "P-1-a1", view["digest"]).array("image")
    assert (arrays["ct"] == image).all()
    assert ann.send_verdict(ann.verdict(place=2)).status_code == 201
    assert (
        ann.send_verdict(ann.verdict("P-2-a2", verdict="discard", reason="artefact")).status_code
        == 201
    )
    assert [d.method for d in read_verdicts(store, "P-1-a1")] == ["knn+"]
    assert ann.client.get("/?show=decided").text.count('<th scope="row">') == 2
    # What is known is not read again for a page
    before = len(proxy.requests)
    ann.client.get("/?show=all")
    assert {method for method, _ in proxy.requests[before:]} == {"GET"}
    assert all("list-type" in path for _, path in proxy.requests[before:]), proxy.requests[before:]


def test_a_bucket_that_is_away_is_said_and_loses_no_verdict(ann, bucket):
    store, proxy = bucket
    verdict = ann.verdict(place=1)
    with proxy.failing("503"):
        assert ann.send_verdict(verdict).status_code == 503
    assert read_verdicts(store, "P-1-a1") == []
    assert ann.send_verdict(verdict).status_code == 201
    assert [d.id for d in read_verdicts(store, "P-1-a1")] == [verdict["id"]]


def test_behind_a_proxy_with_tls_the_session_travels_over_tls_only(enter):
    plain = enter()
    for scheme, is_secure in (("https", True), ("http", False)):
        with httpx.Client(base_url=plain.url, trust_env=False) as client:
            origin = {"origin": f"{scheme}://{plain.url.removeprefix('http://')}"}
            answer = client.post("/sign-in", data={"name": "bob"}, headers=origin)
            assert answer.status_code == 303
            assert ("Secure" in answer.headers["set-cookie"]) is is_secure


def test_many_new_nodules_are_read_behind_the_page(store, monkeypatch):
    for number in range(1, 7):
        add_nodule(store, f"P-{number}-a{number}", seed=number)
    held = catalogue.Lock()
    read = catalogue.read_case

    def slowly(*key):
        with held:
            return read(*key)

    monkeypatch.setattr(catalogue, "read_case", slowly)
    monkeypatch.setattr(catalogue, "WAIT_FOR_ALL_BELOW", 2)
    monkeypatch.setattr(catalogue, "WAIT_S", 0.0)
    found = Catalogue(store)
    with held:
        assert found.entries() == {}
        assert found.unread == 6
        review = ReviewService(store, ReviewSettings(), blind=False)
        assert review.warm_up() == 6
        page = InThisProcess(make_app(review, Authenticator(None), local=True))
        ann = Caller(page.url, store, "ann")
        listed = ann.client.get("/?show=all").text
        ann.client.close()
        page.stop()
        assert "6 more nodules are being read" in listed
    wait_until(lambda: found.unread == 0)
    assert list(found.entries()) == [f"P-{n}-a{n}" for n in range(1, 7)]


def test_only_what_was_written_is_read_again(store, monkeypatch):
    digest = add_nodule(store, "P-1-a1")
    found = Catalogue(store)
    assert found.entries()["P-1-a1"].digest == digest
    asked = []
    monkeypatch.setattr("storage.cases.outcomes.find_outcome", lambda *key: asked.append(key))
    found.entries()
    assert asked == []
    monkeypatch.undo()
    recomputed = add_nodule(store, "P-1-a1", digest="e" * 64)
    add_nodule(open_store(store.url), "P-2-a2", seed=2)
    assert {name: entry.digest for name, entry in found.entries().items()} == {
        "P-1-a1": recomputed,
        "P-2-a2": "02" * 32,
    }
    store.delete(["outcomes/P-1-a1.json"])
    assert list(found.entries()) == ["P-2-a2"]

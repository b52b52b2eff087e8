"""The routes: who may ask for what, what is answered, and with which headers."""

import html
import json
import re

import httpx
import pytest

from qc.review.routes import IMMUTABLE
from qc.review.sign_in import CSRF_HEADER
from storage.cases.outcomes import find_outcome
from storage.errors import UnavailableError
from storage.reviews.verdicts import read_verdicts
from tests.reviewable import add_nodule

PAGES = (
    "/",
    "/agreement",
    "/nodule/P-1-a1",
    "/nodule/P-1-a1?show=all&sort=largest",
    "/study/pilot",
    "/study/pilot/P-1-a1",
)
DATA = ("/api/nodule/P-1-a1", "/api/last", "/api/study-last/pilot", "/api/ct/P-1-a1/d")


@pytest.mark.parametrize("address", PAGES)
def test_a_page_without_a_session_leads_to_the_sign_in(enter, address):
    url = enter().url
    with httpx.Client(base_url=url, trust_env=False) as client:
        answer = client.get(address)
        assert (answer.status_code, answer.headers["location"].split("?")[0]) == (303, "/sign-in")
        form = client.get(answer.headers["location"]).text
        target = html.unescape(re.search('name="next" value="([^"]*)"', form).group(1))
        said = {"name": "bob", "next": target}
        answer = client.post("/sign-in", data=said, headers={"origin": url})
        assert (answer.status_code, answer.headers["location"]) == (303, address)


@pytest.mark.parametrize(
    "target",
    [
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "/study/../../x\r\nset-cookie: a=b",
        "/sign-in",
        "/api/last",
        "javascript:alert(1)",
        "/study/<script>",
    ],
)
def test_after_signing_in_nobody_is_sent_elsewhere(enter, target):
    url = enter().url
    with httpx.Client(base_url=url, trust_env=False) as client:
        assert "evil" not in client.get("/sign-in", params={"next": target}).text
        said = {"name": "bob", "next": target}
        answer = client.post("/sign-in", data=said, headers={"origin": url})
        assert (answer.status_code, answer.headers["location"]) == (303, "/")


@pytest.mark.parametrize("address", DATA)
def test_data_without_a_session_is_refused(enter, address):
    answer = httpx.get(f"{enter().url}{address}", trust_env=False)
    assert answer.status_code == 401
    assert answer.json() == {"error": "sign in first"}


def test_signing_out_ends_the_session(enter):
    ann = enter()
    assert ann.client.get("/").status_code == 200
    answer = ann.client.post("/sign-out", headers={"origin": ann.url})
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
    assert ann.client.get("/").status_code == 303


def test_a_name_that_is_none_is_asked_for_again(enter):
    url = enter().url
    for name in ("", "a/b", "-x", "n" * 129, "auto", "AUTO"):
        answer = httpx.post(
            f"{url}/sign-in", data={"name": name}, headers={"origin": url}, trust_env=False
        )
        assert answer.status_code == 422
        assert "letters, digits, dots, dashes and underscores" in answer.text
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    ("address", "status", "words"),
    [
        ("/nodule/P-9-a9", 404, "There is no finished nodule P-9-a9."),
        ("/study/none", 404, "There is no study none."),
        ("/nowhere", 404, "Not Found"),
        ("/static/none.js", 404, "There is no such page."),
        ("/?sort=size", 400, "The address has an invalid sort."),
        ("/?min_mm=x", 400, "The address has an invalid min_mm."),
    ],
)
def test_a_page_that_fails_says_why(enter, address, status, words):
    answer = enter().client.get(address)
    assert answer.status_code == status
    assert words in answer.text
    assert answer.headers["content-type"].startswith("text/html")


def test_the_ct_is_kept_by_the_browser_and_nothing_else_is(enter, reviewed):
    ann = enter()
    digest = find_outcome(reviewed, "P-1-a1").digest
    view = ann.client.get("/api/nodule/P-1-a1")
    assert view.headers["cache-control"] == "no-store"
    assert ann.client.get(view.json()["ct"]).headers["cache-control"] == IMMUTABLE
    assert ann.client.get(view.json()["overlays"]).headers["cache-control"] == "no-store"
    assert ann.client.get("/static/review.js").headers["cache-control"] == "private, no-cache"
    assert view.json()["ct"] == f"/api/ct/P-1-a1/{digest}"
    for wrong in (f"/api/ct/P-1-a1/{'0' * 64}", f"/api/overlays/P-1-a1/{'0' * 64}"):
        assert ann.client.get(wrong).status_code == 404


@pytest.mark.parametrize(
    ("name", "kind"),
    [("review.js", "text/javascript"), ("review.css", "text/css"), ("icon.svg", "image/svg+xml")],
)
def test_static_files_have_their_type(enter, name, kind):
    answer = httpx.get(f"{enter().url}/static/{name}", trust_env=False)
    assert answer.status_code == 200
    assert answer.headers["content-type"].partition(";")[0] == kind


def test_a_view_holds_what_the_script_needs(enter, reviewed):
    ann = enter()
    ann.send_verdict(ann.verdict("P-2-a2", place=3))
    view = ann.client.get("/api/nodule/P-2-a2?show=all&sort=largest").json()
    assert view["address"] == "/nodule/P-2-a2?show=all&sort=largest"
    assert view["overlays"].endswith("?show=all&sort=largest")
    assert (view["study"], view["blind"]) == ("", False)
    assert view["mine"] == {"verdict": "choose", "place": 3}
    assert [option["place"] for option in view["options"]] == list(range(1, 9))
    assert [option["mine"] for option in view["options"]].index(True) == 2
    page = ann.client.get("/nodule/P-2-a2?show=all&sort=largest").text
    embedded = page.partition('<script type="application/json" id="view">')[2]
    assert json.loads(embedded.partition("</script>")[0]) == view


def test_a_change_needs_the_token_of_the_session(enter):
    ann, bob = enter("ann"), enter("bob")
    for token in ("", bob.csrf_token):
        answer = ann.send_verdict(ann.verdict(), **{CSRF_HEADER: token})
        assert answer.status_code == 403
        assert answer.json() == {"error": "changes are accepted from this page only"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"place": 0}, "invalid verdict: place"),
        ({"seconds": -1}, "invalid verdict: seconds"),
        ({"verdict": "like"}, "invalid verdict: verdict"),
        ({"extra": 1}, "invalid verdict: extra"),
    ],
)
def test_a_wrong_verdict_is_refused_by_its_field(enter, change, words):
    ann = enter()
    answer = ann.send_verdict({**ann.verdict(), **change})
    assert answer.status_code == 422
    assert answer.json() == {"error": words}


def test_a_store_that_does_not_respond_is_said(enter, monkeypatch):
    ann = enter()

    def fail(*_args, **_more):
        raise UnavailableError("the store is away")

    monkeypatch.setattr("qc.review.service.VerdictLog.record", fail)
    answer = ann.send_verdict(ann.verdict())
    assert answer.status_code == 503
    assert "nothing was recorded" in answer.json()["error"]


def test_a_nodule_with_the_longest_id_is_reviewed(enter, reviewed):
    name = "n" * 100
    add_nodule(reviewed, name)
    ann = enter("ann")
    assert ann.client.get(f"/nodule/{name}").status_code == 200
    assert ann.client.get(f"/api/nodule/{name}").json()["nodule"] == name
    assert ann.send_verdict(ann.verdict(name)).status_code == 201
    assert [verdict.nodule_id for verdict in read_verdicts(reviewed, name)] == [name]
    assert ann.client.get(f"/nodule/{name}n").status_code in {404, 422}

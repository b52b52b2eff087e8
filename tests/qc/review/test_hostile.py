"""What no page of ours would send: refused with the right status, and nothing is written."""

import http.client
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from qc.review.auth import COOKIE
from qc.review.reviewers import Role, add_reviewer, read_reviewers
from qc.review.security import BODY_LIMIT_BYTES
from qc.review.sign_in import CSRF_HEADER
from qc.review.throttle import FREE_FAILURES

PATHS = (
    "..", "../..", "../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/store.json",
    "%2e%2e%2f%2e%2e%2fstore.json", "....//....//etc/passwd", "..\\..\\windows",
    "..%5c..%5cwindows", "%00", "P-1-a1%00", "P-1-a1%0a", "%c0%ae%c0%ae/", "~root", ".hidden",
    "-rf", "a" * 101, "P-1-a1/../../store.json", "<script>", "%3Cscript%3E", "'%20OR%201=1",
    "${jndi:ldap://x}", "%F0%9F%92%A9",
)  # fmt: skip
PLACES = ("/nodule/{}", "/api/nodule/{}", "/static/{}", "/study/{}", "/api/ct/{}/x")
WRONG_VALUES = (
    {"id": "x"}, {"id": "A" * 32}, {"id": "a" * 33}, {"id": "../" + "a" * 29}, {"id": None},
    {"id": 7}, {"nodule": "../x"}, {"nodule": ""}, {"nodule": ["P-1-a1"]}, {"nodule": "P-1-a1\n"},
    {"nodule": "a" * 101}, {"digest": "../../x"}, {"digest": ""}, {"digest": {"$ne": 1}},
    {"verdict": "publish"}, {"verdict": ""}, {"verdict": ["choose"]}, {"place": 0}, {"place": -1},
    {"place": 65}, {"place": 1.5}, {"place": "1"}, {"place": True}, {"reason": "because"},
    {"reason": None}, {"note": "x" * 2001}, {"note": 5}, {"seconds": -1}, {"seconds": 1e9},
    {"seconds": "NaN"}, {"blind": "yes"}, {"blind": 1}, {"undoes": "../x"}, {"study": "../x"},
    {"study": ".x"}, {"reviewer": "a/b"}, {"reviewer": ""}, {"extra": 1}, {"method": "cf"},
    {"decided_at": "2020-01-01"}, {"automatic": True},
)  # fmt: skip


class Attacker:
    """Counts requests, and sends them byte by byte as they are."""

    def __init__(self, ann, store) -> None:
        self.ann, self.store, self.count = ann, store, 0
        self.answered_by_page = 0
        self.session = f"{COOKIE}={ann.client.cookies[COOKIE]}"
        self.before = self.state()

    def state(self) -> dict[str, bytes]:
        return {
            str(path): path.read_bytes()
            for path in Path(self.store.url).rglob("*")
            if path.is_file()
        }

    def send(
        self,
        method: str,
        target: str,
        body: bytes | None = None,
        *,
        length: bool = True,
        **headers: str,
    ) -> int:
        self.count += 1
        host = self.ann.url.removeprefix("http://")
        given = {
            "host": host,
            "origin": self.ann.url,
            "cookie": self.session,
            CSRF_HEADER: self.ann.csrf_token,
        }
        given |= {"content-type": "application/json"} | {
            name.replace("_", "-"): text for name, text in headers.items()
        }
        connection = http.client.HTTPConnection(host, timeout=60)
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, text in given.items():
            if text:
                connection.putheader(name, text)
        if body is not None and length:
            connection.putheader("content-length", str(len(body)))
        # In one piece: who refuses the head closes on a body not yet read, and the reset can
        # overtake the answer.
        pieces: list[bytes] = []
        connection.send = pieces.append
        connection.endheaders()
        del connection.send
        connection.send(b"".join([*pieces, body or b""]))
        answer = connection.getresponse()
        content = answer.read()
        # What is no HTTP is answered by the server before the page sees it.
        if content != b"Invalid HTTP request received.":
            policy = answer.getheader("content-security-policy", "")
            assert {"default-src 'none'", "script-src 'self'"} <= set(policy.split("; ")), target
            assert answer.getheader("x-content-type-options") == "nosniff", target
            assert answer.getheader("x-frame-options") == "DENY", target
            self.answered_by_page += 1
        assert b"Traceback" not in content
        assert b"root:" not in content
        connection.close()
        return answer.status

    def verdict(self, said: object, **headers: str) -> int:
        return self.send("POST", "/api/verdicts", json.dumps(said).encode(), **headers)


@pytest.fixture
def attacker(enter, reviewed, record_property) -> Iterator[Attacker]:
    one = Attacker(enter("ann"), reviewed)
    yield one
    record_property("tried", one.count)
    assert one.state() == one.before
    assert one.answered_by_page > 0


def test_paths_lead_nowhere(attacker):
    for place in PLACES:
        for path in PATHS:
            assert attacker.send("GET", place.format(path)) in {400, 404}, (place, path)
    assert attacker.count == len(PLACES) * len(PATHS) == 115


def test_what_is_no_verdict_is_refused(attacker):
    for wrong in WRONG_VALUES:
        assert attacker.verdict({**attacker.ann.verdict(), **wrong}) == 422, wrong
    for body in (b"", b"{", b"null", b"[]", b'"x"', b"\xff\xfe"):
        assert attacker.send("POST", "/api/verdicts", body) == 422, body
    assert attacker.send("POST", "/api/verdicts", b"[" * 5000) == 400
    assert attacker.count >= 48


def test_unknown_nodules_cases_and_places_are_not_there(attacker):
    said = attacker.ann.verdict
    assert attacker.verdict(said(nodule="P-9-a9")) == 404
    assert attacker.verdict(said(digest="0" * 64)) == 409
    assert attacker.verdict(said(place=9)) == 404
    assert attacker.verdict(said(place=None)) == 404
    assert attacker.verdict(said(study="none")) == 404
    assert attacker.verdict(said(verdict="discard")) == 404
    assert attacker.verdict(said(verdict="discard", reason="other", place=1)) == 404
    assert attacker.verdict(said(verdict="undo", undoes="0" * 32)) == 409
    assert attacker.verdict(said(reviewer="bob")) == 409
    digest = said()["digest"]
    for target in (
        f"/api/ct/P-1-a1/{'0' * 64}",
        f"/api/ct/P-2-a2/{digest}",
        f"/api/overlays/P-2-a2/{digest}",
        "/api/study/x/P-1-a1",
    ):
        assert attacker.send("GET", target) == 404


def test_bodies_that_are_too_long_or_of_another_kind_are_refused(attacker):
    long = json.dumps({**attacker.ann.verdict(), "note": "x" * BODY_LIMIT_BYTES}).encode()
    assert attacker.send("POST", "/api/verdicts", long) == 413
    assert attacker.send("POST", "/sign-in", b"name=" + b"x" * BODY_LIMIT_BYTES) == 413
    said = json.dumps(attacker.ann.verdict()).encode()
    assert attacker.send(
        "POST", "/api/verdicts", said, length=False, transfer_encoding="chunked"
    ) in {400, 411}
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert attacker.send("POST", "/api/verdicts", said, content_type=kind) in {415, 422}
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        assert attacker.send(method, "/api/verdicts", b"") == 405


def test_changes_come_from_our_own_page_only(attacker):
    said = attacker.ann.verdict()
    for origin in (
        "http://evil.example",
        "null",
        "http://127.0.0.1",
        attacker.ann.url + ".evil.example",
        "https://",
        "http://[::1",
    ):
        assert attacker.verdict(said, origin=origin) == 403
    assert attacker.verdict(said, origin="") == 403
    for site in ("cross-site", "same-site", "none"):
        assert attacker.verdict(said, sec_fetch_site=site) == 403
    for token in ("", "0" * 64, attacker.ann.csrf_token[:-1], attacker.ann.csrf_token.upper()):
        assert attacker.verdict(said, **{CSRF_HEADER.replace("-", "_"): token}) == 403
    assert attacker.send("POST", "/sign-out", b"", origin="http://evil.example") == 403
    for host in ("evil.example", "169.254.169.254", "127.0.0.1.evil.example", "[::1", ""):
        assert attacker.verdict(said, host=host) in {400, 421}
        assert attacker.send("GET", "/", host=host) in {400, 421}


def test_without_a_session_nothing_is_shown(attacker):
    for session in (
        "",
        f"{COOKIE}=",
        f"{COOKIE}=ann",
        f"{COOKIE}=ann~short",
        f"{COOKIE}=../x~{'a' * 43}",
    ):
        assert attacker.verdict(attacker.ann.verdict(), cookie=session) == 401
        assert attacker.send("GET", "/api/nodule/P-1-a1", cookie=session) == 401
        assert attacker.send("GET", "/nodule/P-1-a1", cookie=session) == 303


def test_a_wrong_token_opens_nothing(enter, reviewed, tmp_path, monkeypatch):
    monkeypatch.setattr("qc.review.throttle.FIRST_DELAY_S", 59.0)
    file = tmp_path / "reviewers.txt"
    tokens = {name: add_reviewer(file, name, Role.REVIEWER) for name in ("ann", "bob")}
    ann = enter("ann", token=tokens["ann"], tokens=file)
    assert ann.csrf_token
    attacker = Attacker(ann, reviewed)
    wrong = (
        "",
        "x",
        tokens["bob"],
        tokens["ann"][:-1],
        tokens["ann"] + "x",
        read_reviewers(file)["ann"].token_sha256,
        "a" * 200,
    )
    for number, token in enumerate(wrong, 1):
        # From the third wrong one on there is a delay, which the others run into.
        expected = 403 if number <= FREE_FAILURES else 429
        said = f"name=ann&token={token}".encode()
        assert attacker.send("POST", "/sign-in", said, cookie="") == expected
        assert attacker.send("GET", "/api/nodule/P-1-a1", cookie=f"{COOKIE}=ann~{token}") == 401
        assert attacker.verdict(ann.verdict(), cookie=f"{COOKIE}=ann~{token}") == 401
    for name in ("eve", "root"):
        assert (
            attacker.send(
                "POST", "/sign-in", f"name={name}&token={tokens['ann']}".encode(), cookie=""
            )
            == 403
        )
    name, _, secret = ann.client.cookies[COOKIE].strip('"').partition("~")
    time, nonce, signature = secret.split(".")
    other_nonce = nonce[:-1] + ("B" if nonce.endswith("A") else "A")
    for forged in (
        f"bob~{secret}",
        f"{name}~{int(time) + 1}.{nonce}.{signature}",
        f"{name}~{time}.{other_nonce}.{signature}",
        f"{name}~{time}.{nonce}.{'0' * 64}",
    ):
        assert attacker.send("GET", "/api/nodule/P-1-a1", cookie=f"{COOKIE}={forged}") == 401
    assert attacker.state() == attacker.before


def test_a_replay_adds_nothing(enter, reviewed):
    ann, bob = enter("ann"), enter("bob")
    said = ann.verdict(place=2)
    assert ann.send_verdict(said).status_code == 201
    attacker = Attacker(ann, reviewed)
    for _ in range(5):
        assert attacker.verdict(said) == 201
    for changed in ({"place": 3}, {"note": "other"}, {"verdict": "flag", "place": None}):
        assert attacker.verdict({**said, **changed}) == 409
    assert Attacker(bob, reviewed).verdict(said) == 409
    assert attacker.state() == attacker.before


def test_what_people_write_is_shown_as_text(enter):
    ann, bob = enter("ann"), enter("bob")
    words = "<img src=x onerror=alert(1)>\"'</textarea><script>alert(2)</script>"
    assert ann.send_verdict(ann.verdict(note=words)).status_code == 201
    assert bob.send_verdict(bob.verdict(verdict="flag", note=words)).status_code == 201
    for page in ("/nodule/P-1-a1", "/?show=all", "/agreement"):
        text = ann.client.get(page).text
        assert "<img src=x" not in text
        assert "<script>alert" not in text
    assert ann.client.get("/?patient=%22%3E%3Cscript%3E").status_code == 400

"""What curators, reviewers and raters may see and do."""

import pytest

from qc.review.reviewers import Role, add_reviewer, revoke_reviewer
from qc.review.throttle import FREE_FAILURES
from storage.cases.outcomes import find_outcome
from storage.recipe import Recipe
from storage.records import Verdict
from storage.reviews.studies import create_study, plan_study
from storage.reviews.verdicts import read_verdicts, record_verdict

STUDY_NODULES = 4


@pytest.fixture
def study(reviewed):
    for number in range(1, 6):
        name = f"P-{number}-a{number}"
        digest = find_outcome(reviewed, name).digest
        record_verdict(reviewed, Verdict(name, digest, "choose", "lb", "auto", automatic=True))
    made = plan_study(reviewed, "pilot", nodules=STUDY_NODULES, raters=2, seed=3, recipe=Recipe())
    create_study(reviewed, made)
    return made


@pytest.fixture
def file(tmp_path):
    return tmp_path / "reviewers.txt"


@pytest.fixture
def people(enter, study, file):
    """One person of each role, signed in."""
    tokens = {role: add_reviewer(file, f"the-{role}", role) for role in Role}
    return {role: enter(f"the-{role}", token=tokens[role], tokens=file) for role in Role}


def addresses(study, reviewed):
    item = study.items[0]
    case = f"{item.nodule_id}/{item.digest}"
    names = {f"P-{number}-a{number}" for number in range(1, 6)}
    elsewhere = (names - {item.nodule_id for item in study.items}).pop()
    other = f"{elsewhere}/{find_outcome(reviewed, elsewhere).digest}"
    everybody, queue, curators = (True, True, True), (True, True, False), (True, False, False)
    return {
        "/": everybody,
        "/study/pilot": everybody,
        f"/study/pilot/{item.nodule_id}": everybody,
        f"/api/study/pilot/{item.nodule_id}": everybody,
        f"/api/study-overlays/pilot/{case}": everybody,
        "/api/study-last/pilot": everybody,
        f"/api/ct/{case}": everybody,
        f"/api/ct/{other}": queue,
        f"/nodule/{item.nodule_id}": queue,
        f"/api/nodule/{item.nodule_id}": queue,
        f"/api/overlays/{case}": queue,
        "/api/last": queue,
        "/agreement": curators,
    }


def test_each_role_sees_its_own(people, study, reviewed):
    for address, allowed in addresses(study, reviewed).items():
        got = tuple(people[role].client.get(address).status_code for role in Role)
        assert got == tuple(200 if may else 403 for may in allowed), address


def test_a_raters_pages_lead_to_studies_only(people, study):
    rater = people[Role.RATER].client
    first = rater.get("/").text
    assert "/study/pilot" in first
    for page in (first, rater.get("/study/pilot").text):
        assert "Queue" not in page
        assert "/agreement" not in page
        assert "/nodule/" not in page
    assert "/agreement" not in people[Role.REVIEWER].client.get("/").text
    assert "/agreement" in people[Role.CURATOR].client.get("/").text


def test_a_rater_decides_in_the_study_only(people, study, reviewed):
    rater, nodule = people[Role.RATER], study.items[0].nodule_id
    assert rater.send_verdict(rater.verdict(nodule, place=1)).status_code == 403
    assert [one.reviewer for one in read_verdicts(reviewed, nodule)] == ["auto"]
    assert rater.send_verdict(rater.verdict(nodule, place=1, study="pilot")).status_code == 201


def test_revoking_signs_out_at_once(people, file):
    ann = people[Role.REVIEWER]
    assert ann.client.get("/api/last").status_code == 200
    revoke_reviewer(file, ann.name)
    assert ann.client.get("/api/last").status_code == 401
    assert ann.send_verdict(ann.verdict()).status_code == 401
    assert people[Role.CURATOR].client.get("/api/last").status_code == 200


def test_wrong_tokens_are_answered_ever_later(enter, file, caplog, monkeypatch):
    monkeypatch.setattr("qc.review.throttle.FIRST_DELAY_S", 59.0)
    token = add_reviewer(file, "ann", Role.REVIEWER)
    ann = enter("ann", token=token, tokens=file)

    def sign_in(name, token):
        data = {"name": name, "token": token}
        return ann.client.post("/sign-in", data=data, headers={"origin": ann.url})

    got = [sign_in("ann", "x" * 43).status_code for _ in range(FREE_FAILURES + 2)]
    assert got == [403] * FREE_FAILURES + [429] * 2
    delayed = sign_in("ann", token)
    assert delayed.status_code == 429, "the right one has to wait, too"
    assert int(delayed.headers["retry-after"]) >= 1, "in whole seconds"
    assert f"Wait {delayed.headers['retry-after']} s" in delayed.text
    assert sign_in("eve", token).status_code == 403
    assert ann.client.get("/").status_code == 200, "who is signed in works on"
    assert "wrong name or token from 127.0.0.1" in caplog.text
    assert "eve" not in caplog.text
    assert token not in caplog.text

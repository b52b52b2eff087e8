"""What reviewers see and say, over HTTP in this process."""

import re
from itertools import pairwise

import pytest

from qc.review.inputs import VerdictIn
from qc.review.options import shuffled
from qc.review.queue import Query
from qc.review.service import ReviewService
from qc.review.study_service import study_order
from storage.cases.outcomes import find_outcome
from storage.recipe import Recipe, ReviewSettings
from storage.records import Verdict
from storage.reviews.consensus import find_consensus
from storage.reviews.studies import create_study, plan_study
from storage.reviews.verdicts import read_verdicts, record_verdict
from tests.reviewable import METHODS, add_nodule


def decisions(store, nodule="P-1-a1"):
    return read_verdicts(store, nodule)


def nodules_of(page):
    return re.findall(r'<th scope="row"><a href="/nodule/([^"?]+)', page.text)


def test_a_choice_is_recorded_with_all_that_was_known(enter, reviewed):
    ann = enter()
    digest = find_outcome(reviewed, "P-1-a1").digest
    answer = ann.send_verdict(ann.verdict(place=3, note=" rim ", seconds=4.26))
    assert answer.status_code == 201
    (verdict,) = decisions(reviewed)
    assert (verdict.method, verdict.digest, verdict.reviewer, verdict.note, verdict.seconds) == (
        "lb+",
        digest,
        "ann",
        "rim",
        4.3,
    )
    assert (verdict.place, verdict.blind, verdict.automatic, verdict.study, verdict.id) == (
        3,
        False,
        False,
        "",
        answer.json()["id"],
    )
    assert verdict.decided_at.endswith("+00:00")


def test_undo_takes_back_the_one_given_last_although_the_clock_was_set_back(enter, reviewed):
    ann = enter()
    ahead = Verdict(
        "P-2-a2",
        find_outcome(reviewed, "P-2-a2").digest,
        "choose",
        "cf",
        "ann",
        False,
        decided_at="2099-01-01T00:00:00+00:00",
        ordinal=1,
    )
    record_verdict(reviewed, ahead)  # by a clock that was ahead
    ann.client.get("/")
    last = ann.send_verdict(ann.verdict()).json()["id"]
    assert ReviewService(reviewed, ReviewSettings(), blind=False).last_verdict("ann").id == last


def test_a_discard_has_its_reason(enter, reviewed):
    ann = enter()
    assert ann.send_verdict(ann.verdict(verdict="discard", reason="artefact")).status_code == 201
    assert ann.send_verdict(ann.verdict(verdict="discard")).status_code == 404
    assert [(d.verdict, d.reason, d.method) for d in decisions(reviewed)] == [
        ("discard", "artefact", None)
    ]


def test_a_choice_on_an_outdated_case_is_refused(enter, reviewed):
    ann = enter()
    verdict = ann.verdict()
    add_nodule(reviewed, "P-1-a1", digest="e" * 64)
    answer = ann.send_verdict(verdict)
    assert answer.status_code == 409
    assert "computed again" in answer.json()["error"]
    assert decisions(reviewed) == []


def test_a_verdict_on_an_earlier_case_is_shown_as_stale_and_counts_for_nothing(enter, reviewed):
    ann = enter()
    ann.send_verdict(ann.verdict())
    add_nodule(reviewed, "P-1-a1", digest="e" * 64)
    assert find_consensus(decisions(reviewed), "e" * 64, ReviewSettings()).verdict is None
    assert nodules_of(ann.client.get("/?show=stale")) == ["P-1-a1"]
    view = ann.client.get("/api/nodule/P-1-a1").json()
    assert view["digest"] == "e" * 64
    assert view["mine"] is None
    assert "was on an earlier case" in view["side"]


def test_undo_takes_back_ones_own_and_only_that(enter, reviewed):
    ann, bob = enter("ann"), enter("bob")
    first = ann.send_verdict(ann.verdict()).json()["id"]
    assert bob.send_verdict(bob.verdict(verdict="undo", undoes=first)).status_code == 409
    assert ann.client.get("/api/last").json()["id"] == first
    undo = ann.verdict(verdict="undo", undoes=first)
    assert ann.send_verdict(undo).status_code == 201
    assert ann.send_verdict(undo).status_code == 201
    assert ann.send_verdict(ann.verdict(verdict="undo", undoes=first)).status_code == 409
    assert [d.verdict for d in decisions(reviewed)] == ["choose", "undo"]
    assert ann.client.get("/api/last").json() == {}
    assert ann.client.get("/api/nodule/P-1-a1").json()["mine"] is None


def test_one_that_is_sent_twice_counts_once(enter, reviewed):
    ann = enter()
    verdict = ann.verdict()
    assert {ann.send_verdict(verdict).json()["id"] for _ in range(3)} == {verdict["id"]}
    assert len(decisions(reviewed)) == 1
    assert ann.send_verdict({**verdict, "place": 2}).status_code == 409
    assert len(decisions(reviewed)) == 1


def test_blind_the_place_means_what_stood_there_for_this_reviewer(enter, reviewed):
    orders = {}
    for name in ("ann", "bob"):
        caller = enter(name, blind=True)
        view = caller.client.get("/api/nodule/P-1-a1").json()
        assert view == caller.client.get("/api/nodule/P-1-a1").json()
        assert {option["name"] for option in view["options"]} == {""}
        assert not any(f">{method}<" in view["side"] for method in METHODS)
        assert "0.1" not in re.sub(r"<dl.*", "", view["side"], flags=re.DOTALL)
        for place in range(1, 9):
            caller.send_verdict(caller.verdict(place=place))
        mine = [d for d in decisions(reviewed) if d.reviewer == name]
        orders[name] = [d.method for d in mine]
        assert sorted(orders[name]) == sorted(METHODS)
        assert all(d.blind for d in mine)
    assert orders["ann"] != orders["bob"]
    assert list(METHODS) not in orders.values()


@pytest.mark.parametrize(("target", "first"), [("density", METHODS[4:]), ("opacity", METHODS[:4])])
@pytest.mark.parametrize("blind", [False, True])
def test_the_four_that_answer_the_question_come_first(reviewed, target, first, blind):
    service = ReviewService(reviewed, ReviewSettings(target=target), blind=blind)
    page = service.nodule("ann", "P-1-a1", Query())
    assert (page.target, page.shown_first, len(page.options)) == (target, 4, 8)
    picked = [option.name for option in page.options if option.is_pick]
    assert picked == ([] if blind else [first[2]]), "lb agrees best with the readers"
    if not blind:
        assert tuple(option.name for option in page.options[:4]) == first
    ids = iter("0123456789abcdef")
    chosen = [
        service.record(
            "ann",
            VerdictIn(
                id=next(ids) * 32,
                reviewer="ann",
                nodule="P-1-a1",
                digest=page.entry.digest,
                verdict="choose",
                place=place,
                blind=blind,
            ),
        ).method
        for place in range(1, 9)
    ]
    assert sorted(chosen[:4]) == sorted(first)
    assert set(chosen) == set(METHODS)


def test_a_place_means_what_stood_there_when_the_page_was_shown(reviewed):
    # The server was started again with another question while a verdict waited in the browser
    service = ReviewService(reviewed, ReviewSettings(target="density"), blind=False)
    digest = find_outcome(reviewed, "P-1-a1").digest
    waiting = VerdictIn(
        id="a" * 32,
        reviewer="ann",
        nodule="P-1-a1",
        digest=digest,
        verdict="choose",
        place=2,
        target="opacity",
    )
    assert service.record("ann", waiting).method == "knn"


def test_the_page_names_question_and_form(enter, reviewed):
    side = enter().client.get("/api/nodule/P-1-a1").json()["side"]
    assert "depicts the nodule's density best" in side
    assert "the share of the voxel that is lesion times its radiodensity target" in side
    assert "paper form" in side
    assert "5 to 8 estimate opacity" in side


def test_a_reviewer_may_go_blind_alone(enter, reviewed):
    ann = enter()
    open_view, blind_view = (
        ann.client.get(f"/api/nodule/P-1-a1{end}").json() for end in ("", "?blind=1")
    )
    assert [option["name"] for option in open_view["options"]] == [*METHODS[4:], *METHODS[:4]]
    assert (open_view["blind"], blind_view["blind"]) == (False, True)
    overlays = [ann.client.get(view["overlays"]).content for view in (open_view, blind_view)]
    assert overlays[0] != overlays[1]


def test_a_candidate_without_a_matte_cannot_be_chosen(enter, reviewed):
    add_nodule(reviewed, "P-6-a6", missing=("knn+",))
    ann = enter()
    assert ann.send_verdict(ann.verdict("P-6-a6", place=2)).status_code == 404
    assert decisions(reviewed, "P-6-a6") == []
    assert nodules_of(ann.client.get("/?show=flagged")) == ["P-6-a6"]


def test_the_queue_filters_and_sorts(enter, reviewed):
    ann, bob = enter("ann"), enter("bob")
    ann.send_verdict(ann.verdict("P-1-a1", place=1))
    bob.send_verdict(bob.verdict("P-1-a1", place=2))
    bob.send_verdict(bob.verdict("P-2-a2", place=2))
    ann.send_verdict(ann.verdict("P-3-a3", "flag", note="look"))
    add_nodule(reviewed, "P-6-a6", seed=6, size=(8, 30, 30))
    found = {
        show: nodules_of(ann.client.get(f"/?show={show}"))
        for show in ("todo", "disputed", "flagged", "decided")
    }
    assert found == {
        "todo": ["P-3-a3", "P-4-a4", "P-5-a5", "P-6-a6"],
        "disputed": ["P-1-a1"],
        "flagged": ["P-3-a3"],
        "decided": ["P-1-a1", "P-2-a2"],
    }
    assert nodules_of(ann.client.get("/?show=all&patient=p-4")) == ["P-4-a4"]
    assert nodules_of(ann.client.get("/?show=all&sort=mattes"))[0] == "P-6-a6"
    assert nodules_of(ann.client.get("/?show=all&min_mm=9&max_mm=")) == []
    assert ann.client.get("/?show=nonsense").status_code == 400
    assert len(nodules_of(ann.client.get("/?show=tied"))) == 6


def test_next_and_previous_follow_the_queue(enter):
    ann = enter()
    way, api = [], "/api/nodule/P-2-a2?show=all&sort=largest"
    while api:
        view = ann.client.get(api).json()
        way.append(view["nodule"])
        api = view["next"]
    assert way[0] == "P-2-a2"
    assert len(way) == len(set(way))
    assert all(a < b for a, b in pairwise(way))
    ann.send_verdict(ann.verdict("P-2-a2"))
    view = ann.client.get("/api/nodule/P-2-a2").json()
    assert (view["previous"], view["next"]) == ("/api/nodule/P-1-a1", "/api/nodule/P-3-a3")


def test_others_verdicts_are_shown_once_one_has_decided(enter):
    ann, bob = enter("ann"), enter("bob")
    bob.send_verdict(bob.verdict(place=2))
    before = ann.client.get("/api/nodule/P-1-a1").json()["side"]
    assert "bob" not in before
    assert "1 other verdict, shown once you have decided" in before
    ann.send_verdict(ann.verdict(place=1))
    assert "bob: knn" in ann.client.get("/api/nodule/P-1-a1").json()["side"]


def test_the_agreement_page_lists_disputes_and_kappa(enter):
    ann, bob = enter("ann"), enter("bob")
    for nodule, mine, theirs in (("P-1-a1", 1, 1), ("P-2-a2", 2, 2), ("P-3-a3", 1, 2)):
        ann.send_verdict(ann.verdict(nodule, place=mine))
        bob.send_verdict(bob.verdict(nodule, place=theirs))
    page = ann.client.get("/agreement").text
    # p = 2/3; habits ann 2:1, bob 1:2, so e = 4/9 and kappa = 2/5
    assert "0.40" in page
    assert re.findall(r"/nodule/(P-\d-a\d)", page) == ["P-3-a3"]
    assert "ann: <b>cf+</b>" in page


@pytest.fixture
def study(reviewed):
    for number in range(1, 6):
        digest = find_outcome(reviewed, f"P-{number}-a{number}").digest
        record_verdict(
            reviewed,
            Verdict(f"P-{number}-a{number}", digest, "choose", "lb", "auto", automatic=True),
        )
    made = plan_study(reviewed, "pilot", nodules=4, raters=2, seed=3, recipe=Recipe())
    create_study(reviewed, made)
    return made


def test_a_study_shows_nothing_that_tells_what_is_what(enter, study):
    ann = enter()
    nodule = study.items[0].nodule_id
    view = ann.client.get(f"/api/study/pilot/{nodule}").json()
    assert [option["name"] for option in view["options"]] == [""] * 5
    for word in ("reader", "matte", "lb", nodule):
        assert word not in view["side"].replace("Which describes the lesion best?", "")
    page = ann.client.get(f"/study/pilot/{nodule}").text
    assert 'data-layer="readers"' not in page
    assert ann.client.get(view["overlays"]).status_code == 200


def test_a_studys_answers_are_its_own_and_full_means_full(enter, study, reviewed):
    callers = {name: enter(name) for name in ("ann", "bob", "eve")}
    nodule = study.items[0].nodule_id
    for name, caller in callers.items():
        answer = caller.send_verdict(caller.verdict(nodule, place=2, study="pilot"))
        assert answer.status_code == (409 if name == "eve" else 201)
    answers = read_verdicts(reviewed, nodule, "pilot")
    assert [d.reviewer for d in answers] == ["ann", "bob"]
    assert all(d.blind and d.study == "pilot" for d in answers)
    assert {d.reviewer for d in decisions(reviewed, nodule)} == {"auto"}
    assert "has its 2 raters already" in callers["eve"].client.get("/study/pilot").text
    assert "1 of 4 decided" in callers["ann"].client.get("/study/pilot").text
    ann = callers["ann"]
    assert (
        ann.send_verdict(ann.verdict(nodule, "discard", reason="other", study="pilot")).status_code
        == 404
    )
    assert ann.send_verdict(ann.verdict(nodule, place=6, study="pilot")).status_code == 404


def test_a_study_stays_on_its_case_when_the_nodule_is_computed_anew(enter, study, reviewed):
    ann, item = enter(), study.items[0]
    add_nodule(reviewed, item.nodule_id, digest="e" * 64)
    view = ann.client.get(f"/api/study/pilot/{item.nodule_id}").json()
    assert view["digest"] == item.digest
    assert (
        ann.client.get(view["ct"]).status_code
        == ann.client.get(view["overlays"]).status_code
        == 200
    )
    assert (
        ann.send_verdict(
            ann.verdict(item.nodule_id, place=1, study="pilot", digest=item.digest)
        ).status_code
        == 201
    )


def test_every_rater_has_an_order_of_nodules_and_options_that_lasts(study):
    ann, bob = ([item.nodule_id for item in study_order(study, name)] for name in ("ann", "bob"))
    assert sorted(ann) == sorted(bob) == [item.nodule_id for item in study.items]
    assert ann == [item.nodule_id for item in study_order(study, "ann")]
    firsts = [shuffled(study.items[0].options, str(n))[0] for n in range(500)]
    assert all(70 < firsts.count(option) < 130 for option in study.items[0].options)


def test_the_page_can_be_asked_whether_it_is_up(enter):
    assert enter().client.get("/health").json() == {"status": "up"}

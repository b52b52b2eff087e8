"""A person at the page: a real Chromium, a server as a user starts it, mouse and keyboard."""

from collections.abc import Callable
from typing import Any

import pytest

from storage.cases.outcomes import find_outcome
from storage.recipe import Recipe, ReviewSettings
from storage.reviews.consensus import find_consensus
from storage.reviews.studies import MATTE, create_study, plan_study
from storage.reviews.verdicts import effective_verdicts, read_verdicts
from tasks.auto_select import pick_automatically
from tests.qc.review.conftest import wait_until
from tests.reviewable import METHODS, add_nodule

IDS = [f"P-{n}-a{n}" for n in range(1, 6)]


def shown(page: Any, nodule: str) -> None:
    page.wait_for_selector(f"body[data-shown='{nodule}']")


def saved(page: Any) -> None:
    page.wait_for_selector("#saved:text-is('Saved')")


def begin(page: Any) -> None:
    page.click("a.primary")
    page.wait_for_selector("body[data-shown]")


def answers(store: Any, reviewer: str = "ann", study: str = "") -> dict[str, str | None]:
    found = {}
    for nodule in IDS:
        for verdict in effective_verdicts(read_verdicts(store, nodule, study)):
            if verdict.reviewer == reviewer and verdict.choice:
                found[nodule] = verdict.choice
    return found


def pixels(page: Any, plane: str) -> str:
    return str(
        page.eval_on_selector(f"[data-plane={plane}] canvas", "canvas => canvas.toDataURL()")
    )


@pytest.fixture
def page(page_of: Callable[..., Any], reviewed: Any) -> Any:
    return page_of(reviewed)


def test_deciding_by_keyboard_alone_from_the_first_page_to_the_last(page, visit, reviewed):
    ann = visit(page.url)
    # Only Tab and Enter lead from the queue to the first nodule
    for _ in range(40):
        ann.keyboard.press("Tab")
        if ann.evaluate("document.activeElement.classList.contains('primary')"):
            break
    ann.keyboard.press("Enter")
    shown(ann, IDS[0])
    ann.keyboard.press("3")
    shown(ann, IDS[1])
    ann.keyboard.press("x")
    ann.keyboard.press("4")
    shown(ann, IDS[2])
    ann.keyboard.press("n")
    ann.keyboard.type("soft rim 1 2 x")
    ann.keyboard.press("Escape")
    # The four that answer the other question cannot be chosen unseen
    assert ann.locator("tr.option:visible").count() == 4
    ann.keyboard.press("8")
    ann.wait_for_selector("#toast.alarm:has-text('Candidate 8 is not shown')")
    ann.keyboard.press("a")
    assert ann.locator("tr.option:visible").count() == ann.locator("#strip button:visible").count()
    assert ann.locator("tr.option:visible").count() == 8
    ann.keyboard.press("8")
    shown(ann, IDS[3])
    ann.keyboard.press("ArrowRight")
    shown(ann, IDS[4])
    ann.keyboard.press("ArrowLeft")
    shown(ann, IDS[3])
    ann.keyboard.press("f")
    saved(ann)
    assert answers(reviewed) == {IDS[0]: "lb+", IDS[1]: "discard", IDS[2]: "if"}
    (noted,) = read_verdicts(reviewed, IDS[2])
    assert noted.note == "soft rim 1 2 x"
    assert noted.seconds is not None
    assert read_verdicts(reviewed, IDS[1])[0].reason == "artefact"
    assert [d.verdict for d in read_verdicts(reviewed, IDS[3])] == ["flag"]
    for nodule in (IDS[3], IDS[2]):
        ann.keyboard.press("u")
        wait_until(lambda nodule=nodule: read_verdicts(reviewed, nodule)[-1].verdict == "undo")
        shown(ann, nodule)
    assert answers(reviewed) == {IDS[0]: "lb+", IDS[1]: "discard"}


@pytest.mark.slow
def test_deciding_by_mouse_and_changing_ones_mind_after_a_reload(page, visit, reviewed):
    ann = visit(page.url)
    begin(ann)
    ann.click("[data-choose='2']")
    shown(ann, IDS[1])
    assert ann.locator("#strip button:visible").count() == 4
    ann.click("#all-button")
    ann.dblclick("#strip [data-look='5']")
    shown(ann, IDS[2])
    ann.click("#discard-button")
    ann.click("[data-reason='cut-off']")
    shown(ann, IDS[3])
    saved(ann)
    assert answers(reviewed) == {IDS[0]: "knn+", IDS[1]: "cf", IDS[2]: "discard"}
    ann.reload()
    shown(ann, IDS[3])
    ann.click("#undo-button")
    shown(ann, IDS[2])
    wait_until(lambda: answers(reviewed) == {IDS[0]: "knn+", IDS[1]: "cf"})
    ann.wait_for_selector("#verdict:has-text('You have not decided this nodule yet')")
    assert "2 / 5" in ann.text_content("#head")
    ann.goto(f"{page.url}/nodule/{IDS[0]}?show=all")
    shown(ann, IDS[0])
    assert "You chose 2" in ann.text_content("#verdict")
    assert ann.get_attribute("[data-plane=axial]", "aria-valuemax") == "10"
    ann.click("[data-choose='1']")
    shown(ann, IDS[1])
    saved(ann)
    assert answers(reviewed)[IDS[0]] == "cf+"
    assert len(read_verdicts(reviewed, IDS[0])) == 2


@pytest.mark.slow
def test_a_server_that_is_killed_loses_no_verdict_and_counts_none_twice(page, visit, reviewed):
    ann = visit(page.url)
    begin(ann)
    ann.keyboard.press("1")
    shown(ann, IDS[1])
    saved(ann)
    # The nodule after this one is ready in the browser before the server goes
    ann.wait_for_selector(f"body[data-ready='{IDS[2]}']")
    page.kill()
    ann.keyboard.press("2")
    shown(ann, IDS[2])
    ann.wait_for_selector("#saved.alarm:has-text('1 waiting')")
    ann.keyboard.press("3")
    ann.wait_for_selector("#saved.alarm:has-text('2 waiting')")
    page.start()
    saved(ann)
    shown(ann, IDS[3])
    assert answers(reviewed) == {IDS[0]: "cf+", IDS[1]: "knn+", IDS[2]: "lb+"}
    ann.reload()
    shown(ann, IDS[3])
    ann.keyboard.press("f")
    saved(ann)
    assert [len(read_verdicts(reviewed, nodule)) for nodule in IDS[:3]] == [1, 1, 1]


@pytest.mark.slow
def test_two_reviewers_at_once_do_not_disturb_each_other(page, visit, reviewed):
    ann, bob = visit(page.url, "ann"), visit(page.url, "bob")
    for one in (ann, bob):
        one.goto(f"{page.url}/?show=all")
        begin(one)
    for place, nodule in enumerate(IDS, 1):
        for one, key in ((ann, "1"), (bob, "1" if place < 4 else "2")):
            shown(one, nodule)
            one.keyboard.press(key)
    saved(ann)
    saved(bob)
    assert set(answers(reviewed, "ann").values()) == {"cf+"}
    assert list(answers(reviewed, "bob").values()) == ["cf+"] * 3 + ["knn+"] * 2
    majority = ReviewSettings(rule="majority", reviewers=2)
    stand = {
        n: find_consensus(read_verdicts(reviewed, n), find_outcome(reviewed, n).digest, majority)
        for n in IDS
    }
    assert [one.is_disputed for one in stand.values()] == [False] * 3 + [True] * 2
    ann.goto(f"{page.url}/agreement")
    assert ann.locator("td:has-text('ann: cf+, bob: knn+')").count() == 2


def test_a_nodule_that_changed_under_the_reviewer_is_not_decided(page, visit, reviewed):
    ann = visit(page.url)
    begin(ann)
    add_nodule(reviewed, IDS[0], digest="e" * 64)
    ann.keyboard.press("1")
    ann.wait_for_selector(f"#toast.alarm:has-text('Not recorded ({IDS[0]})')")
    assert read_verdicts(reviewed, IDS[0]) == []


def test_a_study_from_its_first_page_to_its_last(page, visit, reviewed):
    pick_automatically(reviewed)
    create_study(
        reviewed, plan_study(reviewed, "pilot", nodules=5, raters=2, seed=11, recipe=Recipe())
    )
    for name in ("ann", "bob"):
        rater = visit(page.url, name)
        rater.goto(f"{page.url}/study/pilot")
        begin(rater)
        assert rater.locator("#strip button").count() == 5
        rater.keyboard.press("g")
        assert filled_share(rater) > 0.75
        rater.keyboard.press("g")
        for choice in range(1, 6):
            before = rater.get_attribute("body", "data-shown")
            rater.keyboard.press(str(choice))
            if choice < 5:
                rater.wait_for_selector(f"body:not([data-shown='{before}'])")
        # The page of the study, which is asked for once the server has the last answer
        rater.wait_for_url(f"{page.url}/study/pilot")
        assert "You have decided all nodules. Thank you." in rater.text_content("main")
        assert "5 of 5 decided" in rater.text_content("main")
    for name in ("ann", "bob"):
        given = answers(reviewed, name, "pilot")
        assert set(given) == set(IDS)
        assert set(given.values()) <= {"reader-1", "reader-2", "reader-3", "reader-4", MATTE}
        assert all(d.blind for n in IDS for d in read_verdicts(reviewed, n, "pilot"))


def filled_share(page: Any) -> float:
    """The share of the strip's area that its pictures cover."""
    strip = page.locator("#strip").bounding_box()
    areas = [
        box["width"] * box["height"]
        for box in (one.bounding_box() for one in page.locator("#strip button:visible").all())
    ]
    return sum(areas) / (strip["width"] * strip["height"])


@pytest.mark.slow
def test_a_study_ends_with_thanks_also_where_the_last_answer_had_to_wait(page, visit, reviewed):
    pick_automatically(reviewed)
    create_study(
        reviewed, plan_study(reviewed, "pilot", nodules=1, raters=1, seed=11, recipe=Recipe())
    )
    rater = visit(page.url, "ann")
    rater.goto(f"{page.url}/study/pilot")
    begin(rater)
    page.kill()
    rater.keyboard.press("1")
    rater.wait_for_selector("#saved:has-text('1 waiting')")
    page.start()
    rater.wait_for_url(f"{page.url}/study/pilot")
    assert "Thank you" in rater.text_content("main")
    assert len(answers(reviewed, "ann", "pilot")) == 1


def test_the_legend_names_what_is_shown_and_the_queue_is_one_click_away(page, visit):
    ann = visit(f"{page.url}/?show=all")
    begin(ann)
    legend = ann.locator("#legend")
    assert legend.text_content() == "alpha 01alpha 0.5"
    for key, words in (
        ("r", ["reader 1", "reader 4"]),
        ("t", ["unknown", "foreground"]),
        ("d", ["more than knn+", "less than knn+"]),
    ):
        ann.keyboard.press(key)
        for one in words:
            ann.wait_for_selector(f"#legend :text-is('{one}')")
    assert "alpha 01" not in legend.text_content()
    ann.keyboard.down("h")
    ann.wait_for_selector("#legend:empty", state="attached")
    ann.keyboard.up("h")
    ann.click("summary")
    assert f"halosign view {ann.get_attribute('body', 'data-shown')}" in ann.inner_text("#side")
    ann.click("nav a:text-is('Queue')")
    ann.wait_for_url(f"{page.url}/?show=all")


def seen(page: Any, plane: str) -> tuple[Any, list[str]]:
    """What a pane shows: its image, and where its cross-hair lies over it."""
    bars = page.locator(f"[data-plane={plane}] i").evaluate_all(
        "bars => bars.map(bar => bar.style.transform)"
    )
    return pixels(page, plane), bars


@pytest.mark.slow
def test_the_images_follow_wheel_keys_and_mouse(page, visit):
    ann = visit(page.url)
    begin(ann)
    before = {plane: seen(ann, plane) for plane in ("axial", "coronal", "sagittal", "solid")}

    def changes(act: Callable[[], Any], *planes: str) -> None:
        act()
        for plane in planes:
            wait_until(lambda plane=plane: seen(ann, plane) != before[plane])
        before.update({plane: seen(ann, plane) for plane in before})

    ann.hover("[data-plane=axial]")
    slice_before = ann.get_attribute("[data-plane=axial]", "aria-valuenow")
    changes(lambda: ann.mouse.wheel(0, 100), "axial", "coronal")
    assert ann.get_attribute("[data-plane=axial]", "aria-valuenow") != slice_before
    changes(lambda: ann.keyboard.press("ArrowUp"), "axial")
    assert ann.get_attribute("[data-plane=axial]", "aria-valuenow") == slice_before
    changes(lambda: ann.keyboard.press("+"), "axial", "coronal", "sagittal", "solid")
    changes(lambda: ann.keyboard.press("k"), "axial")
    assert "L 40" in ann.text_content("#window")
    for key in "mirt":
        changes(lambda key=key: ann.keyboard.press(key), "axial")
    changes(lambda: ann.keyboard.press("Shift+Digit6"), "solid")
    changes(lambda: ann.keyboard.press("d"), "axial")
    changes(lambda: ann.keyboard.press("v"), "solid")
    box = ann.locator("[data-plane=axial]").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def drag(button: str, plane_x: float) -> None:
        ann.mouse.move(plane_x, y)
        ann.mouse.down(button=button)
        ann.mouse.move(plane_x + 40, y + 30, steps=3)
        ann.mouse.up(button=button)

    changes(lambda: drag("left", x), "axial", "coronal", "sagittal")
    changes(lambda: drag("right", x), "axial")
    assert "L 40" not in ann.text_content("#window")
    changes(lambda: drag("middle", x), "axial")
    solid = ann.locator("[data-plane=solid]").bounding_box()
    y = solid["y"] + solid["height"] / 2
    changes(lambda: drag("left", solid["x"] + solid["width"] / 2), "solid")
    ann.keyboard.press("g")
    assert ann.locator("#planes").is_hidden()
    assert ann.locator("#strip").bounding_box()["height"] > 400


def test_blind_hides_every_name_from_the_page(page, visit, reviewed):
    ann = visit(page.url)
    ann.goto(f"{page.url}/?blind=1")
    begin(ann)
    seen = ann.evaluate("document.body.innerText + document.getElementById('view').textContent")
    assert not [
        method
        for method in METHODS
        if f">{method}<" in seen or f" {method}\n" in seen or f'"{method}"' in seen
    ]
    ann.keyboard.press("1")
    shown(ann, IDS[1])
    saved(ann)
    (verdict,) = read_verdicts(reviewed, IDS[0])
    assert verdict.blind
    assert ann.url.endswith("?blind=1")


@pytest.mark.parametrize(
    "where",
    [
        *("/", "/nodule/P-1-a1"),
        *(
            pytest.param(where, marks=pytest.mark.slow)
            for where in ("/sign-in", "/?show=all&blind=1", "/agreement", "help", "discard")
        ),
    ],
)
def test_a_screen_readers_tree_has_no_serious_fault(page, visit, axe_faults, where):
    ann = visit(page.url)
    ann.goto(page.url + (where if where.startswith("/") else "/nodule/P-1-a1"))
    if ann.locator("body.review").count():
        shown(ann, IDS[0])
    if where in {"help", "discard"}:
        ann.keyboard.press("?" if where == "help" else "x")
    assert axe_faults(ann) == []

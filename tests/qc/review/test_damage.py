"""One damaged file of the store costs only itself on the page, which names it."""

import re

import pytest

from storage.cases.outcomes import find_outcome
from storage.layout import case_prefix
from storage.records import Verdict
from storage.reviews.verdicts import find_verdicts, record_verdict

DAMAGED = "P-2-a2"


def spoil_outcome(store):
    return f"outcomes/{DAMAGED}.json"


def spoil_case(store):
    return f"{case_prefix(DAMAGED, find_outcome(store, DAMAGED).digest)}/zarr.json"


def spoil_masks(store):
    prefix = case_prefix(DAMAGED, find_outcome(store, DAMAGED).digest)
    return f"{prefix}/labels/readers/0/c/1/0/0/0"


def spoil_verdict(store):
    digest = find_outcome(store, DAMAGED).digest
    record_verdict(store, Verdict(DAMAGED, digest, "choose", "cf", "bob", False))
    return next(store.list_prefix(f"decisions/{DAMAGED}"))


@pytest.mark.parametrize("place", [spoil_outcome, spoil_case, spoil_masks, spoil_verdict])
def test_the_queue_shows_the_rest_and_names_what_is_damaged(enter, reviewed, place):
    key = place(reviewed)
    reviewed.put(key, reviewed.get(key)[:-9])
    ann = enter()
    page = ann.client.get("/?show=all")
    assert page.status_code == 200
    shown = set(re.findall(r'<th scope="row"><a href="/nodule/([^"?]+)', page.text))
    others = {f"P-{n}-a{n}" for n in (1, 3, 4, 5)}
    assert shown == others | ({DAMAGED} if place == spoil_verdict else set())
    named = re.findall(r"<li><code>([^<]+)</code></li>", page.text)
    assert len(named) == 1
    assert key.startswith(named[0])
    assert "store check" in page.text
    assert ann.send_verdict(ann.verdict("P-1-a1")).status_code == 201
    assert ann.client.get("/agreement").status_code == 200


def test_a_nodule_with_a_damaged_verdict_is_reviewed(enter, reviewed):
    key = spoil_verdict(reviewed)
    reviewed.put(key, b"{")
    ann = enter()
    page = ann.client.get(f"/nodule/{DAMAGED}")
    assert page.status_code == 200
    assert f"a verdict cannot be read: {key}" in page.text
    assert ann.send_verdict(ann.verdict(DAMAGED)).status_code == 201
    assert [one.reviewer for one in find_verdicts(reviewed, DAMAGED).verdicts] == ["ann"]


def test_what_was_restored_is_shown_again(enter, reviewed):
    key = spoil_outcome(reviewed)
    good = reviewed.get(key)
    reviewed.put(key, b"{")
    ann = enter()
    assert key in ann.client.get("/?show=all").text
    reviewed.put(key, good)
    page = ann.client.get("/?show=all").text
    assert "store check" not in page
    assert DAMAGED in page

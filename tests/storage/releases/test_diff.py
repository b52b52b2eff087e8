from dataclasses import replace

import pytest

from storage.cases.case import ALGORITHM_VERSION, read_case_files, write_case
from storage.records import Member
from storage.releases.diff import (
    MOST_LISTED,
    Members,
    ReleaseDiff,
    changes_page,
    describe,
    diff_releases,
    find_predecessor,
)
from storage.releases.release import Draft, publish_release, withdraw_release
from tests.cases import lidc_facts, new_case

MEMBER = Member("P-1", "P", "d" * 64, "lb", "ann", False, "train", False)


def members(version, *found, target="density"):
    return Members(version, {member.nodule_id: member for member in found}, target)


FACTS = {"recipe": {"trimap": {"dilation_mm": 1.5}}, "source": lidc_facts()}


def test_what_came_and_what_went_is_named(store):
    changes = diff_releases(
        store, members("0.1.0", MEMBER), members("0.2.0", replace(MEMBER, nodule_id="P-2"))
    )
    assert (changes.added, changes.removed, changes.changed, changes.unchanged) == (
        ("P-2",),
        ("P-1",),
        {},
        0,
    )


def test_the_same_is_unchanged(store):
    changes = diff_releases(store, members("0.1.0", MEMBER), members("0.2.0", MEMBER))
    assert list(describe(changes)) == ["0.1.0 -> 0.2.0: 0 added, 0 removed, 0 changed, 1 unchanged"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"method": "cf"}, "matte lb -> cf"),
        ({"reviewer": "bob"}, "reviewer ann -> bob"),
        ({"split": "test"}, "split train -> test"),
    ],
)
def test_another_decision_is_a_reason(store, change, reason):
    changes = diff_releases(
        store, members("0.1.0", MEMBER), members("0.2.0", replace(MEMBER, **change))
    )
    assert list(describe(changes))[1:] == [f"~ P-1: {reason}"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"recipe": {"trimap": {"dilation_mm": 2.0}}},
            "recipe trimap.dilation_mm 1.5 -> 2.0",
        ),
        ({"source": lidc_facts(series_instance_uid="1.3")}, "source (series_instance_uid)"),
        (
            {"algorithm": ALGORITHM_VERSION + 1},
            f"algorithm {ALGORITHM_VERSION} -> {ALGORITHM_VERSION + 1}",
        ),
        ({}, "source (voxels, masks or contours)"),
    ],
)
def test_another_case_has_the_reason_in_its_facts(store, change, reason):
    write_case(store, new_case(**FACTS))
    write_case(store, new_case("e" * 64, **{**FACTS, **change}))
    after = members("0.2.0", replace(MEMBER, digest="e" * 64))
    assert diff_releases(store, members("0.1.0", MEMBER), after).changed == {"P-1": (reason,)}


def test_another_form_is_a_reason(store):
    write_case(store, new_case(**FACTS, algorithm=7))
    write_case(store, new_case("e" * 64, **FACTS, algorithm=8, form="improved"))
    after = members("0.2.0", replace(MEMBER, digest="e" * 64))
    (reasons,) = diff_releases(store, members("0.1.0", MEMBER), after).changed.values()
    assert reasons == ("algorithm 7 (first edition) -> improved form", "algorithm 7 -> 8")


def picks(**methods):
    return [replace(MEMBER, nodule_id=name, method=method) for name, method in methods.items()]


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        ("opacity", "density", "target: opacity -> density; the picks of 2 nodules"),
        (None, "density", "target: none (all eight were ranked together) -> density; the picks of"),
        ("density", "density", None),
    ],
)
def test_another_question_explains_the_picks_that_it_changed(store, before, after, line):
    # d changed although both of its picks answer the new question, e although none does
    old = members("0.1.0", *picks(a="cf", b="lb", c="cf", d="cf+", e="cf", f="cf"), target=before)
    new = members("0.2.0", *picks(a="cf+", b="if+", c="cf", d="lb+", e="knn"), target=after)
    found = diff_releases(store, old, new)
    assert found.retargeted == (("a", "b") if line else ())
    assert set(found.changed) == {"a", "b", "d", "e"}
    lines = list(describe(found))
    page = changes_page("0.2.0", found).decode()
    assert any(one.startswith("target: ") for one in lines) == bool(line)
    assert ("Target: " in page) == bool(line)
    if line:
        assert lines[1].startswith(line)
        assert "0 unchanged" not in lines[0]


def test_a_lost_case_does_not_stop_the_comparison(store):
    after = members("0.2.0", replace(MEMBER, digest="e" * 64))
    (reason,) = diff_releases(store, members("0.1.0", MEMBER), after).changed["P-1"]
    assert reason.startswith("another case; the reason is unknown: ")


def test_the_predecessor_is_the_newest_below_that_is_not_withdrawn(store):
    write_case(store, new_case())
    draft = Draft((MEMBER,), (), read_case_files(store, "P-1", "d" * 64), {}, {})
    assert find_predecessor(store, "0.1.0") is None
    for version in ("0.9.0", "0.10.0", "0.11.0"):
        publish_release(store, version, draft, publisher="ann")
    assert find_predecessor(store, "0.11.0").version == "0.10.0"
    withdraw_release(store, "0.10.0", "mislabelled", by="ann")
    assert find_predecessor(store, "0.11.0").version == "0.9.0"
    assert find_predecessor(store, "0.9.0") is None


def test_the_page_of_the_first_release_says_so():
    assert changes_page("0.1.0", None) == b"# Changes in 0.1.0\n\nThis is the first release.\n"


def test_a_long_page_is_cut_and_says_where_the_rest_is():
    added = tuple(f"P-{n:04d}" for n in range(MOST_LISTED + 3))
    page = changes_page("0.2.0", ReleaseDiff("0.1.0", "0.2.0", added, ())).decode()
    assert "203 added" in page
    assert page.count("- `+` ") == MOST_LISTED
    assert page.endswith("- and 3 more: `halosign release diff 0.1.0 0.2.0 --store STORE`\n")

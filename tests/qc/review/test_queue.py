"""The queue without a server: filters, order, neighbours, warnings and addresses."""

from dataclasses import replace

import pytest
from pydantic import ValidationError

from qc.review.catalogue import CatalogueEntry
from qc.review.queue import Query, make_row, matches, neighbours, select
from storage.recipe import ReviewSettings
from storage.records import Verdict
from storage.reviews.consensus import find_consensus

DIGEST = "d" * 64
ENTRY = CatalogueEntry(
    nodule_id="n1",
    patient="LIDC-IDRI-0001",
    digest=DIGEST,
    synthetic=False,
    kind="solid",
    extent_mm=(4.0, 9.0, 6.0),
    reader_disagreement=0.2,
    matte_difference=0.01,
    tied=(),
    methods=("cf", "knn"),
    missing={},
    metrics={},
    form="paper form",
)


def entry(nodule_id, **changes):
    return replace(ENTRY, nodule_id=nodule_id, **changes)


def verdict(nodule_id, kind="choose", method="cf", reviewer="ann", **more):
    given = {"automatic": False, "digest": DIGEST, **more}
    chosen = method if kind == "choose" else None
    return Verdict(nodule_id, given.pop("digest"), kind, chosen, reviewer, **given)


def row(found, *verdicts, reviewer="ann", settings=None):
    consensus = find_consensus(list(verdicts), found.digest, settings or ReviewSettings())
    return make_row(found, consensus, reviewer)


def ids(rows):
    return [one.entry.nodule_id for one in rows]


def test_the_size_of_a_nodule_is_its_largest_extent():
    assert ENTRY.size_mm == 9.0


@pytest.mark.parametrize(
    ("verdicts", "state", "mine", "settled"),
    [
        ((), "open", None, False),
        ((verdict("n1"),), "decided", "cf", True),
        ((verdict("n1", reviewer="bob"),), "decided", None, True),
        ((verdict("n1", reviewer="auto", automatic=True),), "automatic", None, False),
        ((verdict("n1", "discard"),), "decided", "discard", True),
    ],
)
def test_a_row_says_what_was_decided_and_by_whom(verdicts, state, mine, settled):
    found = row(ENTRY, *verdicts)
    assert (found.state, found.mine, found.is_settled_by_people) == (state, mine, settled)


def test_a_dispute_is_a_state_until_it_is_settled():
    settings = ReviewSettings(rule="majority", reviewers=2)
    disputed = row(
        ENTRY, verdict("n1"), verdict("n1", method="knn", reviewer="bob"), settings=settings
    )
    assert disputed.state == "disputed"
    assert matches(disputed, Query(show="disputed"))
    assert not matches(row(ENTRY, verdict("n1")), Query(show="disputed"))


@pytest.mark.parametrize(
    ("show", "expected"),
    [
        ("todo", ["open", "automatic"]),
        ("undecided", ["open", "automatic", "flagged"]),
        ("decided", ["mine", "theirs"]),
        ("tied", ["open"]),
        ("flagged", ["flagged", "stale", "missing"]),
        ("stale", ["stale"]),
        ("all", ["open", "mine", "theirs", "automatic", "flagged", "stale", "missing"]),
    ],
)
def test_what_is_shown(show, expected):
    rows = [
        row(entry("open", tied=(("cf", "knn"),))),
        row(entry("mine"), verdict("mine")),
        row(entry("theirs"), verdict("theirs", reviewer="bob")),
        row(entry("automatic"), verdict("automatic", reviewer="auto", automatic=True)),
        row(entry("flagged"), verdict("flagged", "flag", note="rim")),
        row(entry("stale"), verdict("stale", digest="e" * 64)),
        row(entry("missing", missing={"knn": "not finite"})),
    ]
    shown = {one.entry.nodule_id for one in rows if matches(one, Query(show=show))}
    also_open = {"todo": {"flagged", "stale", "missing"}, "undecided": {"stale", "missing"}}
    assert shown == set(expected) | also_open.get(show, set())


@pytest.mark.parametrize(
    ("query", "passes"),
    [
        (Query(show="all", min_mm=9.0), True),
        (Query(show="all", min_mm=9.01), False),
        (Query(show="all", max_mm=9.0), True),
        (Query(show="all", max_mm=8.99), False),
        (Query(show="all", patient="idri-0001"), True),
        (Query(show="all", patient="0002"), False),
    ],
)
def test_size_and_patient_filter_to_the_bound(query, passes):
    assert matches(row(ENTRY), query) is passes


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("id", ["a", "b", "c"]),
        ("largest", ["c", "a", "b"]),
        ("smallest", ["b", "a", "c"]),
        ("readers", ["b", "a", "c"]),
        ("mattes", ["a", "c", "b"]),
    ],
)
def test_rows_are_sorted_and_ties_go_by_id(sort, expected):
    rows = [
        row(entry("c", extent_mm=(9, 1, 1), reader_disagreement=0.1, matte_difference=0.03)),
        row(entry("b", extent_mm=(2, 1, 1), reader_disagreement=0.5, matte_difference=0.01)),
        row(entry("a", extent_mm=(5, 1, 1), reader_disagreement=0.4, matte_difference=0.05)),
    ]
    assert ids(select(rows, Query(show="all", sort=sort))) == expected
    equal = [row(entry(name)) for name in ("z", "m", "a")]
    assert ids(select(equal, Query(show="all", sort=sort))) == ["a", "m", "z"]


def test_neighbours_skip_what_the_filter_hides_but_not_the_nodule_itself():
    rows = [row(entry("a")), row(entry("b"), verdict("b")), row(entry("c")), row(entry("d"))]
    todo = Query(show="todo")
    assert neighbours(rows, todo, "a") == (None, "c")
    assert neighbours(rows, todo, "b") == ("a", "c")
    assert neighbours(rows, todo, "d") == ("c", None)
    assert neighbours(rows, todo, "none") == (None, "a")
    assert neighbours([], todo, "none") == (None, None)


def test_warnings_name_the_reviewer_the_note_and_the_method():
    found = row(
        entry("n", missing={"knn": "not finite"}),
        verdict("n", "flag", reviewer="bob", note="vessel"),
        verdict("n", "flag", reviewer="eve"),
        verdict("n", digest="e" * 64, reviewer="dan"),
    )
    assert found.warnings == (
        "bob wants a second look: vessel",
        "eve wants a second look",
        "knn gave no matte",
        "dan decided an earlier case",
    )


@pytest.mark.parametrize(
    ("query", "address"),
    [
        (Query(), ""),
        (Query(show="all"), "?show=all"),
        (Query(blind=True), "?blind=1"),
        (Query(patient="P-1", min_mm=4.5, sort="largest"), "?patient=P-1&min_mm=4.5&sort=largest"),
    ],
)
def test_an_address_holds_what_differs_from_the_defaults(query, address):
    assert query.address == address


@pytest.mark.parametrize(
    "wrong",
    [{"show": "mine"}, {"sort": "size"}, {"min_mm": -1}, {"max_mm": 1001}, {"patient": "a/b"}],
)
def test_a_wrong_query_is_refused(wrong):
    with pytest.raises(ValidationError):
        Query.model_validate(wrong)

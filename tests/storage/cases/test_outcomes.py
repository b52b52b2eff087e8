from storage.cases.outcomes import find_outcome, read_outcomes, write_outcome
from storage.records import Outcome


def test_the_latest_outcome_stands(store):
    write_outcome(store, Outcome("P-1", "P", "failed", "solve", "worker died", transient=True))
    done = Outcome(
        "P-1",
        "P",
        "done",
        "write",
        digest="d",
        seconds={"solve": 1.5},
        stored_bytes=9,
        computed=True,
    )
    write_outcome(store, done)
    assert find_outcome(store, "P-1") == done
    assert find_outcome(store, "P-2") is None


def test_outcomes_come_sorted_and_broken_ones_are_made_anew(store):
    for name in ("P-3", "P-1", "P-2"):
        write_outcome(store, Outcome(name, "P", "done", "write"))
    store.put("outcomes/P-2.json", b"{")
    store.put("outcomes/P-3.json", b'{"nodule_id": "P-3", "unheard": 1}')
    assert [outcome.nodule_id for outcome in read_outcomes(store)] == ["P-1"]


def test_what_the_selection_leaves_out_is_no_failure():
    assert Outcome("P-1", "P", "refused", "select", "1 reader, 4 asked").is_selection
    assert not Outcome("P-1", "P", "refused", "trimap", "empty").is_selection

import pytest

from matting.errors import InputError
from storage.errors import CorruptionError
from storage.records import Verdict, canonical_json
from storage.reviews.verdicts import VerdictLog, record_verdict
from tests.decided import latest_verdict


def verdict(**changes):
    return Verdict(
        **{
            "nodule_id": "P-1",
            "digest": "d",
            "verdict": "choose",
            "method": "cf",
            "reviewer": "ann",
            "automatic": False,
            **changes,
        }
    )


def test_verdicts_are_added_and_the_newest_counts(store):
    assert latest_verdict(store, "P-1") is None
    record_verdict(store, verdict())
    second = record_verdict(store, verdict(method="lb+", note="rim"))
    assert latest_verdict(store, "P-1") == second
    assert len(store.list_dir("decisions/P-1")[1]) == 2


def test_sameness_ignores_the_time_alone(store):
    stored = record_verdict(store, verdict())
    assert stored.decided_at
    assert stored.equals_apart_from_id(verdict())
    assert not stored.equals_apart_from_id(verdict(reviewer="bob"))


@pytest.mark.parametrize("changes", [{"nodule_id": "../x"}, {"reviewer": "a/b"}])
def test_invalid_names_are_refused(store, changes):
    with pytest.raises(InputError, match="invalid name"):
        record_verdict(store, verdict(**changes))
    assert list(store.list_prefix("decisions")) == []


def test_a_verdict_that_is_sent_twice_is_recorded_once(store):
    sent = verdict(id="a" * 32)
    first = record_verdict(store, sent)
    assert record_verdict(store, sent) == first
    assert len(store.list_dir("decisions/P-1")[1]) == 1


def test_an_id_is_used_for_one_verdict_only(store):
    record_verdict(store, verdict(id="a" * 32))
    with pytest.raises(InputError, match="id is used only once"):
        record_verdict(store, verdict(id="a" * 32, method="knn"))
    assert len(store.list_dir("decisions/P-1")[1]) == 1


@pytest.mark.parametrize(
    "changes", [{"id": "x"}, {"undoes": "../" + "a" * 29}, {"decided_at": "noon"}]
)
def test_an_invalid_id_or_time_is_refused(store, changes):
    with pytest.raises(InputError, match=r"invalid (id|time) of a verdict"):
        record_verdict(store, verdict(**changes))
    assert list(store.list_prefix("decisions")) == []


def test_records_of_the_first_version_are_read_and_can_be_taken_back(store):
    old = {
        "nodule_id": "P-1",
        "digest": "d",
        "verdict": "choose",
        "method": "cf",
        "reviewer": "ann",
    }
    old |= {"automatic": False, "note": "", "decided_at": "2026-01-01T00:00:00+00:00"}
    store.put("decisions/P-1/20260101T000000.000000-0123abcd.json", canonical_json(old))
    assert latest_verdict(store, "P-1").id == "0123abcd"
    record_verdict(store, verdict(verdict="undo", method=None, undoes="0123abcd"))
    assert latest_verdict(store, "P-1") is None


def test_the_log_reads_what_was_added_since(store):
    log = VerdictLog(store)
    log.refresh()
    assert log.by_nodule() == {}
    first = record_verdict(store, verdict())
    other = record_verdict(store, verdict(nodule_id="P-2"))
    log.refresh()
    second = record_verdict(store, verdict(method="lb"))
    log.refresh()
    assert log.by_nodule() == {"P-1": [first, second], "P-2": [other]}


def test_a_damaged_record_is_reported(store):
    store.put("decisions/P-1/20260101T000000.000000-0123abcd.json", b'{"who": "ann"}')
    with pytest.raises(CorruptionError, match="is not a verdict"):
        latest_verdict(store, "P-1")


def test_no_person_has_the_name_of_the_automatic_choice(store):
    with pytest.raises(InputError, match="any name but auto"):
        record_verdict(store, verdict(reviewer="Auto"))
    assert record_verdict(store, verdict(reviewer="auto", automatic=True)).reviewer == "auto"

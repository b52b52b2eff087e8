import pytest

from matting.refusal import Refusal
from storage.decisions import Decision, latest_decision, record_decision


def decision(**changes):
    return Decision(
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


def test_verdicts_are_added_and_the_newest_stands(store):
    assert latest_decision(store, "P-1") is None
    record_decision(store, decision())
    second = record_decision(store, decision(method="lb+", note="rim"))
    assert latest_decision(store, "P-1") == second
    assert len(store.children("decisions/P-1")[1]) == 2


def test_sameness_ignores_the_time_alone(store):
    stored = record_decision(store, decision())
    assert stored.decided_at
    assert stored.says_the_same(decision())
    assert not stored.says_the_same(decision(reviewer="bob"))


@pytest.mark.parametrize("changes", [{"nodule_id": "../x"}, {"reviewer": "a/b"}])
def test_names_that_cannot_stand_in_a_path_are_refused(store, changes):
    with pytest.raises(Refusal, match="a name cannot be stored"):
        record_decision(store, decision(**changes))
    assert list(store.keys("decisions")) == []

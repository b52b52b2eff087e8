"""Which nodules are shown: by what they are like, whatever the order of the rows."""

import pytest

from qc.evaluation.choice import Choice, choose

HEADER = "nodule,union_mm3,dice,hu_median"
ROWS = [
    "a,10,0.1,-900",
    "b,100,0.4,-300",
    "c,120,0.9,-700",
    "d,130,0.8,60",
    "e,140,0.8,20",
    "f,1,0.05,40",
]


def chosen(rows: list[str], among: list[str] | None = None) -> tuple[Choice, ...]:
    return choose("\n".join([HEADER, *rows]).encode(), among)


@pytest.mark.parametrize("rows", [ROWS, ROWS[::-1]])
def test_the_disputed_the_faint_and_the_solid_one_of_those_large_enough(rows):
    assert chosen(rows) == (
        Choice("d", "the readers agree least: Dice 0.80"),
        Choice("c", "the faintest, as ground glass is: median -700 HU"),
        Choice("e", "nearest to soft tissue, as solid nodules are: median 20 HU"),
    )


def test_only_those_asked_for_are_chosen_and_none_twice():
    assert [choice.nodule_id for choice in chosen(ROWS, ["a", "b"])] == ["b"]
    assert chosen(ROWS, []) == ()


def test_what_was_not_measured_is_not_chosen_for_it():
    assert [choice.nodule_id for choice in chosen(["a,5,,-500", "b,5,0.9,"])] == ["b", "a"]

"""Which nodules are shown: by what they are like, whatever the order of the rows."""

import pytest

from qc.evaluation.choice import ChosenNodule, choose_from

HEADER = "nodule,union_mm3,dice,hu_median"
ROWS = [
    "a,10,0.1,-900",
    "b,100,0.4,-300",
    "c,120,0.9,-700",
    "d,130,0.8,60",
    "e,140,0.8,20",
    "f,1,0.05,40",
]


def chosen(rows: list[str], among: list[str] | None = None) -> tuple[ChosenNodule, ...]:
    return choose_from("\n".join([HEADER, *rows]).encode(), among)


@pytest.mark.parametrize("rows", [ROWS, ROWS[::-1]])
def test_the_disputed_the_faint_and_the_solid_one_of_those_large_enough(rows):
    assert chosen(rows) == (
        ChosenNodule("d", "lowest reader agreement: Dice 0.80"),
        ChosenNodule("c", "lowest density, as in ground glass: median -700 HU"),
        ChosenNodule("e", "closest to soft tissue, as in solid nodules: median 20 HU"),
    )


def test_only_those_asked_for_are_chosen_and_none_twice():
    assert [choice.nodule_id for choice in chosen(ROWS, ["a", "b"])] == ["b"]
    assert chosen(ROWS, []) == ()


def test_what_was_not_measured_is_not_chosen_for_it():
    assert [choice.nodule_id for choice in chosen(["a,5,,-500", "b,5,0.9,"])] == ["b", "a"]

"""What every source says about patients that it does not have."""

import pytest

from matting.errors import InputError
from storage.sources.base import check_patients

PRESENT = ("A", "B")


@pytest.mark.parametrize(
    ("wanted", "got"),
    [
        (["X"], "X"),
        (["A", "Y", "X"], "X, Y"),
        (list("54321"), "1, 2, 3, 4, 5"),
        (list("654321"), "1, 2, 3, 4, 5 and 1 more"),
        (list("87654321"), "1, 2, 3, 4, 5 and 3 more"),
    ],
)
def test_up_to_five_unknown_patients_are_named(wanted, got):
    with pytest.raises(InputError) as refusal:
        check_patients(frozenset(wanted), PRESENT, "scans.csv", remedy="Correct --patients.")
    assert str(refusal.value) == (
        f"unknown patients: got {got}, expected some of the 2 patients in scans.csv, A to B. "
        "Correct --patients."
    )


@pytest.mark.parametrize("wanted", [None, [], ["A"], ["A", "B"]])
def test_known_patients_and_no_selection_pass(wanted):
    check_patients(
        None if wanted is None else frozenset(wanted), PRESENT, "scans.csv", remedy="none"
    )

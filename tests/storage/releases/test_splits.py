from collections import Counter

from storage.recipe import ReleaseSettings
from storage.releases.splits import assign_split

PATIENTS = [f"LIDC-IDRI-{n:04d}" for n in range(1, 1011)]

EIGHT_SIDES = ["train", "train", "test", "train", "train", "train", "validation", "train"]


def test_shares_are_seven_one_two():
    counts = Counter(assign_split(patient, ReleaseSettings()) for patient in PATIENTS)
    assert abs(counts["train"] / 1010 - 0.7) < 0.04
    assert abs(counts["validation"] / 1010 - 0.1) < 0.03
    assert abs(counts["test"] / 1010 - 0.2) < 0.04


def test_a_patient_never_changes_side():
    # Written down once: these must hold in every later version.
    assert [assign_split(p, ReleaseSettings()) for p in PATIENTS[:8]] == EIGHT_SIDES


def test_another_seed_splits_otherwise():
    other = ReleaseSettings(split_seed=1)
    assert [assign_split(p, ReleaseSettings()) for p in PATIENTS] != [
        assign_split(p, other) for p in PATIENTS
    ]


def test_shares_move_the_borders_only():
    more = ReleaseSettings(train=0.8)
    for patient in PATIENTS:
        if assign_split(patient, ReleaseSettings()) == "train":
            assert assign_split(patient, more) == "train"

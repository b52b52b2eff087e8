"""Every file of a small release, spoiled in three ways: `verify` names each, and nothing else."""

import pytest

from storage.cases.case import read_case_files, write_case
from storage.records import Member
from storage.releases.index import split_table
from storage.releases.release import Draft, publish_release
from storage.releases.verify import verify_release
from tests.cases import new_case
from tests.phantoms import ball_patch


def flipped(store, key, good):
    middle = len(good) // 2
    store.put(key, good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :])


def cut_short(store, key, good):
    store.put(key, good[: len(good) // 2])


def missing(store, key, good):
    store.delete([key])


@pytest.fixture
def released(store):
    members, files = [], {}
    for n in (1, 2):
        digest = str(n) * 64
        write_case(store, new_case(digest, nodule=f"P-{n}", patch=ball_patch(seed=n)))
        members.append(Member(f"P-{n}", "P", digest, "lb", "ann", False, "train", False))
        files |= read_case_files(store, f"P-{n}", digest)
    own = {name: name.encode() for name in ("README.md", "CHANGES.md", "fingerprint.png")}
    own["splits.csv"] = split_table(members)
    publish_release(store, "0.1.0", Draft(tuple(members), (), files, own, {}), publisher="ann")
    return store


@pytest.mark.parametrize("damage", [flipped, cut_short, missing])
def test_verify_names_every_spoiled_file(released, damage):
    keys = [
        *released.list_prefix("releases/0.1.0"),
        *(key for key in released.list_prefix("cases") if not key.endswith(".done")),
    ]
    assert len(keys) > 45
    assert verify_release(released, "0.1.0") == []
    unnamed = []
    for key in keys:
        good = released.get(key)
        damage(released, key, good)
        complaints = verify_release(released, "0.1.0")
        if len(complaints) != 1 or key not in complaints[0]:
            unnamed.append((key, complaints))
        released.put(key, good)
    assert unnamed == []
    assert verify_release(released, "0.1.0") == []

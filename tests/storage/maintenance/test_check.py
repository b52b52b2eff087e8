"""Every damage is named, costs only itself, and can be set aside."""

import hashlib
import random
import re
import shutil
from contextlib import suppress

import pytest

from matting.errors import InputError
from storage.cases.outcomes import read_outcomes
from storage.cases.runs import find_last_run, write_run
from storage.errors import StoreError
from storage.maintenance.gc import find_garbage
from storage.maintenance.quarantine import repair
from storage.maintenance.verify import list_nodules
from storage.maintenance.verify_records import CHECKER, verify_records
from storage.records import Claim, Run, encode
from storage.releases.release import (
    Draft,
    Release,
    find_withdrawal,
    publish_release,
)
from storage.releases.verify import verify_release
from storage.results.checkpoints import find_state, read_checkpoint_configs
from storage.results.experiments import read_facts, read_table
from storage.results.networks import is_published
from storage.results.scores import METHOD_SCORES, read_lines
from storage.reviews.listing import list_rows
from storage.reviews.studies import read_study
from storage.reviews.verdicts import read_verdicts
from storage.store import CLOCK, STORE_MARKER, open_store
from tests.complaints import complaints_about
from tests.furnished import KINDS, damage, furnished_store, keys_of

QUICK_DAMAGES, SLOW_DAMAGES = 2, 80


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return furnished_store(tmp_path_factory.mktemp("furnished") / "store")


@pytest.fixture
def furnished(template, tmp_path):
    """A store with every kind of file, for one test."""
    shutil.copytree(template.url, tmp_path / "furnished")
    return open_store(str(tmp_path / "furnished"))


def check(store):
    of_nodules = complaints_about(store)
    return [*of_nodules, *(c for file in verify_records(store) for c in file.complaints)]


def contents(store):
    return {key: store.get(key) for key in store.list_prefix("") if key != CLOCK}


def test_a_sound_store_has_every_kind_of_file_and_no_complaint(furnished):
    assert check(furnished) == []
    assert all(file.has_checksum for file in verify_records(furnished))
    kinds = {kind: keys_of(furnished, kind) for kind in KINDS}
    assert all(kinds.values()), kinds
    known = {key for keys in kinds.values() for key in keys}
    assert set(contents(furnished)) == known | {STORE_MARKER}


@pytest.mark.parametrize(
    "count", [QUICK_DAMAGES, pytest.param(SLOW_DAMAGES, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("kind", KINDS)
def test_every_damage_is_named_and_nothing_else_is(kind, count, template, record_property):
    record_property("tried", count)
    dice = random.Random(f"{kind} {count}")
    for _ in range(count):
        key = dice.choice(keys_of(template, kind))
        good = template.get(key)
        spoiled = damage(good, dice)
        template.put(key, spoiled)
        try:
            found = list(map(str, check(template)))
            assert found, (key, spoiled[:200])
            assert [line for line in found if key not in line] == [], (key, spoiled[:200])
            read_as_commands_do(template)
        finally:
            template.put(key, good)


def read_as_commands_do(store):
    """Read what other commands read; they may refuse in words, and raise nothing else."""
    for read in (
        lambda: list(read_outcomes(store)),
        lambda: [read_verdicts(store, nodule_id) for nodule_id in list_nodules(store)],
        lambda: find_last_run(store),
        lambda: find_garbage(store),
        lambda: verify_release(store, "0.2.0"),
        lambda: read_study(store, "s"),
        lambda: find_state(store, "t"),
        lambda: read_checkpoint_configs(store, "0.1.0"),
        lambda: is_published(store, "small", "d", ""),
        lambda: read_lines(store, "0.1.0", "test", METHOD_SCORES),
        lambda: read_table(store, "0.1.0", "paper", 1),
        lambda: read_facts(store, "0.1.0", "paper"),
    ):
        with suppress(StoreError, InputError):
            read()


@pytest.mark.parametrize("kind", KINDS)
def test_repair_moves_what_is_damaged_and_nothing_else(kind, furnished):
    dice = random.Random(kind)
    before = contents(furnished)
    key = dice.choice(keys_of(furnished, kind))
    furnished.put(key, spoiled := damage(before[key], dice))
    complaints = check(furnished)
    folder, moved = repair(furnished, complaints)
    assert key in moved
    after = contents(furnished)
    assert after.pop(f"{folder}/{key}") == spoiled
    for other in set(before) - {key}:
        kept = after.get(other) or after.get(f"{folder}/{other}")
        assert kept == before[other] or other.endswith("files.json")
    unit = "/".join(key.split("/")[: 3 if kind.endswith("case") else 2]).removesuffix(".done")
    assert [one for one in moved if not one.startswith(unit)] == []
    assert not any(key in str(complaint) for complaint in check(furnished) if complaint.aside)
    read_as_commands_do(furnished)


def test_a_verdict_that_was_set_aside_asks_for_a_second_look(furnished):
    last = read_verdicts(furnished, "P-1-a1")[-1]
    key = next(key for key in keys_of(furnished, "verdict") if last.id in key)
    furnished.put(key, b"{")
    repair(furnished, check(furnished))
    first, flag = read_verdicts(furnished, "P-1-a1")
    assert (first.method, flag.verdict, flag.reviewer) == ("cf", "flag", CHECKER)
    assert "review this nodule again" in flag.note
    assert check(furnished) == []


def test_a_verdict_that_is_missing_is_named_by_the_one_that_follows_it(furnished):
    first = read_verdicts(furnished, "P-1-a1")[0]
    key = next(key for key in keys_of(furnished, "verdict") if first.id in key)
    furnished.delete([key])
    (complaint,) = check(furnished)
    assert f"the verdict {first.id} is missing" in complaint.wrong


def test_a_release_whose_withdrawal_was_set_aside_stays_withdrawn(furnished):
    furnished.put("releases/0.1.0/withdrawn.json", b"{")
    repair(furnished, check(furnished))
    assert find_withdrawal(furnished, "0.1.0").withdrawn_by == CHECKER
    assert check(furnished) == []


def test_a_claim_is_made_again_of_a_manifest_that_proves_itself(furnished):
    furnished.put("releases/0.2.0/claim.json", b"{")
    with pytest.raises(InputError, match="a version is used only once"):
        publish_release(furnished, "0.2.0", Draft((), (), {}, {}, {}), publisher="eve")
    repair(furnished, check(furnished))
    assert check(furnished) == []
    assert Release.open(furnished, "0.2.0").manifest.publisher == "ann"


def test_a_version_whose_claim_is_lost_is_not_published_again(furnished):
    before = contents(furnished)
    furnished.delete(["releases/0.2.0/claim.json"])
    with pytest.raises(InputError, match="a version is used only once"):
        publish_release(furnished, "0.2.0", Draft((), (), {}, {}, {}), publisher="eve")
    furnished.put("releases/0.2.0/claim.json", before["releases/0.2.0/claim.json"])
    assert contents(furnished) == before


def test_nothing_is_repaired_while_a_curation_is_running(furnished):
    furnished.put("outcomes/P-1-a1.json", b"{")
    write_run(furnished, Run("dicom", "paper", 1, 0, 0))
    before = contents(furnished)
    with pytest.raises(InputError, match="not repaired while a curation is running"):
        repair(furnished, check(furnished))
    assert contents(furnished) == before


def test_records_of_earlier_versions_are_counted_and_no_complaint(furnished):
    for kind in ("verdict", "manifest", "claim", "run", "summary of scores"):
        for key in keys_of(furnished, kind):
            data = re.sub(rb',\s*"sha256":\s*"[^"]*"\s*}$', b"}", furnished.get(key))
            furnished.put(key, data)
    for version in ("0.1.0", "0.2.0"):
        manifest = furnished.get(f"releases/{version}/manifest.json")
        claim = Claim("ann", hashlib.sha256(manifest).hexdigest())
        furnished.put(f"releases/{version}/claim.json", encode(claim))
    assert check(furnished) == []
    unsealed = [file for file in verify_records(furnished) if not file.has_checksum]
    assert len(unsealed) == 4 + 2 + 1 + 1


def test_a_list_says_which_choice_and_which_outcome_cannot_be_read(furnished):
    assert [row.choice for row in list_rows(furnished)] == ["lb", "lb"]
    furnished.put(keys_of(furnished, "verdict")[0], b"{")
    furnished.put("outcomes/P-2-a2.json", b"{")
    first, second = list_rows(furnished)
    assert (first.nodule, first.choice, first.by) == ("P-1-a1", "damaged", "")
    assert (second.nodule, second.state, second.stage) == ("P-2-a2", "failed", "record")
    assert "outcomes/P-2-a2.json is not the outcome of a nodule" in second.reason

import csv
import io
import json
from dataclasses import replace

import pytest

from matting.errors import InputError
from storage.records import Verdict
from storage.reviews.verdict_files import export_verdicts, find_all_verdicts, import_verdicts
from storage.reviews.verdicts import record_verdict
from storage.store import open_store
from tests.reviewable import add_nodule, reviewable_store


@pytest.fixture
def decided(tmp_path):
    store = reviewable_store(tmp_path / "store", 2)
    digests = all_digests(store)
    chosen = Verdict(
        "P-1-a1", digests["P-1-a1"], "choose", "lb", "ann", False, note='rim, "soft"', blind=True
    )
    first = record_verdict(store, replace(chosen, seconds=3.5, place=3))
    record_verdict(store, replace(chosen, verdict="undo", method=None, note="", undoes=first.id))
    record_verdict(
        store,
        Verdict("P-2-a2", digests["P-2-a2"], "discard", None, "bob", False, reason="artefact"),
    )
    return store


def all_digests(store):
    return {
        key.split("/")[1]: key.split("/")[2][:-5]
        for key in store.list_prefix("cases")
        if key.endswith(".done")
    }


@pytest.mark.parametrize("form", ["csv", "json"])
def test_what_is_exported_is_imported_unchanged_and_only_once(decided, tmp_path, form):
    file = tmp_path / f"decisions.{form}"
    export_verdicts(file, find_all_verdicts(decided).verdicts)
    other = reviewable_store(tmp_path / "other", 2)
    taken = import_verdicts(other, file)
    assert (taken.added, taken.known, taken.stale) == (3, 0, ())
    assert find_all_verdicts(other) == find_all_verdicts(decided)
    assert import_verdicts(other, file).added == 0
    assert find_all_verdicts(other) == find_all_verdicts(decided)


def test_rows_from_elsewhere_need_no_id_and_are_imported_once(decided, tmp_path):
    file = tmp_path / "elsewhere.csv"
    digest = all_digests(decided)["P-1-a1"]
    file.write_text(
        f"nodule_id,digest,verdict,method,reviewer,decided_at\nP-1-a1,{digest},choose,cf,eve,2026-01-01T00:00:00+00:00\n"
    )
    assert import_verdicts(decided, file).added == 1
    assert import_verdicts(decided, file).added == 0
    assert find_all_verdicts(decided).verdicts[0].reviewer == "eve"


def test_verdicts_on_an_outdated_case_are_told(decided, tmp_path):
    file = tmp_path / "decisions.csv"
    export_verdicts(file, find_all_verdicts(decided).verdicts)
    other = reviewable_store(tmp_path / "other", 2)
    add_nodule(other, "P-2-a2", digest="f" * 64)
    assert import_verdicts(other, file).stale == ("P-2-a2",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"digest": "0" * 64}, "row 2, P-2-a2: the store has no such case"),
        ({"nodule_id": "../../etc"}, "invalid characters in nodule"),
        ({"verdict": "perhaps"}, "'perhaps' is none of"),
        ({"method": "magic", "verdict": "choose"}, "no such matte: magic"),
        ({"method": "cf"}, "a method without `choose`"),
        ({"verdict": ""}, "no verdict in row 2"),
        ({"seconds": "long"}, "could not convert"),
        ({"blind": "maybe"}, "'maybe' for blind"),
        ({"reviewer": "Auto"}, "Auto is the name of the automatic choice, not of a person"),
        ({"extra": "x"}, "unknown columns extra"),
    ],
)
def test_a_file_with_a_wrong_row_is_refused_as_a_whole(decided, tmp_path, changes, message):
    file = tmp_path / "decisions.csv"
    export_verdicts(file, find_all_verdicts(decided).verdicts)
    rows = list(csv.DictReader(io.StringIO(file.read_text())))
    line = {**rows[-1], **changes}
    file = tmp_path / "wrong.json"
    file.write_text(json.dumps([{**rows[0]}, line]))
    other = reviewable_store(tmp_path / "other", 2)
    with pytest.raises(InputError, match=message):
        import_verdicts(other, file)
    assert list(other.list_prefix("decisions")) == []


@pytest.mark.parametrize(
    ("name", "content"), [("a.txt", ""), ("a.json", "{"), ("a.json", "{}"), ("b.csv", None)]
)
def test_what_is_not_a_file_of_verdicts_is_refused(decided, tmp_path, name, content):
    file = tmp_path / name
    if content is not None:
        file.write_text(content)
    with pytest.raises(InputError, match=r"CSV or JSON|cannot be imported"):
        import_verdicts(open_store(decided.url), file)


def test_a_file_that_is_not_there_is_told_without_the_number_of_the_error(decided, tmp_path):
    file = tmp_path / "none.csv"
    with pytest.raises(InputError, match=r"got .*none\.csv: No such file or directory,") as refusal:
        import_verdicts(open_store(decided.url), file)
    assert "Errno" not in str(refusal.value)


def test_a_damaged_verdict_is_named_and_the_others_are_exported(decided):
    whole = find_all_verdicts(decided)
    key = next(decided.list_prefix("decisions"))
    decided.put(key, b"{")
    found = find_all_verdicts(decided)
    assert [error.key for error in found.damaged] == [key]
    assert len(found.verdicts) == len(whole.verdicts) - 1

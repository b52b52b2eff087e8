"""Ids replaced by keyed hashes: the key, the map, and what a table gives then."""

import csv
import re

import pytest

from matting.errors import InputError
from storage.layout import is_nodule_id
from storage.sources.pseudonyms import add_to_map, create_key, map_file, open_pseudonyms
from storage.sources.table import FilesSource

HEADER = "nodule,patient,image,readers,birth date\n"
ROWS = (
    "Jane left upper,DOE^JANE 1961-02-03,i,r,1961-02-03\nb,DOE^JANE 1961-02-03,i,r,x\nc,Roe,i,r,y\n"
)


@pytest.fixture
def key(tmp_path):
    file = tmp_path / "key"
    assert create_key(file, str(tmp_path / "store"))
    return file


@pytest.fixture
def table(tmp_path):
    file = tmp_path / "table.csv"
    file.write_text(HEADER + ROWS)
    return file


def nodules(table, key, patients=None):
    return FilesSource(table, pseudonym_key=key).inventory(readers=4, patients=patients).nodules


def test_a_key_is_made_once_and_for_this_user_only(key, tmp_path):
    before = key.read_text()
    assert not create_key(key, str(tmp_path / "store"))
    assert key.read_text() == before
    assert key.stat().st_mode & 0o777 == 0o600
    key.chmod(0o640)
    with pytest.raises(InputError, match="a file that others may read"):
        open_pseudonyms(key)


@pytest.mark.parametrize("content", [b"", b"secret", b"0" * 63, b"\xff" * 64, b"0" * 10_000])
def test_what_is_no_key_is_refused(key, content):
    key.write_bytes(content)
    with pytest.raises(InputError, match="cannot be used for pseudonyms"):
        open_pseudonyms(key)


def test_the_key_stays_out_of_the_store(tmp_path):
    for place in (tmp_path / "store" / "key", tmp_path / "store" / "x" / ".." / "key"):
        with pytest.raises(InputError, match="a file within the store"):
            create_key(place, str(tmp_path / "store"))
    with pytest.raises(InputError, match="No such file"):
        create_key(tmp_path / "none" / "key", "s3://bucket/set")


def test_ids_become_pseudonyms_that_only_the_key_gives(table, key, tmp_path):
    found = nodules(table, key)
    assert found == nodules(table, key)
    assert all(is_nodule_id(n.id) and is_nodule_id(n.patient_id) for n in found)
    assert all(n.id.startswith(f"{n.patient_id}-n") for n in found)
    assert len({n.patient_id for n in found}) == 2
    assert not re.search("jane|doe|roe|1961", repr(found), re.IGNORECASE)
    other = tmp_path / "other"
    create_key(other, "")
    assert {n.id for n in nodules(table, other)}.isdisjoint(n.id for n in found)


def test_the_map_leads_back_and_grows(table, key):
    found = {n.id: n.patient_id for n in nodules(table, key)}
    table.write_text(HEADER + "d,Poe,i,r,z\n")
    found |= {n.id: n.patient_id for n in nodules(table, key)}
    file = map_file(key)
    assert file.stat().st_mode & 0o777 == 0o600
    header, *rows = csv.reader(file.read_text().splitlines())
    assert header == ["nodule", "patient", "pseudonym of nodule", "pseudonym of patient"]
    assert {row[0] for row in rows} == {"Jane left upper", "b", "c", "d"}
    assert {row[2]: row[3] for row in rows} == found


def test_patients_are_chosen_by_either_name(table, key):
    (one,) = nodules(table, key, frozenset({"Roe"}))
    assert nodules(table, key, frozenset({one.patient_id})) == (one,)
    with pytest.raises(InputError, match="unknown patients: got Poe") as refused:
        nodules(table, key, frozenset({"Poe"}))
    assert "DOE" not in str(refused.value)


def test_a_map_that_cannot_be_written_is_refused(key, tmp_path):
    map_file(key).mkdir()
    with pytest.raises(InputError, match="cannot be used for pseudonyms"):
        add_to_map(key, open_pseudonyms(key), [("n", "p")])

"""What the catalogue reads of a case, and when it reads."""

import numpy as np
import pytest

from qc.review import catalogue
from qc.review.catalogue import MAX_AGE_S, Catalogue, describe
from storage.cases.case import read_case
from storage.cases.outcomes import write_outcome
from storage.layout import case_prefix
from storage.records import Outcome
from tests.reviewable import METHODS, TIED, add_nodule


def test_an_entry_describes_its_case(store):
    digest = add_nodule(store, "P-1-a1", seed=3, missing=("knn", "if+"))
    case = read_case(store, "P-1-a1", digest)
    entry = describe(case)
    readers = case.array("labels/readers/0") > 0
    union = readers.any(axis=0)
    core = readers.all(axis=0)
    spacing_z, spacing_y, spacing_x = case.grid.spacing_mm
    depth, height, width = np.ptp(np.argwhere(union), axis=0) + 1
    assert entry.extent_mm == pytest.approx(
        (width * spacing_x, height * spacing_y, depth * spacing_z)
    )
    assert entry.reader_disagreement == pytest.approx(1 - core.sum() / union.sum())
    assert 0 < entry.reader_disagreement < 1
    assert entry.matte_difference == pytest.approx((0.003 + 0.03) / 2)
    assert (entry.nodule_id, entry.patient, entry.digest) == ("P-1-a1", "P-1", digest)
    assert (entry.kind, entry.tied, entry.methods) == ("solid", (TIED,), METHODS)
    assert entry.missing == {"knn": "ok", "if+": "ok"}
    assert entry.metrics["lb"] == {"cross_entropy": pytest.approx(0.07), "mass_outside": 0.2}
    assert set(entry.metrics) == set(METHODS) - {"knn", "if+"}
    assert entry.form == "paper form"


def test_only_finished_nodules_with_a_readable_case_are_listed(store):
    add_nodule(store, "P-1-a1")
    digest = add_nodule(store, "P-2-a2", seed=2)
    write_outcome(store, Outcome("P-3-a3", "P-3", "refused", "scan", reason="no"))
    write_outcome(store, Outcome("P-4-a4", "P-4", "done", "write", digest="f" * 64))
    found = Catalogue(store)
    assert list(found.entries()) == ["P-1-a1", "P-2-a2"]
    assert found.current("P-2-a2").digest == digest
    for name in ("P-3-a3", "P-4-a4", "P-9-a9"):
        assert found.current(name) is None
    assert found.case("P-1-a1", digest) is None


def test_a_damaged_case_is_not_listed_and_hides_no_other(store):
    add_nodule(store, "P-1-a1")
    digest = add_nodule(store, "P-2-a2", seed=2)
    store.put(f"{case_prefix('P-2-a2', digest)}/zarr.json", b"{}")
    assert list(Catalogue(store).entries()) == ["P-1-a1"]


def test_a_list_may_be_as_old_as_asked_for_and_no_older(store, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(catalogue.time, "monotonic", lambda: clock[0])
    add_nodule(store, "P-1-a1")
    found = Catalogue(store)
    assert list(found.entries(max_age_s=MAX_AGE_S)) == ["P-1-a1"]
    add_nodule(store, "P-2-a2", seed=2)
    clock[0] += MAX_AGE_S - 0.1
    assert list(found.entries(max_age_s=MAX_AGE_S)) == ["P-1-a1"]
    clock[0] += 0.1
    assert list(found.entries(max_age_s=MAX_AGE_S)) == ["P-1-a1", "P-2-a2"]
    add_nodule(store, "P-3-a3", seed=3)
    assert list(found.entries()) == ["P-1-a1", "P-2-a2", "P-3-a3"]


def test_a_case_is_read_once(store, monkeypatch):
    digest = add_nodule(store, "P-1-a1")
    read = []

    def counted(*key):
        read.append(key[1:])
        return read_case(*key)

    monkeypatch.setattr(catalogue, "read_case", counted)
    found = Catalogue(store)
    found.entries()
    found.entries()
    found.current("P-1-a1")
    assert read == [("P-1-a1", digest)]
    assert found.unread == 0

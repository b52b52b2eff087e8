"""What classifiers learn from and how they score, as it is stored."""

import numpy as np
import pytest

from matting.errors import InputError
from storage.errors import CorruptionError
from storage.records import TableFacts
from storage.results.diagnoses import (
    NoduleScore,
    RatedNodule,
    diagnosis_id,
    diagnosis_prefix,
    find_rated_nodules,
    find_run_scores,
    read_cubes,
    reader_ratings,
    write_inputs,
    write_run_scores,
)
from tests.cases import case_facts, lidc_facts

PREFIX = diagnosis_prefix("0.1.0", "abc")
NODULES = (
    RatedNodule("n1", "P", 4.25, True, 1 / 3),
    RatedNodule("n2", 'Q, "the other"', 2.0, False, 12.0),
)
CUBES = np.linspace(0, 1, 2 * 27).reshape(2, 3, 3, 3).astype(np.float16)
SCORES = (NoduleScore("n1", 0, 0.1), NoduleScore("n2", 1, -1e-300))


def test_inputs_come_back_bit_by_bit(store):
    assert find_rated_nodules(store, PREFIX) is None
    write_inputs(store, PREFIX, NODULES, [("CF+", CUBES)])
    assert find_rated_nodules(store, PREFIX) == NODULES
    assert np.array_equal(read_cubes(store, PREFIX, "CF+"), CUBES)
    assert store.exists(f"{PREFIX}/inputs/cf-plus.npy")


def test_inputs_that_were_interrupted_are_not_there(store):
    def interrupted():
        yield "CF", CUBES
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_inputs(store, PREFIX, NODULES, interrupted())
    assert find_rated_nodules(store, PREFIX) is None


def test_scores_of_a_run_come_back_bit_by_bit(store):
    assert find_run_scores(store, PREFIX, "resnet34", "HU linear", 1) is None
    write_run_scores(store, PREFIX, "resnet34", "HU linear", 1, SCORES)
    assert find_run_scores(store, PREFIX, "resnet34", "HU linear", 1) == SCORES
    assert store.exists(f"{PREFIX}/resnet34/hu-linear-1.csv")


@pytest.mark.parametrize("bad", [b"", b"a,b\n1,2\n", b"nodule,fold,score\n", b"\xff\xfe"])
def test_damaged_tables_are_named(store, bad):
    write_inputs(store, PREFIX, NODULES, [])
    store.put(f"{PREFIX}/nodules.csv", bad)
    with pytest.raises(CorruptionError, match=r"nodules\.csv"):
        find_rated_nodules(store, PREFIX)
    store.put(f"{PREFIX}/resnet34/cf-1.csv", bad)
    with pytest.raises(CorruptionError, match=r"cf-1\.csv"):
        find_run_scores(store, PREFIX, "resnet34", "CF", 1)


@pytest.mark.parametrize("bad", [None, b"", b"\x93NUMPY"])
def test_damaged_cubes_are_named(store, bad):
    if bad is not None:
        store.put(f"{PREFIX}/inputs/cf.npy", bad)
    with pytest.raises(CorruptionError, match=r"cf\.npy is missing or damaged") as caught:
        read_cubes(store, PREFIX, "CF")
    assert caught.value.key == f"{PREFIX}/inputs/cf.npy"


@pytest.mark.parametrize(
    ("source", "ratings"),
    [
        (TableFacts({"malignancy": "5 5;5, 4"}), (5, 5, 5, 4)),
        (TableFacts({}), ()),
        (lidc_facts([{"malignancy": 1}, {"malignancy": 4}]), (1, 4)),
        (lidc_facts([{"malignancy": None}, {}]), ()),
    ],
)
def test_ratings_of_both_sources_are_read(source, ratings):
    assert reader_ratings(case_facts(source=source), "malignancy") == ratings


@pytest.mark.parametrize("cell", ["high", "0 2 3", "6"])
def test_values_that_are_no_ratings_are_refused(cell):
    with pytest.raises(InputError, match="invalid malignancy: got"):
        reader_ratings(case_facts(source=TableFacts({"malignancy": cell})), "malignancy")


def test_the_id_depends_on_the_content_alone():
    assert diagnosis_id({"a": 1, "b": 2}) == diagnosis_id({"b": 2, "a": 1})
    assert diagnosis_id({"a": 1, "b": 2}) != diagnosis_id({"a": 1, "b": 3})

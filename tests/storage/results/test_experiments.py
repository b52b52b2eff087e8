from dataclasses import replace

import pytest

from matting.errors import InputError
from storage.errors import CorruptionError, NotFoundError
from storage.records import Cost
from storage.results.experiments import (
    Averages,
    experiment_prefix,
    find_cost,
    read_costs,
    read_facts,
    read_table,
    table_key,
    write_cost,
    write_facts,
    write_report,
    write_table,
)
from tests.cases import experiment_facts

ROW = Averages("cf", "released", "whole", "0 1", "3 4", 1.5, 0.5, 0.1, None, 2.0, None, 3.0, None)
COST = Cost(
    "3dmm-mg",
    "told",
    32_577,
    5_505_000_000,
    1.25,
    100.0,
    "16x32x32",
    0.1,
    7,
    "a CPU, 1 thread",
    "2",
)
OLD_TABLE = (
    b"variant,auxiliary,parameters,multiply_adds,latency_s,peak_mb,crop_zyx,crop_latency_s,passes,"
    b"device,torch,load\n"
    b'3dmm-mg,True,32577,5505000000,1.25,100.0,16x32x32,0.1,7,"a CPU, 1 thread",2,\n'
    b'3dmm-mg,False,32577,5505000000,1.25,100.0,16x32x32,0.1,7,"a CPU, 1 thread",2,\n'
)


def test_tables_and_costs_come_back(store):
    write_table(store, "0.1.0", "paper", 1, [ROW])
    loaded = replace(COST, load=1.5)
    write_table(store, "0.1.0", "paper", 3, [COST, loaded])
    assert read_table(store, "0.1.0", "paper", 1) == [ROW]
    assert read_costs(store, "0.1.0", "paper") == [COST, loaded]
    with pytest.raises(NotFoundError):
        read_table(store, "0.1.0", "reduced", 1)


def test_costs_of_earlier_versions_say_whether_there_are_masks(store):
    store.put(table_key("0.1.0", "paper", 3), OLD_TABLE)
    assert read_costs(store, "0.1.0", "paper") == [COST, replace(COST, auxiliary="none")]
    write_cost(store, "0.1.0", "abc", COST)
    assert b'"auxiliary":true' in store.get("experiments/0.1.0/costs/abc.json").replace(b" ", b"")
    assert find_cost(store, "0.1.0", "abc") == COST


def test_a_cost_is_kept_and_another_file_is_damage(store):
    assert find_cost(store, "0.1.0", "abc") is None
    write_cost(store, "0.1.0", "abc", COST)
    assert find_cost(store, "0.1.0", "abc") == COST
    store.put("experiments/0.1.0/costs/abc.json", b'{"seconds": 1}')
    with pytest.raises(CorruptionError, match="is not the cost of a network"):
        find_cost(store, "0.1.0", "abc")


def test_facts_and_the_report_are_stored_below_the_recipe(store):
    facts = experiment_facts()
    write_facts(store, "0.1.0", "paper", facts)
    assert read_facts(store, "0.1.0", "paper") == facts
    place = write_report(store, "0.1.0", "paper", {"report.html": b"x", "tables/table-1.csv": b"y"})
    assert place == f"{store.url}/experiments/0.1.0/paper/report"
    assert store.get("experiments/0.1.0/paper/report/tables/table-1.csv") == b"y"


@pytest.mark.parametrize("name", ["../up", "", "costs", "diagnosis", "a b"])
def test_a_name_that_cannot_be_a_folder_is_refused(name):
    with pytest.raises(InputError, match="stored under the recipe's name"):
        experiment_prefix("0.1.0", name)

"""Garbage collection in a loop beside whatever writes to the same store."""

import os
import threading
import time
from datetime import timedelta

import pytest

from flows.curate import curate_nodule
from storage.cases.case import read_case_files, verify_files
from storage.cases.outcomes import read_outcomes
from storage.errors import StoreError
from storage.maintenance.gc import find_garbage, remove_garbage
from storage.recipe import load_recipe
from storage.records import Outcome, encode
from storage.sources.registry import SourceSpec
from tasks.curation.context import CurationJob
from tasks.curation.inventory import take_inventory
from tests.faults.harness import suffer
from tests.faults.services import wait_until
from tests.faults.test_faults import nothing_is_lost, seeds, setting

__all__ = ["setting"]

NO_GRACE = timedelta()
"""The most that anybody can ask for."""


class Collector:
    """Collects garbage over and over, on a thread."""

    def __init__(self, store, grace):
        self.store, self.grace = store, grace
        self.rounds, self.removed, self.errors = 0, 0, []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()

    def _work(self):
        while not self._ended.is_set():
            try:
                removed = remove_garbage(
                    self.store, find_garbage(self.store, self.grace), self.grace
                )
            except StoreError as error:
                self.errors.append(error)
                continue
            self.rounds += 1
            self.removed += len(removed.orphans) + len(removed.unfinished)


def leave_old_cases(store, undisturbed, nodules):
    """Store finished cases that nothing refers to and that the run will find and use again."""
    past = time.time() - 2 * 86_400
    for key, data in undisturbed.items():
        nodule = key.split("/")[1]
        if nodule in nodules:
            store.put(key, data)
            os.utime(f"{store.url}/{key}", (past, past))
            failed = Outcome(nodule, f"P-{nodule}", "failed", "solve", "MemoryError")
            store.put(f"outcomes/{nodule}.json", encode(failed))


@seeds(quick=0, runs=20)
def test_garbage_is_collected_without_grace_beside_a_run(seed, setting, dask, reports):
    store = setting.store()
    leave_old_cases(store, setting.scene.undisturbed, {"n1", "n3", "n5", "n7"})
    collectors = []

    def strike(first, dice):
        wait_until(lambda: "run begins" in first.log.read_text(), "the run")
        time.sleep(dice.uniform(0, 1))
        with Collector(store, NO_GRACE) as collector:
            assert first.process.wait(timeout=600) == 0
        collectors.append(collector)
        return 0

    dask.fill_up()
    setting.where = ("--scheduler", dask.address)
    report = suffer("garbage collection beside it", seed, setting, strike, moment=False)
    nothing_is_lost(report, reports)
    assert report.second_computed == 0
    assert (collectors[0].errors, collectors[0].removed) == ([], 0)
    print(f"{collectors[0].rounds} rounds")


GRACE_S = 1.0
"""Longer than the writing of one small case."""


@pytest.mark.parametrize("seconds", [4, pytest.param(60, marks=pytest.mark.slow)])
def test_workers_without_a_run_keep_what_they_find_again(seconds, scene, store):
    """Two recipes by turns: the cases of the one are garbage until the other's turn is over."""
    recipe = load_recipe(scene.recipe)
    narrow = load_recipe(None, trimap={"dilation_mm": 1.0}).trimap
    source = SourceSpec("files", str(scene.table))
    jobs = [
        CurationJob(source, store.url, one)
        for one in (recipe, recipe.model_copy(update={"trimap": narrow}))
    ]
    nodules = take_inventory(jobs[0], None).nodules[:3]
    turns = again = 0
    until = time.monotonic() + seconds
    with Collector(store, timedelta(seconds=GRACE_S)) as collector:
        while time.monotonic() < until:
            for nodule in nodules:
                outcome = curate_nodule(nodule, jobs[turns % 2])
                while outcome.state != "done":
                    assert "was removed while its outcome was written" in outcome.reason
                    again += 1
                    outcome = curate_nodule(nodule, jobs[turns % 2])
            turns += 1
            for one in read_outcomes(store):
                files = read_case_files(store, one.nodule_id, one.digest)
                assert verify_files(store, files) == []
    print(f"{turns} turns, {collector.rounds} rounds, {collector.removed} removed, {again} again")
    assert collector.errors == []
    assert {outcome.state for outcome in read_outcomes(store)} == {"done"}

"""A source that is unmounted before, during and after a run."""

import shutil
import time
from dataclasses import replace

import pytest

from flows.curate import curate_nodule
from storage.cases.outcomes import read_outcomes
from storage.recipe import load_recipe
from storage.sources.registry import SourceSpec
from tasks.curation.context import CurationJob
from tasks.curation.inventory import take_inventory
from tests.faults.harness import running, suffer
from tests.faults.test_faults import nothing_is_lost, seeds, setting

__all__ = ["setting"]


@pytest.fixture
def share(setting, tmp_path):
    """A folder of scans that only this test uses, and the setting that reads it."""
    folder = tmp_path / "share"
    shutil.copytree(setting.scene.table.parent, folder)
    setting.scene = replace(setting.scene, table=folder / setting.scene.table.name)
    return folder


@seeds(quick=0)
def test_the_source_is_unmounted_during_a_run_and_comes_back(seed, setting, share, dask, reports):
    away = share.with_name("away")

    def strike(first, dice):
        share.rename(away)
        if dice.random() < 0.5:
            share.mkdir()  # what an unmounted share leaves behind
        first.process.wait(timeout=600)
        shutil.rmtree(share, ignore_errors=True)
        away.rename(share)
        states = {outcome.state for outcome in read_outcomes(setting.store())}
        assert states <= {"done"}, first.log.read_text()
        return 0

    dask.fill_up()
    setting.where = ("--scheduler", dask.address)
    nothing_is_lost(suffer("source unmounted during a run", seed, setting, strike), reports)


@pytest.mark.slow
def test_a_night_with_the_source_unmounted_changes_nothing(setting, share, dask):
    store = setting.store()
    scene = setting.scene
    source = SourceSpec("files", str(scene.table))
    job = CurationJob(source, store.url, load_recipe(scene.recipe))
    for nodule in take_inventory(job, None).nodules:
        assert curate_nodule(nodule, job).state == "done"
    before = {key: store.get(key) for key in store.list_prefix("")}
    dask.fill_up()
    setting.where = ("--scheduler", dask.address)
    share.rename(share.with_name("away"))
    with running(setting) as night:
        assert night.process.wait(timeout=600) == 1
        words = " ".join(night.log.read_text().split())
    assert "the source is not reachable" in words
    assert "what is stored was not touched" in words
    assert {key: store.get(key) for key in store.list_prefix("")} == before
    share.with_name("away").rename(share)
    begin = time.monotonic()
    with running(setting) as morning:
        assert morning.process.wait(timeout=600) == 0
        assert morning.computed() == set()
    print(f"the morning after: {time.monotonic() - begin:.1f} s")

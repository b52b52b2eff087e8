"""A source that is unmounted before, during and after a run."""

import random
import shutil
import time
from dataclasses import replace

import pytest

from storage.cases.outcomes import read_outcomes
from tests.faults.harness import Report, suffer, written
from tests.faults.test_faults import nothing_is_lost, seeds, setting
from tests.flows.conftest import environment, halosign

__all__ = ["environment", "halosign", "setting"]


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


def stored(setting):
    """Return every file of the store."""
    store = setting.store()
    return {key: store.get(key) for key in store.list_prefix("")}


def store_some(setting, dice):
    """Store finished cases of some of the nodules."""
    store, undisturbed = setting.store(), setting.scene.undisturbed
    nodules = sorted({key.split("/")[1] for key in undisturbed})
    chosen = dice.sample(nodules, dice.randrange(len(nodules)))
    for key, data in undisturbed.items():
        if key.split("/")[1] in chosen:
            store.put(key, data)


@seeds(quick=0)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_run_while_the_source_is_unmounted_changes_nothing(
    moment, seed, setting, share, dask, halosign, reports
):
    dice = random.Random(seed)
    dask.fill_up()
    setting.where = ("--scheduler", dask.address)
    if moment == "before":
        store_some(setting, dice)
    else:
        assert halosign(*setting.arguments()).returncode == 0
    before, times = stored(setting), written(setting.store())
    away = share.with_name("away")
    share.rename(away)
    if dice.random() < 0.5:
        share.mkdir()  # what an unmounted share leaves behind
    night = halosign(*setting.arguments())
    words = " ".join((night.stdout + night.stderr).split())
    assert night.returncode == 1
    assert "the source is not reachable" in words
    assert "what is stored was not touched" in words
    assert "Traceback" not in words
    assert stored(setting) == before
    shutil.rmtree(share, ignore_errors=True)
    away.rename(share)
    begin = time.monotonic()
    morning = halosign(*setting.arguments())
    assert morning.returncode == 0, morning.stderr
    after, now = stored(setting), written(setting.store())
    wanted = setting.scene.undisturbed
    report = Report(
        f"source unmounted {moment} a run",
        seed,
        len({key.split("/")[1] for key in times}),
        night.returncode,
        lost=len({key.split("/")[1] for key in wanted if after.get(key) != wanted[key]}),
        recomputed=len({key.split("/")[1] for key in times if now.get(key) != times[key]}),
        recovery_s=round(time.monotonic() - begin, 1),
        second_computed=len({key.split("/")[1] for key in now.keys() - times.keys()}),
    )
    nothing_is_lost(report, reports)

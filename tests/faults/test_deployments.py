"""Faults of the services that runs of a deployment need, in a cluster that restarts what ended.

A run is never begun again by hand: it has to end by itself, with every case as in a run without
faults and none computed twice.
"""

import random
import time

import pytest
from prefect import get_client
from prefect.deployments import run_deployment

from storage.store import open_store
from tests.cluster.running import Running, a_folder, needs_postgresql, wait_for
from tests.complaints import complaints_about
from tests.faults.engine import Engine
from tests.faults.harness import DeploymentReport, make_scene, marks, written
from tests.faults.test_faults import seeds

pytestmark = needs_postgresql

NODULES = 20
"""So many that some are left when those in hand have finished."""
RESTARTED = ("scheduler", "worker", "worker-1", "cpu", "prefect")
LONGEST_PAUSE_S = 20.0
"""Between the stop of a service and its start, by an operator who looks at something."""


def stop_and_start(engine, pause_s):
    engine.stop("cpu")
    time.sleep(pause_s)
    engine.start("cpu")


def kill(engine, name):
    assert engine.kill(name), f"{name} was running"


def kill_with_its_server(engine):
    """Strike as the reboot of a machine does: the server has forgotten what it had in memory."""
    kill(engine, "prefect")
    kill(engine, "cpu")
    with get_client(sync_client=True) as client:
        wait_for(lambda: client.api_healthcheck() is None, "the server to be back", every_s=0.2)


STRIKES = {
    "scheduler restarted": lambda engine, _: kill(engine, "scheduler"),
    "cpu killed": lambda engine, _: kill(engine, "cpu"),
    "cpu and prefect killed": lambda engine, _: kill_with_its_server(engine),
    "cpu stopped, later started": lambda engine, dice: stop_and_start(
        engine, dice.uniform(0, LONGEST_PAUSE_S)
    ),
    "cpu upgraded": lambda engine, _: stop_and_start(engine, 0),
}


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return make_scene(tmp_path_factory.mktemp("deployments"), NODULES)


@pytest.fixture(scope="module")
def running(scene):
    with a_folder() as folder:
        it = Running(folder, ("worker", "cpu"), HALOSIGN_DICOM="unused")
        it.up()
        with it.as_client():
            yield it


@pytest.fixture(scope="module")
def engine(running):
    found = Engine(running.cluster, RESTARTED)
    with found.restarting():
        yield found


def begin(scene, store):
    parameters = {
        "store": store.url,
        "dicom": None,
        "files": str(scene.table),
        "recipe": str(scene.recipe),
    }
    return run_deployment("curate/nightly", parameters=parameters, timeout=0).id


@pytest.mark.slow
@seeds(quick=0)
@pytest.mark.parametrize("fault", STRIKES)
def test_a_run_of_a_deployment_ends_by_itself(fault, seed, scene, running, engine, reports):
    dice = random.Random(seed)
    goal, delay_s = dice.randrange(1, scene.nodules // 2 + 1), dice.uniform(0, 0.5)
    url = f"s3://halosign/{fault.replace(' ', '-').replace(',', '')}-{seed}"
    store = open_store(url, create=True)
    run = begin(scene, store)
    wait_for(lambda: len(marks(store)) >= goal, f"{goal} nodules", every_s=0.1)
    time.sleep(delay_s)
    before = written(store)
    STRIKES[fault](engine, dice)
    over = time.monotonic()
    next_nodule_s = seconds_to_next_nodule(run, store, over)
    ended = running.finished(run)
    after = written(store)
    struck = {key.split("/")[1] for key in before if key.endswith(".done")}
    found = {key: store.get(key) for key in store.list_prefix("cases")}
    report = DeploymentReport(
        deployment="curate/nightly",
        fault=fault,
        seed=seed,
        stored_when_struck=len(struck),
        ending=ended.state.name,
        starts=ended.run_count,
        lost=len(differing(found, scene.undisturbed)),
        recomputed=len(differing(after, before) & struck),
        next_nodule_s=next_nodule_s,
    )
    reports.append(report)
    print(report)
    assert report.ending == "Completed"
    assert report.lost == report.recomputed == 0
    assert set(found) == set(scene.undisturbed)
    assert not complaints_about(store)


def differing(found, wanted):
    """Return the nodules of which a file is not as wanted."""
    return {key.split("/")[1] for key in wanted if found.get(key) != wanted[key]}


def seconds_to_next_nodule(run_id, store, since):
    """Return how long it takes until a nodule is stored that the run did after it began again.

    What was in hand when the fault struck is not counted. None where the run ended before that.
    """
    stored = len(marks(store))
    with get_client(sync_client=True) as client:

        def begun_again():
            nonlocal stored
            run = client.read_flow_run(run_id)
            if run.run_count > 1 or run.state.is_completed():
                return run
            stored = len(marks(store))
            return None

        wait_for(begun_again, "the run to begin again", every_s=0.2)
        done = wait_for(
            lambda: (
                (len(marks(store)) > stored and "next")
                or (client.read_flow_run(run_id).state.is_completed() and "none left")
            ),
            "the next nodule",
            every_s=0.1,
        )
    if done == "none left":
        return None
    return round(time.monotonic() - since, 1)

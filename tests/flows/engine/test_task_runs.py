"""Nodules as task runs in Prefect: names, states, retries, and what is left on the server."""

import time
from functools import partial

import pytest
from prefect import flow, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.context import FlowRunContext
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_LOGGING_LEVEL,
    PREFECT_LOGGING_TO_API_ENABLED,
    temporary_settings,
)

from flows.engine.cluster import Cluster
from flows.engine.progress import ProgressTracker
from flows.engine.run_log import recorded_run
from flows.engine.task_runs import run_nodules
from storage.cases.outcomes import find_outcome
from storage.recipe import load_recipe
from storage.sources.base import Nodule
from storage.sources.registry import SourceSpec
from storage.store import open_store
from tasks.curation.context import CurationJob
from tasks.curation.plan import Plan
from tests.flows.stubs import mixed_stub, stop_at_two

NODULES = tuple(Nodule(f"n{n:02}", f"P{n}", {}) for n in range(12))
NO_PLAN = Plan((), (), 0.0, 0.0, "custom parameters", 0)


@flow(name="stubs")
def run_stubs(function, job, cluster, nodules=NODULES):
    progress = ProgressTracker(len(nodules), 0.5)
    with recorded_run(job, NO_PLAN, progress), progress:
        run_nodules(function, nodules, job, cluster, progress)
    return progress, FlowRunContext.get().flow_run.id


@pytest.fixture
def api(environment):
    url = environment["PREFECT_API_URL"]
    with temporary_settings({PREFECT_API_URL: url, PREFECT_LOGGING_LEVEL: "CRITICAL"}):
        yield


def job_of(store, **run):
    recipe = load_recipe(run={"retry_delay_s": 0.1, **run})
    return CurationJob(SourceSpec("files", "none.csv"), store.url, recipe)


def task_runs_of(flow_run_id, expected):
    """Read the task runs of a flow run by name; the server records them from events, later."""
    of_it = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
    with get_client(sync_client=True) as client:
        for _ in range(100):
            found = client.read_task_runs(flow_run_filter=of_it, limit=200)
            if len(found) >= expected and all(run.state.is_final() for run in found):
                break
            time.sleep(0.1)
    return found


@pytest.fixture(scope="module")
def mixed(environment, scheduler, tmp_path_factory):
    store = open_store(str(tmp_path_factory.mktemp("mixed") / "store"), create=True)
    settings = {
        PREFECT_API_URL: environment["PREFECT_API_URL"],
        PREFECT_LOGGING_TO_API_ENABLED: True,
    }
    with temporary_settings(settings):
        progress, flow_run_id = run_stubs(mixed_stub, job_of(store), Cluster(scheduler))
        runs = task_runs_of(flow_run_id, 13)
        with get_client(sync_client=True) as client:
            body = {"flow_runs": {"id": {"any_": [str(flow_run_id)]}}}
            artifacts = client.request("POST", "/artifacts/filter", json=body).json()
            logs = lines_of(client, flow_run_id)
    return progress, runs, {artifact["key"]: artifact for artifact in artifacts}, logs


def lines_of(client, flow_run_id):
    """Read the log of a flow run, which arrives later."""
    of_it = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run_id]))
    for _ in range(100):
        lines = [log.message for log in client.read_logs(of_it, limit=200)]
        if sum(": was stored already" in line for line in lines) == 10:
            break
        time.sleep(0.1)
    return lines


def test_each_nodule_is_a_task_run_with_its_state_and_retries(mixed):
    _, runs, _, _ = mixed
    first = {run.name: run for run in sorted(runs, key=lambda run: run.start_time, reverse=True)}
    assert set(first) == {nodule.id for nodule in NODULES}
    states = {name: (run.state.name, run.state.is_failed()) for name, run in first.items()}
    assert states["n03"] == ("Refused", True)
    assert first["n03"].state.message == "trimap: the readers share no voxel"
    assert (states["n05"], first["n05"].run_count) == (("Completed", False), 2)
    assert states["n07"] == ("WorkerDied", True)
    assert all(states[name] == ("Completed", False) for name in ("n00", "n04", "n06", "n11"))
    assert all(run.total_run_time.total_seconds() > 0 for run in runs)


def test_a_nodule_that_killed_its_worker_has_a_second_task_run_alone(mixed):
    progress, runs, _, _ = mixed
    deaths = [run for run in runs if run.name == "n07"]
    assert len(deaths) == 2
    others = max(run.end_time for run in runs if run.name not in {"n07"} and run.run_count == 1)
    assert max(run.start_time for run in deaths) >= min(others, min(r.end_time for r in deaths))
    assert "possibly out of memory" in progress.outcomes["n07"].reason
    assert [o.nodule_id for o in progress.latest() if o.state == "failed"] == ["n07"]


def test_the_artifacts_show_the_run(mixed):
    _, _, artifacts, _ = mixed
    assert set(artifacts) == {"progress", "nodules", "curation", "store"}
    assert float(artifacts["progress"]["data"]) == 100.0
    assert (
        "12 of 12 nodules: 0 computed, 10 up to date, 1 invalid input, 1 failed"
        in (artifacts["curation"]["data"])
    )
    assert "the readers share no voxel" in artifacts["nodules"]["data"]


def test_a_refusal_a_retry_and_a_death_are_lines_in_the_log_of_the_flow_run(mixed):
    lines = mixed[3]
    assert "n03: invalid input at trimap: the readers share no voxel" in lines
    assert "n05: failed at write: 503; it will be tried again" in lines
    assert "n07 runs again, alone: its worker died" in lines
    assert sum(line.startswith("n07: failed at worker: KilledWorker") for line in lines) == 2


def test_above_the_limit_nodules_are_grouped_into_batches(api, scheduler, store):
    job = job_of(store, nodules_as_tasks=4, nodules_per_task=5)
    calm = tuple(nodule for nodule in NODULES if nodule.id != "n07")
    progress, flow_run_id = run_stubs(mixed_stub, job, Cluster(scheduler), calm)
    runs = task_runs_of(flow_run_id, 3)
    assert sorted(run.name for run in runs) == ["n00 to n04", "n05 to n10", "n11"]
    assert {name: outcome.state for name, outcome in progress.outcomes.items()} == {
        **{nodule.id: "done" for nodule in calm},
        "n03": "refused",
    }


def test_a_retry_of_the_flow_run_runs_what_is_missing_in_new_task_runs(api, scheduler, store):
    """Prefect keeps the task runs of the first try; none of their states is taken for a result."""
    tries = []

    @flow(name="twice", retries=1)
    def twice():
        job = job_of(store)
        missing = tuple(n for n in NODULES[:4] if find_outcome(store, n.id) is None)
        tries.append([nodule.id for nodule in missing])
        progress = ProgressTracker(4, 0.5)
        with progress:
            run_nodules(
                partial(stop_at_two, len(tries)), missing, job, Cluster(scheduler), progress
            )
        if len(tries) == 1:
            raise RuntimeError("the first try ends here")
        return FlowRunContext.get().flow_run.id, dict(progress.outcomes)

    flow_run_id, outcomes = twice()
    assert tries == [["n00", "n01", "n02", "n03"], ["n02", "n03"]]
    assert {name: outcome.state for name, outcome in outcomes.items()} == {
        "n02": "done",
        "n03": "done",
    }
    assert len(task_runs_of(flow_run_id, 6)) == 6

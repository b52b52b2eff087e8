"""Crashed runs of deployments: which of them a worker has begin again."""

import pytest
from prefect import flow, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelled, Completed, Crashed, Failed, Pending, Running, Scheduled

from flows.crashed_runs import RESUMES, begin_crashed_runs_again

POOL, OTHER_POOL = "pool", "other-pool"
CASES = {
    "crashed": (POOL, [RESUMES], Crashed, "AwaitingRetry"),
    "crashed, with more tags": (POOL, ["follows-release", RESUMES], Crashed, "AwaitingRetry"),
    "crashed, does not resume": (POOL, ["follows-release"], Crashed, "Crashed"),
    "crashed, of another pool": (OTHER_POOL, [RESUMES], Crashed, "Crashed"),
    "failed": (POOL, [RESUMES], Failed, "Failed"),
    "cancelled": (POOL, [RESUMES], Cancelled, "Cancelled"),
    "completed": (POOL, [RESUMES], Completed, "Completed"),
    "running": (POOL, [RESUMES], Running, "Running"),
    "pending": (POOL, [RESUMES], Pending, "Pending"),
    "scheduled": (POOL, [RESUMES], Scheduled, "Scheduled"),
}


@flow(name="of-a-deployment")
def nothing():
    """Is never run: its runs are given their states."""


@pytest.fixture(scope="module")
def client(environment):
    with (
        temporary_settings({PREFECT_API_URL: environment["PREFECT_API_URL"]}),
        get_client(sync_client=True) as client,
    ):
        for pool in (POOL, OTHER_POOL):
            client.create_work_pool(WorkPoolCreate(name=pool, type="process"))
        yield client


@pytest.fixture
def begin(client):
    """Begins a run and brings it into a state."""

    def begin(name, pool, tags, state):
        deployment = client.create_deployment(
            client.create_flow(nothing), name, work_pool_name=pool, tags=tags
        )
        run = client.create_flow_run_from_deployment(deployment)
        client.set_flow_run_state(run.id, state(), force=True)
        return run.id

    return begin


@pytest.mark.parametrize("name", CASES)
def test_only_crashed_runs_that_resume_begin_again_and_on_their_own_pool(name, client, begin):
    pool, tags, state, wanted = CASES[name]
    run = begin(name, pool, tags, state)
    for _ in range(2):  # two workers of a pool look
        begin_crashed_runs_again(client, POOL)
        assert client.read_flow_run(run).state.name == wanted


def test_a_run_begins_again_after_each_crash(client, begin):
    run = begin("twice", POOL, [RESUMES], Crashed)
    for _ in range(2):
        begin_crashed_runs_again(client, POOL)
        assert client.read_flow_run(run).state.name == "AwaitingRetry"
        for state in (Pending, Running, Crashed):
            client.set_flow_run_state(run, state(), force=True)


def test_a_crashed_run_that_somebody_cancels_is_left_so(client, begin):
    run = begin("cancelled meanwhile", POOL, [RESUMES], Crashed)
    client.set_flow_run_state(run, Cancelled())
    begin_crashed_runs_again(client, POOL)
    assert client.read_flow_run(run).state.name == "Cancelled"

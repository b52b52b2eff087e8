"""The services of docker-compose.yml as local processes, and the runs that they schedule."""

import os
import re
import subprocess
import sys
import time
from itertools import pairwise

import httpx
import psutil
import pytest
from prefect import get_client
from prefect.deployments import run_deployment
from typer.testing import CliRunner

from flows.automations import SILENCE_S
from flows.publish import FOLLOWS_RELEASE
from matting.errors import InputError
from storage.cases.outcomes import read_outcomes
from storage.sources.synthetic import write_synthetic
from storage.store import open_store
from tasks.auto_select import pick_automatically
from tests.cluster.local_cluster import ROOT, LocalCluster, app
from tests.cluster.running import Running, a_folder, call, needs_postgresql, wait_for

STORE = "s3://halosign/store"
AGAIN_S = SILENCE_S + 75
"""Until a run begins again once its services are up: the server looks for silent runs, the worker
for runs, and the process of the run starts."""

pytestmark = needs_postgresql


@pytest.mark.slow
def test_services_come_up_well_stay_up_come_again_and_leave_nothing(tmp_path):
    def up(folder):
        call(folder, "up", "postgres", "worker", HALOSIGN_DICOM=str(tmp_path))
        return LocalCluster(folder)

    with a_folder() as folder:
        first = up(folder)
        names = ("postgres", "objects", "scheduler", "worker", "worker-1")
        found = {name: first.running(name) for name in names}
        everyone = [
            *found.values(),
            *(child for one in found.values() for child in one.children(recursive=True)),
        ]
        where = {name: process.ports for name, (process, *_) in first.members.items()}
        address = f"tcp://127.0.0.1:{where['scheduler']['8786']}"
        script = f"from distributed import Client; print(len(Client('{address}').nthreads()))"
        assert call(folder, "exec", "worker", "python", "-c", script) == "2\n"
        assert "0 done" in call(folder, "exec", "worker", "halosign", "status", "--store", STORE)

        found["objects"].kill()
        again = up(folder)
        assert {name for name in names if again.running(name) != found[name]} == {"objects"}
        assert {name: process.ports for name, (process, *_) in again.members.items()} == where
        assert "0 done" in call(folder, "exec", "worker", "halosign", "status", "--store", STORE)
    assert not [
        process
        for process in everyone
        if process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    ]


@pytest.mark.slow
def test_the_review_page_runs_beside_the_store_once_a_reviewer_has_a_token(tmp_path):
    settings = {"HALOSIGN_DICOM": str(tmp_path), "COMPOSE_PROFILES": "review"}
    with a_folder() as folder:
        tokens = folder / "volumes" / "reviewers" / "tokens"
        tokens.parent.mkdir(parents=True)
        token = [
            sys.executable,
            "-m",
            "flows.cli",
            "review",
            "token",
            "ann",
            "--tokens",
            str(tokens),
        ]
        subprocess.run(
            token,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            cwd=ROOT,
            check=True,
            capture_output=True,
        )
        call(folder, "up", "review", **settings)
        port = LocalCluster(folder).members["review"][0].ports["8080"]
        assert httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False).status_code == 200
        assert (
            httpx.get(f"http://127.0.0.1:{port}/", trust_env=False)
            .headers["location"]
            .startswith("/sign-in")
        )


def test_a_command_for_a_service_that_does_not_run_is_refused(tmp_path):
    result = CliRunner().invoke(app, ["exec", "--folder", str(tmp_path), "review", "true"])
    assert isinstance(result.exception, InputError)
    assert "up review" in str(result.exception)


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A cluster with a curation every minute."""
    dicom = tmp_path_factory.mktemp("scans")
    list(write_synthetic(dicom, ("LIDC-IDRI-0078",), seed=1))
    with a_folder() as folder:
        it = Running(
            folder,
            ("worker", "cpu", "gpu"),
            COMPOSE_PROFILES="gpu",
            HALOSIGN_DICOM=str(dicom),
            HALOSIGN_RECIPE="demo",
            HALOSIGN_NIGHTLY="* * * * *",
        )
        it.up()
        with it.as_client():
            yield it


@pytest.fixture(scope="module")
def after_the_nightly(running):
    """The first run that the schedule began by itself; then the schedule rests."""
    begun = wait_for(
        lambda: [run for run in running.runs("curate") if run.auto_scheduled], "a run by schedule"
    )
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name("curate/nightly")
        client.update_deployment_schedule(deployment.id, deployment.schedules[0].id, active=False)
    return running.finished(begun[0].id)


@pytest.mark.slow
def test_the_nightly_run_begins_by_its_schedule_and_fills_the_store(running, after_the_nightly):
    assert after_the_nightly.state.name == "Completed"
    assert after_the_nightly.work_pool_name == "cpu"
    outcomes = list(read_outcomes(open_store(STORE)))
    assert [outcome.state for outcome in outcomes].count("done") == 3


@pytest.mark.slow
def test_two_runs_by_hand_wait_for_each_other_and_compute_nothing_twice(running, after_the_nightly):
    two = [
        run_deployment("curate/nightly", parameters={"store": "s3://halosign/two"}, timeout=0)
        for _ in range(2)
    ]
    ended = [running.finished(run.id) for run in two]
    assert [run.state.name for run in ended] == ["Completed"] * 2
    spans = sorted((run.start_time, run.end_time) for run in ended)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    log = running.cluster.log("objects").read_text()
    assert len(re.findall(r'"PUT /halosign/two/cases/\S+\.done ', log)) == 3


@pytest.mark.slow
def test_publishing_queues_gpu_work_without_waiting_and_a_gpu_worker_picks_it_up(
    running, after_the_nightly
):
    deploy = (
        "prefect",
        "--no-prompt",
        "deploy",
        "flows.deployments.verify",
        "--name",
        "on-gpu",
        "--pool",
        "gpu",
    )
    call(running.folder, "exec", "deployments", *deploy, "--tag", FOLLOWS_RELEASE)
    running.cluster.stop("gpu")
    pick_automatically(open_store(STORE))
    published = run_deployment("publish/by-hand", parameters={"version": "1.0.0"}, timeout=0)
    assert running.finished(published.id).state.is_completed()
    (queued,) = [run for run in running.runs("verify") if run.work_pool_name == "gpu"]
    assert queued.state.is_scheduled()
    running.up()
    ended = running.finished(queued.id)
    assert ended.state.is_completed()
    assert str(queued.id) in running.cluster.log("gpu").read_text()
    (other,) = [run for run in running.runs("verify") if run.work_pool_name == "cpu"]
    assert running.finished(other.id).state.is_completed()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_run_whose_container_is_gone_begins_again_by_itself(how, running, after_the_nightly):
    """Its workers are stopped meanwhile, so that it waits; then they come back with it."""
    for name in ("worker", "worker-1"):
        running.cluster.stop(name)
    store = f"s3://halosign/{how}"
    run = run_deployment("curate/nightly", parameters={"store": store}, timeout=0)
    with get_client(sync_client=True) as client:
        wait_for(lambda: client.read_flow_run(run.id).state.is_running(), "the run to begin")
        wait_for(lambda: _says(running, "run begins", store), "the run to reach its nodules")
        if how == "killed":
            cpu = running.cluster.running("cpu")
            for process in (cpu, *cpu.children(recursive=True)):
                process.kill()
        else:
            running.cluster.stop("cpu")
        struck = time.monotonic()
        running.up()
        is_up = time.monotonic()
        wait_for(lambda: client.read_flow_run(run.id).run_count > 1, "the run to begin again")
        print(f"{how}: up after {is_up - struck:.0f} s", end=", ")
        print(f"began again after {time.monotonic() - struck:.0f} s")
        # Silence counts from the last heartbeat; what starts services may take any time.
        assert time.monotonic() - is_up < AGAIN_S
    ended = running.finished(run.id)
    assert ended.state.name == "Completed"
    assert [outcome.state for outcome in read_outcomes(open_store(store))].count("done") == 3


def _says(running, event, store):
    lines = running.cluster.log("cpu").read_text().splitlines()
    return any(f'"{event}"' in line and store in line for line in lines)


@pytest.mark.slow
def test_what_was_stored_outlives_a_stop_of_everything(running, after_the_nightly):
    before = [run.id for run in running.runs("curate")]
    call(running.folder, "down", HALOSIGN_DICOM="unused")
    assert not any(
        running.cluster.running(name) for name in ("postgres", "prefect", "objects", "cpu")
    )
    running.up()
    assert [run.id for run in running.runs("curate")][: len(before)] == before
    assert [outcome.state for outcome in read_outcomes(open_store(STORE))].count("done") == 3

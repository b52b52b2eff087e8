"""Curation by the command line: what it stores, and what happens when it is interrupted."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import httpx
import pytest
from prefect import get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.client.schemas.sorting import FlowRunSort

import flows.curate
from flows.curate import curate
from flows.engine.cluster import Cluster
from flows.engine.errors import FailureBudgetExceeded
from flows.engine.progress import ProgressTracker
from storage.cases.outcomes import find_outcome, read_outcomes
from storage.cases.runs import find_last_run
from storage.layout import REPORT
from storage.recipe import load_recipe
from storage.records import Outcome
from storage.sources.registry import SourceSpec
from storage.store import open_store
from tasks.curation.context import CurationJob

WELL = [f"n{n}" for n in range(1, 7)]


def contents(store):
    return {key: store.get(key) for key in store.list_prefix("cases")}


def marks(store):
    """When each case was marked done, by nodule: a mark that was written again has another time."""
    return {
        key: os.stat(f"{store.url}/{key}").st_mtime_ns
        for key in store.list_prefix("cases")
        if key.endswith(".done")
    }


def test_a_run_stores_what_is_well_and_names_what_is_not(undisturbed):
    done, store = undisturbed
    assert done.returncode == 1, done.stderr
    assert (
        "6 computed, 0 up to date, 1 invalid input, 0 failed; 0 unchanged, 0 excluded; "
        "paper form" in done.stdout
    )
    assert "n7  invalid input at trimap  the readers share no voxel" in done.stdout
    outcomes = {outcome.nodule_id: outcome.state for outcome in read_outcomes(store)}
    assert outcomes == {**dict.fromkeys(WELL, "done"), "n7": "refused"}
    assert len(marks(store)) == 6


@pytest.mark.slow
def test_one_worker_and_another_order_give_the_same_bytes(
    undisturbed, halosign, scheduler, table, recipe, tmp_path
):
    backwards = table.with_name("backwards.csv")
    head, *rows = table.read_text().splitlines()
    backwards.write_text("\n".join([head, *reversed(rows)]) + "\n")
    one_worker = ("--workers", 1)
    for patients, workers in (
        ("P-n4,P-n2,P-n6", one_worker),
        ("P-n5,P-n1,P-n3", ("--scheduler", scheduler)),
    ):
        done = halosign(
            "curate", "--files", backwards, "--store", tmp_path / "store", "--recipe", recipe,
            "--patients", patients, *workers,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert contents(open_store(str(tmp_path / "store"))) == contents(undisturbed[1])


def test_a_run_leaves_the_stores_report_and_links_to_it(undisturbed, environment):
    _, store = undisturbed
    page = store.get(REPORT).decode()
    assert all(f">{name}<" in page for name in WELL)
    assert "the readers share no voxel" in page
    found = httpx.post(
        f"{environment['PREFECT_API_URL']}/artifacts/filter",
        json={"artifacts": {"key": {"any_": ["report"]}}},
    ).json()
    assert any(f"({store.link}/{REPORT})" in one["data"] for one in found)


def test_a_report_is_left_out_on_request_and_its_failure_costs_the_run_nothing(
    undisturbed, halosign, scheduler, table, recipe, tmp_path
):
    for folder in ("none", "blocked"):
        store = tmp_path / folder
        if folder == "blocked":
            store.mkdir()
            (store / "reports").write_text("a file where the folder of reports should be")
        where = ("--store", store, "--recipe", recipe, "--scheduler", scheduler, "--nodules", "n1")
        options = ["--no-report"] * (folder == "none")
        done = halosign("curate", "--files", table, *where, *options)
        assert done.returncode == 0, done.stderr
        assert "1 computed" in done.stdout
        assert "Traceback" not in done.stderr
        assert not (store / REPORT).exists()


def test_the_same_command_again_computes_nothing(undisturbed, halosign, table, recipe):
    _, store = undisturbed
    before = marks(store)
    again = halosign("curate", "--files", table, "--store", store.url, "--recipe", recipe)
    assert again.returncode == 1
    assert "0 computed, 0 up to date, 0 invalid input, 0 failed; 7 unchanged" in again.stdout
    assert marks(store) == before


def kill_at_random(seed, run_again, environment, arguments, store, undisturbed_store):
    """Kill a run at a random moment, run the same command, compare with a run without faults."""
    command = [sys.executable, "-m", "flows.cli", *map(str, arguments)]
    run = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    moment = random.Random(seed)
    goal, patience = moment.randrange(0, 6), time.monotonic() + 120
    while (
        run.poll() is None
        and time.monotonic() < patience
        and len(list(store.list_prefix("cases"))) < 30 * goal
    ):
        time.sleep(0.005)
    time.sleep(moment.uniform(0, 0.5))
    run.kill()
    run.wait()
    time.sleep(1.0)  # its workers notice and go
    finished = marks(store)
    assert len(finished) < 7
    again = run_again(*arguments)
    assert again.returncode == 1, again.stderr
    assert contents(store) == contents(undisturbed_store)
    assert {key: marks(store)[key] for key in finished} == finished
    return len(finished)


@pytest.mark.parametrize(
    "seed",
    [
        11,
        *(
            pytest.param(seed, marks=pytest.mark.slow)
            for seed in (23, 31, 47, 59, 61, 73, 89, 97, 103)
        ),
    ],
)
def test_a_killed_run_is_finished_by_the_same_command(
    seed, undisturbed, halosign, environment, table, recipe, tmp_path
):
    store = open_store(str(tmp_path / "store"), create=True)
    arguments = (
        "curate",
        "--files",
        table,
        "--store",
        store.url,
        "--recipe",
        recipe,
        "--workers",
        2,
    )
    print(
        "finished before the kill:",
        kill_at_random(seed, halosign, environment, arguments, store, undisturbed[1]),
    )
    done = halosign("why", "n1", "--store", store.url, "--files", table, "--recipe", recipe)
    assert "would not be computed: up to date: same source, recipe and algorithm" in done.stdout
    refused = halosign("why", "n7", "--store", store.url, "--files", table, "--recipe", recipe)
    assert "would not be computed: invalid input, unchanged since" in refused.stdout


@pytest.mark.slow
@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM"])
def test_an_interrupted_run_says_so_everywhere(how, api, environment, table, recipe, tmp_path):
    store = open_store(str(tmp_path / "store"), create=True)
    command = ["curate", "--files", table, "--store", store.url, "--recipe", recipe, "--workers", 1]
    run = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", *map(str, command)],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while run.poll() is None and not marks(store):
        time.sleep(0.01)
    if how == "Ctrl-C":  # which a terminal sends to the workers too
        os.killpg(run.pid, signal.SIGINT)
    else:
        run.send_signal(signal.SIGTERM)
    _, errors = run.communicate(timeout=120)
    assert run.returncode == 130
    assert "stopping: nodules that are in hand" in errors
    assert "interrupted: finished nodules are stored. Run the same command again" in errors
    assert "Traceback" not in errors
    assert "lost" not in errors
    record = find_last_run(store)
    assert (record.ending, record.states["computed"]) == ("interrupted", len(marks(store)))
    with get_client(sync_client=True) as client:
        (latest,) = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=["curate"])),
            sort=FlowRunSort.START_TIME_DESC,
            limit=1,
        )
    assert latest.state.is_crashed()


def job_for(table, store, recipe):
    # Three of the seven nodules may fail.
    patient = load_recipe(recipe, run={"failure_budget": 0.5})
    return CurationJob(SourceSpec("files", str(table)), store.url, patient)


@pytest.fixture
def api(environment, monkeypatch):
    from prefect.settings import PREFECT_API_URL, PREFECT_LOGGING_LEVEL, temporary_settings

    with temporary_settings(
        {PREFECT_API_URL: environment["PREFECT_API_URL"], PREFECT_LOGGING_LEVEL: "ERROR"}
    ):
        yield


@pytest.mark.slow
def test_nodules_that_kill_their_workers_cost_only_themselves(
    api, scheduler, table, store, recipe, monkeypatch
):
    from tests.flows.faults import die_at_n3_and_n5

    monkeypatch.setattr(flows.curate, "curate_nodule", die_at_n3_and_n5)
    result = curate(job_for(table, store, recipe), cluster=Cluster(workers=2))
    states = {outcome.nodule_id: outcome.state for outcome in result.outcomes}
    assert states == {
        **dict.fromkeys(WELL, "done"),
        "n3": "failed",
        "n5": "failed",
        "n7": "refused",
    }
    assert "the worker process died, possibly out of memory" in find_outcome(store, "n3").reason
    monkeypatch.undo()
    again = curate(job_for(table, store, recipe), cluster=Cluster(scheduler))
    assert [(outcome.nodule_id, outcome.state) for outcome in again.outcomes] == [
        ("n3", "done"),
        ("n5", "done"),
    ]


def test_transient_failures_are_tried_again_and_others_are_not(
    api, scheduler, table, store, recipe, monkeypatch
):
    from tests.flows.faults import fail_once

    monkeypatch.setattr(flows.curate, "curate_nodule", fail_once)
    result = curate(job_for(table, store, recipe), cluster=Cluster(scheduler))
    assert {o.nodule_id: o.state for o in result.outcomes if o.nodule_id != "n7"} == {
        **dict.fromkeys(WELL, "done"),
        "n5": "failed",
    }
    tries = {name: int(store.get(f"tries/{name}")) for name in WELL}
    assert tries == {**dict.fromkeys(WELL, 1), "n2": 2}


def test_prefect_keeps_tables_of_the_run(api, undisturbed):
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        artifacts = client.request("POST", "/artifacts/latest/filter", json={}).json()
    assert {"nodules", "curation", "store"} <= {artifact["key"] for artifact in artifacts}


def test_a_run_shows_the_stages_of_its_nodules_while_workers_are_at_them(
    api, scheduler, table, store, recipe, monkeypatch
):
    shown = []

    class Watched(ProgressTracker):
        def enter_stage(self, nodule_id, stage):
            ProgressTracker.enter_stage(self, nodule_id, stage)
            shown.append((nodule_id, stage, self._counts()))

    monkeypatch.setattr(flows.curate, "ProgressTracker", Watched)
    one = frozenset({"n1"})
    curate(job_for(table, store, recipe), cluster=Cluster(scheduler), nodules=one)
    stages = ["scan", "crop", "resample", "trimap", "solve", "judge", "write"]
    assert shown == [("n1", stage, f"now 1 {stage}") for stage in stages]


def test_the_bar_has_states_then_stages_and_forgets_those_of_finished_nodules():
    with ProgressTracker(total=4, budget=0.2) as progress:
        progress.add(Outcome("a", "P", "done", "write"))
        for nodule, stage in (("b", "scan"), ("c", "solve"), ("b", "solve"), ("a", "write")):
            progress.enter_stage(nodule, stage)
        assert progress._counts() == "1 done; now 2 solve"
        progress.add(Outcome("b", "P", "refused", "solve"))
        assert progress._counts() == "1 done, 1 invalid input; now 1 solve"


def test_the_budget_counts_what_is_unfit_among_all():
    with ProgressTracker(total=40, budget=0.2) as progress:
        for n in range(8):
            progress.add(Outcome(f"x{n}", "P", "refused", "trimap"))
        for n in range(3):
            progress.add(Outcome(f"y{n}", "P", "done", "write"))
        progress.check_failure_budget()
        progress.add(Outcome("x8", "P", "failed", "worker", transient=True))
        progress.check_failure_budget()
        progress.add(Outcome("x8", "P", "failed", "solve"))
        with pytest.raises(
            FailureBudgetExceeded,
            match=r"9 of 12 nodules have invalid input or failed, more than 20% of 40",
        ):
            progress.check_failure_budget()


def test_the_budget_acts_from_the_first_nodules_on_and_spares_a_single_one():
    with ProgressTracker(total=3, budget=0.2) as progress:
        progress.add(Outcome("x0", "P", "refused", "trimap"))
        progress.check_failure_budget()
        progress.add(Outcome("x1", "P", "refused", "trimap"))
        with pytest.raises(FailureBudgetExceeded, match=r"2 of 2 nodules .* than 20% of 3"):
            progress.check_failure_budget()


def test_a_run_over_its_budget_is_aborted_and_says_so(
    halosign, scheduler, tmp_path, tmp_path_factory
):
    from tests.phantoms import ball_patch, write_table

    folder = tmp_path_factory.mktemp("bad")
    bad = ball_patch()
    bad.readers[1] = False
    bad.readers[1, 0, 0, 0] = True
    table = write_table(folder, {f"b{n:02d}": bad for n in range(30)})
    recipe = folder / "recipe.yaml"
    recipe.write_text("crop: {in_plane_voxels: 24}\nrun: {nodules_per_task: 4}\n")
    done = halosign(
        "curate",
        "--files",
        table,
        "--store",
        tmp_path / "store",
        "--recipe",
        recipe,
        "--scheduler",
        scheduler,
    )
    assert done.returncode == 1
    assert "run aborted" in done.stdout
    assert "run.failure_budget" in done.stdout
    assert len(list(read_outcomes(open_store(str(tmp_path / "store"))))) < 30


def test_status_tells_people_and_programs(undisturbed, halosign):
    _, store = undisturbed
    people = halosign("status", "--store", store.url).stdout
    assert "6 done, 1 invalid input, 0 failed" in people
    assert "the readers share no voxel" in people
    facts = json.loads(halosign("status", "--store", store.url, "--json").stdout)
    assert facts["states"] == {"done": 6, "refused": 1, "failed": 0}
    assert facts["unfit"][0]["nodule"] == "n7"
    assert facts["stored_bytes"] == sum(find_outcome(store, name).stored_bytes for name in WELL)

"""The flows that prefect.yaml deploys: their parameters, their states, what follows a release."""

from pathlib import Path

import pytest
import yaml
from prefect import get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.flows import load_flow_from_entrypoint
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.crashed_runs import RESUMES
from flows.deployments import MOST_STARTS, curate, evaluate, publish, verify
from flows.engine.errors import RunAborted
from flows.publish import FOLLOWS_RELEASE
from matting.errors import InputError
from storage.cases.outcomes import read_outcomes
from storage.errors import CorruptionError
from storage.releases.release import Release
from storage.store import open_store
from tasks.auto_select import pick_automatically
from tests.phantoms import ball_patch, write_table

ROOT = Path(__file__).parents[2]
DEPLOYMENTS = {
    entry["name"]: entry
    for entry in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
}


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_an_entry_point_takes_the_parameters_that_are_given(name):
    entry = DEPLOYMENTS[name]
    schema = load_flow_from_entrypoint(entry["entrypoint"]).parameters
    assert set(entry["parameters"]) <= set(schema.properties)
    # Who runs it by hand gives at most the version; the schedule gives nothing.
    assert set(schema.required) - set(entry["parameters"]) <= (
        {"version"} if "schedules" not in entry else set()
    )
    if FOLLOWS_RELEASE in entry.get("tags", ()):
        assert {"store", "version"} <= set(schema.properties)


def test_two_curations_of_one_deployment_wait_for_each_other():
    assert DEPLOYMENTS["nightly"]["concurrency_limit"] == {
        "limit": 1,
        "collision_strategy": "ENQUEUE",
    }


@pytest.fixture(scope="module")
def server(environment):
    with temporary_settings({PREFECT_API_URL: environment["PREFECT_API_URL"]}):
        yield


@pytest.fixture(scope="module")
def curated(server, scheduler, table, recipe, tmp_path_factory):
    store = str(tmp_path_factory.mktemp("deployed") / "store")
    return store, curate(
        store, files=str(table), recipe=str(recipe), scheduler=scheduler, return_state=True
    )


def test_a_curation_with_refused_nodules_is_complete_but_says_so(curated):
    store, state = curated
    assert (state.is_completed(), state.name) == (True, "Incomplete")
    assert sum(outcome.state == "done" for outcome in read_outcomes(open_store(store))) == 6


def test_a_curation_in_which_all_is_well_is_complete(curated, table, recipe):
    state = curate(
        curated[0], files=str(table), recipe=str(recipe), patients=["P-n1"], return_state=True
    )
    assert (state.is_completed(), state.name) == (True, "Completed")


def test_a_curation_that_runs_out_of_its_budget_is_stopped_and_not_tried_again(
    server, scheduler, recipe, tmp_path
):
    patch = ball_patch()
    patch.readers[1] = False
    patch.readers[1, 4:7, 2:6, 2:6] = True
    table = write_table(tmp_path, {f"n{n:02}": patch for n in range(12)})
    state = curate(
        str(tmp_path / "store"),
        files=str(table),
        recipe=str(recipe),
        scheduler=scheduler,
        return_state=True,
    )
    assert (state.is_cancelled(), state.name) == (True, "Stopped")
    assert "run.failure_budget" in state.message


def test_a_release_queues_what_follows_it_once_and_waits_for_none(curated, recipe):
    store = curated[0]
    pick_automatically(open_store(store))
    with get_client(sync_client=True) as client:
        # Nobody serves this deployment: whoever waited for it would wait for ever.
        deployment = verify.to_deployment("later", tags=[FOLLOWS_RELEASE]).apply()
        assert publish("1.0.0", store, recipe=str(recipe)) == 6
        of_it = DeploymentFilter(id=DeploymentFilterId(any_=[deployment]))
        (run,) = client.read_flow_runs(deployment_filter=of_it)
    assert run.state.is_scheduled()
    assert run.parameters == {"store": store, "version": "1.0.0"}


def test_a_verification_counts_files_and_fails_on_a_flipped_byte(curated, recipe):
    store = open_store(curated[0])
    files = Release.open(store, "1.0.0").manifest.case_files
    assert verify("1.0.0", store.url) == len(files)
    path = next(path for path in files if path.endswith("zarr.json"))
    before = store.get(path)
    store.put(path, before[:-1] + b" ")
    with pytest.raises(CorruptionError, match="1 files differ from what was published"):
        verify("1.0.0", store.url)
    store.put(path, before)


@pytest.mark.parametrize(
    "name", [name for name, entry in DEPLOYMENTS.items() if RESUMES in entry.get("tags", ())]
)
def test_a_run_that_always_crashes_is_begun_again_so_often_only(name, monkeypatch):
    entry = DEPLOYMENTS[name]
    flow = load_flow_from_entrypoint(entry["entrypoint"])
    monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__RUN_COUNT", str(MOST_STARTS + 1))
    with pytest.raises(RunAborted, match=f"begun {MOST_STARTS} times .* begin a new run"):
        flow.fn(**dict.fromkeys(flow.parameters.properties))


def test_a_run_may_begin_as_often_as_is_said(monkeypatch):
    monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__RUN_COUNT", str(MOST_STARTS))
    with pytest.raises(InputError, match="parts"):
        evaluate.fn(version="1.0.0", store="unused", parts=["no such part"])

"""A Prefect server and a Dask cluster for all flow tests, and the command line."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_LOGGING_TO_API_ENABLED,
    temporary_settings,
)

from flows.cli.main import main
from flows.curate import curate_nodule
from flows.engine.cluster import Cluster, dask_client
from flows.engine.prefect_server import prefect_server
from storage.releases.release import publish_release
from storage.store import Store, open_store
from tasks.auto_select import pick_automatically
from tasks.curation.inventory import take_inventory
from tasks.publish import draft_release
from tests.flows.training import curation_job
from tests.phantoms import ball_patch, write_table

RECIPE = "name: test\ncrop: {in_plane_voxels: 24}\nrun: {retry_delay_s: 0.1, nodules_per_task: 2}\n"


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a new user, with a running Prefect server."""
    home = tmp_path_factory.mktemp("home")
    given = {
        "HOME": str(home),
        "PREFECT_HOME": str(home / ".prefect"),
        "HALOSIGN_CACHE": str(home / "cache"),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in given.items():
            patch.setenv(name, value)
        with prefect_server() as url:
            yield {**os.environ, "PREFECT_API_URL": url}


@pytest.fixture(scope="session")
def scheduler(environment: dict[str, str]) -> Iterator[str]:
    """Address of a Dask cluster with two worker processes."""
    with dask_client(Cluster(workers=2)) as client:
        yield client.scheduler.address


@dataclass(frozen=True)
class Finished:
    """What a command in this process did, by the names of `subprocess.CompletedProcess`."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture(scope="session")
def halosign(environment: dict[str, str]) -> Callable[..., Finished]:
    """Run the command line in this process; importing the libraries takes seconds in a new one."""

    def call(*arguments: object, **more: str) -> Finished:
        stdout, stderr = StringIO(), StringIO()
        before = signal.getsignal(signal.SIGTERM)
        server = {
            PREFECT_API_URL: environment["PREFECT_API_URL"],
            PREFECT_LOGGING_TO_API_ENABLED: False,
        }
        with (
            pytest.MonkeyPatch.context() as patch,
            redirect_stdout(stdout),
            redirect_stderr(stderr),
            temporary_settings(server),
        ):
            patch.setattr(sys, "argv", ["halosign", *map(str, arguments)])
            for name, value in more.items():
                patch.setenv(name, value)
            with pytest.raises(SystemExit) as end:
                main()
        signal.signal(signal.SIGTERM, before)
        return Finished(int(end.value.code or 0), stdout.getvalue(), stderr.getvalue())

    return call


@pytest.fixture(scope="session")
def halosign_process(
    environment: dict[str, str],
) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Run the command line in a process of its own."""

    def call(*arguments: object, **more: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "flows.cli", *map(str, arguments)]
        return subprocess.run(
            command, env={**environment, **more}, capture_output=True, text=True, check=False
        )

    return call


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six valid nodules and one whose readers marked different lesions."""
    patches = {f"n{n}": ball_patch(seed=n) for n in range(1, 7)}
    patches["n7"] = ball_patch()
    patches["n7"].readers[1] = False
    patches["n7"].readers[1, 4:7, 2:6, 2:6] = True
    return write_table(tmp_path_factory.mktemp("scans"), patches)


@pytest.fixture(scope="session")
def undisturbed(halosign, scheduler, table, recipe, tmp_path_factory):
    """The result of a run without faults, and its store."""
    store = tmp_path_factory.mktemp("undisturbed") / "store"
    done = halosign(
        "curate", "--files", table, "--store", store, "--recipe", recipe, "--scheduler", scheduler
    )
    return done, open_store(str(store))


@pytest.fixture(scope="session")
def learnable(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A release of eight nodules to train on; a test that writes to the store takes a copy."""
    folder = tmp_path_factory.mktemp("learnable")
    write_table(folder, {f"n{n}": ball_patch(seed=n) for n in range(8)})
    store = open_store(str(folder / "store"), create=True)
    job = curation_job(store, folder)
    for nodule in take_inventory(job, None).nodules:
        assert curate_nodule(nodule, job).state == "done"
    pick_automatically(store)
    publish_release(store, "0.1.0", draft_release(store, "0.1.0", job.recipe), publisher="test")
    return store

"""One Prefect server for all flow tests, and the command line as a user calls it."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flows.curate import curate_nodule
from flows.engine.prefect_server import prefect_server
from storage.releases.release import publish_release
from storage.store import Store, open_store
from tasks.auto_select import pick_automatically
from tasks.curation.inventory import take_inventory
from tasks.publish import draft_release
from tests.flows.training import order
from tests.phantoms import ball_patch, write_table

RECIPE = "name: test\ncrop: {in_plane_voxels: 24}\nrun: {retry_delay_s: 0.1, nodules_per_task: 2}\n"


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a user of her own, with a Prefect server that stands."""
    home = tmp_path_factory.mktemp("home")
    given = {
        "HOME": str(home),
        "PREFECT_HOME": str(home / ".prefect"),
        "HALOSIGN_CACHE": str(home / "cache"),
    }
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    with prefect_server() as url:
        yield {**os.environ, "PREFECT_API_URL": url}
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


@pytest.fixture(scope="session")
def halosign(environment: dict[str, str]) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Call the command line; gives exit code, stdout and stderr."""

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
    """Six nodules that are well and one whose readers marked different lesions."""
    patches = {f"n{n}": ball_patch(seed=n) for n in range(1, 7)}
    patches["n7"] = ball_patch()
    patches["n7"].readers[1] = False
    patches["n7"].readers[1, 4:7, 2:6, 2:6] = True
    return write_table(tmp_path_factory.mktemp("scans"), patches)


@pytest.fixture(scope="session")
def undisturbed(halosign, table, recipe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "store"
    """A store that nothing went wrong with, and what the command said."""
    done = halosign(
        "curate", "--files", table, "--store", folder, "--recipe", recipe, "--workers", 2
    )
    return done, open_store(str(folder))


@pytest.fixture(scope="session")
def learnable(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Eight nodules, published, to learn from; whoever writes into the store takes a copy."""
    folder = tmp_path_factory.mktemp("learnable")
    write_table(folder, {f"n{n}": ball_patch(seed=n) for n in range(8)})
    store = open_store(str(folder / "store"), create=True)
    whole = order(store, folder)
    for nodule in take_inventory(whole, None).nodules:
        assert curate_nodule(nodule, whole).state == "done"
    pick_automatically(store)
    publish_release(store, "0.1.0", draft_release(store, "0.1.0", whole.recipe), publisher="test")
    return store

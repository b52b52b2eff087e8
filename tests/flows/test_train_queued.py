"""A release queues a training on the gpu pool, and a worker of that pool runs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prefect import get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.curate import curate_nodule
from flows.publish import publish
from storage.recipe import load_recipe
from storage.results.scores import METHOD_SCORES, list_measured, read_lines
from storage.sources.registry import SourceSpec
from storage.store import open_store
from tasks.auto_select import pick_automatically
from tasks.curation.context import CurationJob
from tasks.curation.inventory import take_inventory
from tests.phantoms import ball_patch, write_table

ROOT = Path(__file__).parents[2]
RECIPE = """name: queued
crop: {in_plane_voxels: 24}
release: {split_seed: 2, train: 0.6, validation: 0.1}
training: {crop_zyx: [16, 32, 32], focus: 1.0, batch: 8, epochs: 1}
"""


@pytest.mark.slow
def test_a_release_queues_a_training_that_the_gpu_pool_finishes(environment, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE)
    write_table(tmp_path, {f"n{n}": ball_patch(seed=n) for n in range(8)})
    store = open_store(str(tmp_path / "store"), create=True)
    job = CurationJob(
        SourceSpec("files", str(tmp_path / "table.csv")), store.url, load_recipe(recipe)
    )
    for nodule in take_inventory(job, None).nodules:
        curate_nodule(nodule, job)
    pick_automatically(store)

    def prefect(*arguments):
        more = {
            "HALOSIGN_STORE": store.url,
            "HALOSIGN_RECIPE": str(recipe),
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, "-m", "prefect", *arguments]
        path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
        given = {**environment, **more, "PATH": path}
        done = subprocess.run(
            command, cwd=ROOT, env=given, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    prefect("--no-prompt", "work-pool", "create", "gpu", "--type", "process", "--overwrite")
    prefect("--no-prompt", "deploy", "--name", "on-gpu")
    with temporary_settings({PREFECT_API_URL: environment["PREFECT_API_URL"]}):
        publish(store.url, "0.1.0", job.recipe, "test")
        named = DeploymentFilter(name=DeploymentFilterName(any_=["on-gpu"]))
        with get_client(sync_client=True) as client:
            (run,) = client.read_flow_runs(deployment_filter=named)
            assert run.state.is_scheduled()
            assert (run.work_pool_name, list_measured(store, "0.1.0", "test")) == ("gpu", [])
            prefect("worker", "start", "--pool", "gpu", "--run-once")
            ended = client.read_flow_run(run.id)
    assert ended.state.is_completed(), ended.state
    (digest,) = [what for what in list_measured(store, "0.1.0", "test") if what != METHOD_SCORES]
    network = read_lines(store, "0.1.0", "test", digest)
    assert {(line.matte, line.region, line.nodules) for line in network} == {
        ("3dmm-mg", region, 2) for region in ("whole", "near", "unknown")
    }

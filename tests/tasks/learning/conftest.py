"""A release of eight nodules to train on, made once."""

import shutil
from pathlib import Path

import pytest

from flows.curate import curate_nodule
from matting.parameters import TrainingSettings
from storage.recipe import Recipe
from storage.releases.release import Release, publish_release
from storage.sources.registry import SourceSpec
from storage.store import open_store
from tasks.auto_select import pick_automatically
from tasks.curation.context import CurationJob
from tasks.curation.inventory import take_inventory
from tasks.publish import draft_release
from tests.phantoms import ball_patch, write_table

TRAINING = TrainingSettings(
    crop_zyx=(16, 16, 32), focus=1.0, batch=2, at_once=1, epochs=3, look_every=2, seed=8
)
RECIPE = {
    "crop": {"in_plane_voxels": 24},
    "release": {"split_seed": 2, "train": 0.4, "validation": 0.3},
}


@pytest.fixture(scope="package")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with release 0.1.0: three nodules to train, three to validate, two to test."""
    folder = tmp_path_factory.mktemp("published")
    write_table(folder, {f"n{n}": ball_patch(seed=n) for n in range(8)})
    store = open_store(str(folder / "store"), create=True)
    recipe = Recipe.model_validate(RECIPE)
    job = CurationJob(SourceSpec("files", str(folder / "table.csv")), store.url, recipe)
    for nodule in take_inventory(job, None).nodules:
        assert curate_nodule(nodule, job).state == "done"
    pick_automatically(store)
    publish_release(store, "0.1.0", draft_release(store, "0.1.0", recipe), publisher="test")
    return folder / "store"


@pytest.fixture
def release(published: Path, tmp_path: Path) -> Release:
    """A copy of the release, in a store of the test's own."""
    store = open_store(str(shutil.copytree(published, tmp_path / "copy")))
    return Release.open(store, "0.1.0")

"""A small release to learn from, and a child that trains on it and can be killed."""

import shutil
import sys
from pathlib import Path

from matting.parameters import TrainingSettings
from storage.recipe import Recipe
from storage.releases.release import open_release
from storage.sources.registry import SourceSpec
from storage.store import Store, open_store
from tasks.curation.context import CurationJob
from tasks.learning import callbacks, train
from tasks.learning.train import TrainingJob

TRAINING = TrainingSettings(crop_zyx=(16, 32, 32), focus=1.0, batch=2, at_once=1, epochs=2, seed=8)
RECIPE = {
    "crop": {"in_plane_voxels": 24},
    "release": {"split_seed": 2, "train": 0.6, "validation": 0.1},
}


def curation_job(store: Store, folder: Path) -> CurationJob:
    return CurationJob(
        SourceSpec("files", str(folder / "table.csv")), store.url, Recipe.model_validate(RECIPE)
    )


def copy_of(store: Store, folder: Path) -> Store:
    """Copy a store into a folder."""
    return open_store(str(shutil.copytree(store.url, folder / "store")))


def training_job(url: str) -> TrainingJob:
    return TrainingJob(open_release(url, "0.1.0"), "3dmm-mg", "told", TRAINING, "cpu")


def main() -> None:
    """Train, with the state stored after every step; say each step."""
    callbacks.SAVE_INTERVAL_S = 0.0
    job = training_job(sys.argv[1])
    train.learn(job, on_step=lambda step: print(step.step, flush=True))


if __name__ == "__main__":
    open_store(sys.argv[1])
    main()

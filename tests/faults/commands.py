"""The long commands: where they start from, how they are called, and what they must leave."""

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from flows.curate import curate_nodule
from storage.cases.outcomes import read_outcomes
from storage.layout import DECISIONS
from storage.maintenance.verify_records import verify_records
from storage.recipe import load_recipe
from storage.records import Outcome, encode
from storage.releases.release import Release, list_versions, publish_release
from storage.reviews.verdicts import read_verdicts
from storage.sources.registry import SourceSpec
from storage.store import Store, open_store
from tasks.auto_select import pick_automatically
from tasks.curation.context import CurationJob
from tasks.curation.inventory import take_inventory
from tasks.publish import draft_release
from tests.complaints import complaints_about
from tests.phantoms import ball_patch, write_table

NODULES = 8
CURATED = 3
"""Of them, how many the tests of `curate` compute."""
RECIPE = """\
name: test
crop: {in_plane_voxels: 24}
run: {retry_delay_s: 0.1, nodules_per_task: 3}
release: {split_seed: 2, train: 0.6, validation: 0.1}
training: {crop_zyx: [16, 32, 32], focus: 1.0, batch: 4, epochs: 2}
"""
Result = dict[str, object]


@dataclass(frozen=True)
class LongCommand:
    """A command that takes long enough to be struck."""

    name: str
    stage: str
    """The folder that it starts from."""
    arguments: tuple[str, ...]
    """`{}` is the folder."""
    result: Callable[[Path], Result]
    """What it leaves that must be the same as undisturbed."""
    seeds: int
    """How often each fault strikes it."""

    def call(self, folder: Path) -> list[str]:
        """Return its arguments in a folder."""
        return [part.format(folder) for part in self.arguments]


def store_in(folder: Path) -> Store:
    """Open the store of a folder."""
    return open_store(str(folder / "store"))


def case_files(folder: Path) -> Result:
    """Return every file of every case, and the state of every nodule."""
    store = store_in(folder)
    states = {outcome.nodule_id: outcome.state for outcome in read_outcomes(store)}
    return {**{key: store.get(key) for key in store.list_prefix("cases")}, **states}


def picks(folder: Path) -> Result:
    """Return the verdicts by nodule; each was given once."""
    store = store_in(folder)
    return {
        name: [(one.digest, one.method, one.reviewer) for one in read_verdicts(store, name)]
        for name in store.list_dir(DECISIONS)[0]
    }


def released(folder: Path) -> Result:
    """Return what the one release contains; its version is a higher one after an interruption."""
    store = store_in(folder)
    (version,) = list_versions(store)
    manifest = Release.open(store, version).manifest
    own = {name: entry for name, entry in manifest.own_files.items() if name.endswith(".csv")}
    return {"members": manifest.members, "cases": manifest.case_files, "own": own}


def output(folder: Path) -> Result:
    """Return every file of the folder that the command writes to."""
    out = folder / "out"
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}


def kept_keys(folder: Path) -> Result:
    """Return every file of the store."""
    store = store_in(folder)
    return {key: store.get(key) for key in store.list_prefix("") if key != "clock"}


def networks(folder: Path) -> Result:
    """Return the weights of the trained networks, and all scores."""
    store = store_in(folder)
    return {
        key: store.get(key)
        for prefix in ("checkpoints", "metrics")
        for key in store.list_prefix(prefix)
        if key.endswith((".safetensors", ".csv"))
    }


def tables(folder: Path) -> Result:
    """Return all scores and tables of the experiments."""
    store = store_in(folder)
    return {
        key: store.get(key)
        for prefix in ("metrics", "experiments")
        for key in store.list_prefix(prefix)
        if key.endswith(".csv")
    }


def damages(folder: Path) -> list[str]:
    """Name what is damaged in the store; a version may have been claimed only."""
    if not (folder / "store").is_dir():
        return []
    store = store_in(folder)
    found = complaints_about(store)
    found += [c for file in verify_records(store) for c in file.complaints]
    return [c for c in map(str, found) if "manifest.json is missing beside its claim" not in c]


STORE = ("--store", "{}/store")
WITH_RECIPE = (*STORE, "--recipe", "{}/recipe.yaml")
TABLE = ("--files", "{}/scans/table.csv")
NETWORK = ("--checkpoint", "{}/network")
ONE_WORKER = ("--workers", "1")
CPU = ("--device", "cpu")
VERSION = ("--release", "0.1.0", *WITH_RECIPE, *CPU)

COMMANDS = (
    LongCommand(
        "curate",
        "scans",
        ("curate", *TABLE, *WITH_RECIPE, *ONE_WORKER, "--limit", f"{CURATED}"),
        case_files,
        3,
    ),
    LongCommand("review auto", "curated", ("review", "auto", *WITH_RECIPE), picks, 4),
    LongCommand("publish", "decided", ("release", "publish", "0.1.0", *WITH_RECIPE), released, 4),
    LongCommand(
        "export",
        "released",
        ("release", "export", "0.1.0", *STORE, "--format", "nifti", "--to", "{}/out"),
        output,
        4,
    ),
    LongCommand(
        "gc", "littered", ("store", "gc", *STORE, "--delete", "--grace", "1h"), kept_keys, 4
    ),
    LongCommand("train", "released", ("train", *VERSION), networks, 3),
    LongCommand(
        "evaluate",
        "released",
        ("evaluate", *VERSION, "--parts", "readers", *ONE_WORKER),
        tables,
        3,
    ),
    LongCommand(
        "predict",
        "trained",
        ("predict", *NETWORK, "--image", "{}/ct.nii.gz", "--whole", "--out", "{}/out", *CPU),
        output,
        3,
    ),
)


class Stages:
    """The folders that commands start from, each made once from the one before.

    Args:
        root: Where to make them.
        halosign: Runs a command in this process.
    """

    def __init__(self, root: Path, halosign: Callable[..., object]) -> None:
        self._root = root
        self._halosign = halosign

    def copy(self, stage: str, folder: Path) -> Path:
        """Copy a stage to a new folder, with the times of its files."""
        return Path(shutil.copytree(self._made(stage), folder))

    def _made(self, stage: str) -> Path:
        folder = self._root / stage
        if not folder.exists():
            getattr(self, f"_make_{stage}")(folder)
        return folder

    def _make_scans(self, folder: Path) -> None:
        (folder / "scans").mkdir(parents=True)
        write_table(folder / "scans", {f"n{n}": ball_patch(seed=n) for n in range(NODULES)})
        (folder / "recipe.yaml").write_text(RECIPE)

    def _make_curated(self, folder: Path) -> None:
        self.copy("scans", folder)
        store = open_store(str(folder / "store"), create=True)
        source = SourceSpec("files", str(folder / "scans" / "table.csv"))
        job = CurationJob(source, store.url, load_recipe(folder / "recipe.yaml"))
        for nodule in take_inventory(job, None).nodules:
            assert curate_nodule(nodule, job).state == "done"

    def _make_decided(self, folder: Path) -> None:
        self.copy("curated", folder)
        pick_automatically(store_in(folder))

    def _make_released(self, folder: Path) -> None:
        self.copy("decided", folder)
        store = store_in(folder)
        draft = draft_release(store, "0.1.0", load_recipe(folder / "recipe.yaml"))
        publish_release(store, "0.1.0", draft, publisher="test")

    def _make_trained(self, folder: Path) -> None:
        self.copy("released", folder)
        command = next(one for one in COMMANDS if one.name == "train")
        self._halosign(*command.call(folder))
        (network,) = (folder / "store" / "checkpoints").iterdir()
        network.rename(folder / "network")
        shutil.rmtree(folder / "store")
        rng = np.random.default_rng(3)
        image = sitk.GetImageFromArray(rng.integers(-1000, 200, (20, 40, 44)).astype(np.int16))
        image.SetSpacing((0.7, 0.8, 1.25))
        sitk.WriteImage(image, str(folder / "ct.nii.gz"))

    def _make_littered(self, folder: Path) -> None:
        """Leave old cases that nothing refers to, one of them without its mark."""
        self.copy("curated", folder)
        store = store_in(folder)
        old = time.time() - 2 * 86_400
        for name in ("n1", "n3", "n5", "n7"):
            failed = Outcome(name, f"P-{name}", "failed", "solve", "MemoryError")
            store.put(f"outcomes/{name}.json", encode(failed))
        store.delete([key for key in store.list_prefix("cases/n5") if key.endswith(".done")])
        for key in store.list_prefix("cases"):
            os.utime(f"{store.url}/{key}", (old, old))

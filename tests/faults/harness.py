"""Harness of all fault tests: inject a fault, run the same command again, compare the stores."""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeAlias

import obstore

from flows.curate import curate_nodule
from storage.recipe import load_recipe
from storage.sources.registry import SourceSpec
from storage.store import Store, open_store
from tasks.curation.context import CurationJob
from tasks.curation.inventory import take_inventory
from tests.complaints import complaints_about
from tests.faults.services import wait_until
from tests.phantoms import ball_patch, write_table

Contents = dict[str, bytes]
RECIPE = "name: test\ncrop: {in_plane_voxels: 24}\nrun: {retry_delay_s: 0.5, nodules_per_task: 3}\n"
AnyReport: TypeAlias = "Report | CommandReport | DeploymentReport"


def seeds(most: int) -> range:
    """The seeds of one struck command: so many, or ``HALOSIGN_FAULT_SEEDS`` where that is fewer."""
    return range(min(most, int(os.environ.get("HALOSIGN_FAULT_SEEDS", most))))


@dataclass(frozen=True)
class Report:
    """What one fault did to one run."""

    fault: str
    seed: int
    stored_when_struck: int
    first_exit: int
    """Exit code of the command that was struck."""
    lost: int
    """Nodules whose case is missing, half or other than undisturbed after the same command
    again."""
    recomputed: int
    """Nodules stored when the fault struck of which any file was written again, or that a later run
    computed."""
    recovery_s: float
    """From the fault's end until all was stored; includes the start of the second command where one
    was needed."""
    second_computed: int
    """What the same command again had left to do."""
    at_once: int = 0
    """Nodules that two commands computed at the same time."""


@dataclass(frozen=True)
class CommandReport:
    """What one fault, or another command beside it, did to one command."""

    command: str
    fault: str
    seed: int
    first_exit: int
    """Exit code of the command that was struck, or of the second of two."""
    lost: int
    """Files that are written once and were there, and are gone or changed after the same command
    again; acknowledged verdicts that are gone."""
    damaged: int
    """Complaints about the store at the end."""
    tracebacks: int
    other_bytes: bool
    """Whether the result differs from that of an undisturbed run."""

    @property
    def is_harmless(self) -> bool:
        """True where nothing was lost and the user read words."""
        return not (self.lost or self.damaged or self.tracebacks or self.other_bytes)


@dataclass(frozen=True)
class DeploymentReport:
    """What a fault of a service did to a run of a deployment."""

    deployment: str
    fault: str
    seed: int
    stored_when_struck: int
    ending: str
    """Name of the run's last state, to which it came by itself."""
    starts: int
    """How often the run was begun."""
    lost: int
    """Nodules whose case is missing, half or other than undisturbed in the end."""
    recomputed: int
    """Nodules stored when the fault struck of which any file was written again."""
    next_nodule_s: float | None
    """From the fault's end until the run, begun again, had stored a nodule; None where none was
    left."""


@dataclass
class Scene:
    """What every run of a fault is about."""

    table: Path
    recipe: Path
    nodules: int
    undisturbed: Contents
    """Every file of every case of a run that nothing happened to, by key."""
    environment: dict[str, str]


def make_scene(folder: Path, nodules: int) -> Scene:
    """Write small nodules, and curate them where nothing happens."""
    table = write_table(folder, {f"n{n}": ball_patch(seed=n) for n in range(1, nodules + 1)})
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE)
    store = open_store(str(folder / "undisturbed"), create=True)
    job = CurationJob(SourceSpec("files", str(table)), store.url, load_recipe(recipe))
    for nodule in take_inventory(job, None).nodules:
        assert curate_nodule(nodule, job).state == "done"
    undisturbed = {key: store.get(key) for key in store.list_prefix("cases")}
    home = folder / "home"
    environment = {
        "HOME": str(home),
        "PREFECT_HOME": str(home / ".prefect"),
        "HALOSIGN_CACHE": str(home / "cache"),
    }
    return Scene(table, recipe, nodules, undisturbed, environment)


@dataclass
class Setting:
    """Where one run takes place."""

    scene: Scene
    store_url: str
    where: tuple[str, ...] = ("--workers", "2")
    environment: dict[str, str] = field(default_factory=dict)

    def arguments(self) -> list[str]:
        """Return the arguments of `halosign`."""
        given = (
            "curate",
            "--files",
            self.scene.table,
            "--store",
            self.store_url,
            "--recipe",
            self.scene.recipe,
        )
        return [*map(str, given), *self.where, "--log-format", "json"]

    def store(self) -> Store:
        return open_store(self.store_url, create=True)


@dataclass
class Command:
    """A running curate command; it logs to a file, so that it never waits for a reader."""

    process: subprocess.Popen[bytes]
    log: Path

    def events(self) -> Iterator[dict[str, object]]:
        for line in self.log.read_text().splitlines():
            if line.startswith("{"):
                yield json.loads(line)

    def computed(self) -> set[str]:
        return {str(e["nodule"]) for e in self.events() if e["event"] == "nodule" and e["computed"]}


@contextmanager
def running(setting: Setting) -> Iterator[Command]:
    handle, name = tempfile.mkstemp(suffix=".log")
    environment = {**os.environ, **setting.scene.environment, **setting.environment}
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", *setting.arguments()],
        env=environment,
        stdout=handle,
        stderr=handle,
    )
    try:
        yield Command(process, Path(name))
    finally:
        process.kill()
        process.wait()
        os.close(handle)
        os.unlink(name)


def suffer(
    name: str,
    seed: int,
    setting: Setting,
    strike: Callable[[Command, random.Random], int],
    *,
    moment: bool = True,
) -> Report:
    """Run the command, inject a fault, run the same command again and report on the nodules.

    Args:
        name: The fault's.
        seed: Decides when it strikes.
        setting: Where the command runs.
        strike: The fault; returns when it is over, with the number of nodules that two workers
            computed at the same time.
        moment: True for a fault after a random number of nodules; False for one that chooses its
            own moment.
    """
    dice, scene = random.Random(seed), setting.scene
    store = setting.store()
    goal, delay_s = dice.randrange(scene.nodules), dice.uniform(0, 0.5)
    with running(setting) as first:
        if moment:
            wait_until(
                lambda: (
                    (len(marks(store)) >= goal and "run begins" in first.log.read_text())
                    or _ended(first)
                ),
                f"{goal} nodules",
            )
            time.sleep(delay_s)
        before = written(store) if moment else {}
        at_once = strike(first, dice)
        over = time.monotonic()
        first_exit = first.process.wait(timeout=600)
        first_s = time.monotonic() - over
        account = first.log.read_text()
        if not moment:
            before = written(store)
    # A scheduler that is gone before the run has reached it is refused as a wrong address is.
    assert first_exit in {0, 1} or "the Dask scheduler does not respond" in account, account
    assert not [line for line in account.splitlines() if line.startswith("Traceback")], account
    after_first = {key.split("/")[1] for key in marks(store)}
    with running(setting) as second:
        second_exit = second.process.wait(timeout=600)
        recomputed = second.computed() & after_first
        second_computed = len(second.computed())
        whole_s = time.monotonic() - over
        account += second.log.read_text()
    assert second_exit == 0, account
    after = written(store)
    struck = {key.split("/")[1] for key in before if key.endswith(".done")}
    recomputed |= {
        n
        for n in struck
        if any(after.get(k) != t for k, t in before.items() if k.split("/")[1] == n)
    }
    found = {key: store.get(key) for key in store.list_prefix("cases")}
    lost = {
        key.split("/")[1] for key in scene.undisturbed if found.get(key) != scene.undisturbed[key]
    }
    assert set(found) == set(scene.undisturbed)
    assert not complaints_about(store)
    recovery_s = round(whole_s if first_exit or second_computed else first_s, 1)
    return Report(
        name,
        seed,
        len(struck),
        first_exit,
        len(lost),
        len(recomputed),
        recovery_s,
        second_computed,
        at_once,
    )


def _ended(command: Command) -> bool:
    return command.process.poll() is not None


def marks(store: Store) -> list[str]:
    return [key for key in store.list_prefix("cases") if key.endswith(".done")]


def written(store: Store) -> dict[str, object]:
    """When each file of a case was written, for the finished ones."""
    finished = tuple(key.removesuffix(".done") for key in marks(store))
    times = {}
    for key in store.list_prefix("cases"):
        if key.startswith(finished) and finished:
            times[key] = _written_at(store, key)
    return times


def _written_at(store: Store, key: str) -> object:
    if "://" not in store.url:
        return os.stat(f"{store.url}/{key}").st_mtime_ns
    return obstore.head(store.objects, key)["last_modified"]


def keep(reports: list[AnyReport], path: Path) -> None:
    """Add reports to a file of them; one of the same run replaces the one before."""

    def name(report: dict[str, object]) -> tuple[object, ...]:
        return report.get("command", ""), report["fault"], report["seed"]

    kept = json.loads(path.read_text()) if path.exists() else []
    known = {name(report): report for report in (*kept, *map(asdict, reports))}
    path.write_text(json.dumps([known[key] for key in sorted(known)], indent=1) + "\n")

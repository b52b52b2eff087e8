"""Two commands at once on one store or folder: of the same kind, and of different kinds.

Both end in words, what each reports as done is there, and what both leave is what one after the
other leaves.
"""

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache as once
from pathlib import Path

import pytest

from storage.releases.release import list_versions
from storage.releases.verify import verify_release
from tasks.auto_select import pick_automatically
from tests.faults.commands import COMMANDS, Stages, case_files, damages, released, store_in
from tests.faults.harness import CommandReport, seeds
from tests.flows.conftest import environment, halosign

__all__ = ["environment", "halosign"]

PATIENCE_S = 600
HEAD_START_S = 4.0
"""The second command begins at most so much later; starting takes either of them longer."""
SEEDS = 3
BY_NAME = {command.name: command for command in COMMANDS}
MISSING = "n0"
"""The nodule that a curation beside another command has to compute."""


def curate_all(folder: Path) -> list[str]:
    """Return the curation of all nodules."""
    command = BY_NAME["curate"].call(folder)
    return command[: command.index("--limit")]


def named(name: str) -> Callable[[Path], list[str]]:
    """Return the call of a command of the table."""
    return BY_NAME[name].call


def repair(folder: Path) -> list[str]:
    """Return the repair of a store."""
    return ["store", "check", "--repair", "--store", f"{folder}/store"]


def forget_one(folder: Path) -> None:
    """Remove a case and its outcome, for a curation to compute."""
    shutil.rmtree(folder / "store" / "cases" / MISSING)
    (folder / "store" / "outcomes" / f"{MISSING}.json").unlink()


def damage_one(folder: Path) -> None:
    """Forget one nodule, and damage the mark of another."""
    forget_one(folder)
    store = store_in(folder)
    key = next(key for key in store.list_prefix("cases/n1") if key.endswith(".done"))
    store.put(key, store.get(key)[:-9])


def nothing(_: Path) -> None:
    """Change nothing."""


def decide(folder: Path) -> None:
    """Pick a matte of every finished nodule."""
    pick_automatically(store_in(folder))


def effective_picks(folder: Path) -> dict[str, object]:
    """Return the verdict that counts for each nodule; two commands may both have given it."""
    return {name: given[-1] for name, given in BY_NAME["review auto"].result(folder).items()}


def a_release(folder: Path) -> dict[str, object]:
    """Return nothing but that there is one release that verifies; it may lack a new nodule."""
    store = store_in(folder)
    assert list_versions(store) == ["0.1.0"]
    assert verify_release(store, "0.1.0") == []
    return {}


def as_undisturbed(name: str) -> Callable[[Path], dict[str, object]]:
    """Return what a command of the table leaves."""
    return BY_NAME[name].result


@dataclass(frozen=True)
class Pair:
    """Two commands, where they start from, and what they must leave."""

    name: str
    stage: str
    first: Callable[[Path], list[str]]
    second: Callable[[Path], list[str]]
    codes: tuple[tuple[int, int], ...]
    """How both may end, in either order."""
    result: Callable[[Path], dict[str, object]]
    prepare: Callable[[Path], None] = nothing
    again: bool = False
    """Whether the second is given again at the end, as the first tells the user."""


WELL = ((0, 0),)
PAIRS = (
    Pair("curate and curate", "scans", *[named("curate")] * 2, WELL, case_files),
    Pair("publish and publish", "decided", *[named("publish")] * 2, ((0, 2),), released),
    Pair("auto and auto", "curated", *[named("review auto")] * 2, WELL, effective_picks),
    *(
        Pair(f"{name} and {name}", stage, *[named(name)] * 2, WELL, as_undisturbed(name))
        for name, stage in (
            ("export", "released"),
            ("train", "released"),
            ("evaluate", "released"),
            ("predict", "trained"),
            ("gc", "littered"),
        )
    ),
    *(
        Pair(f"{name} and curate", stage, named(name), curate_all, WELL, result, forget_one)
        for name, stage, result in (
            ("publish", "decided", a_release),
            ("review auto", "curated", case_files),
        )
    ),
    Pair("gc and publish", "littered", named("gc"), named("publish"), WELL, released, decide),
    Pair("gc and export", "released", named("gc"), named("export"), WELL, as_undisturbed("export")),
    Pair(
        "repair and curate",
        "curated",
        repair,
        curate_all,
        ((0, 0), (1, 0), (2, 0)),
        case_files,
        damage_one,
        again=True,
    ),
)


@pytest.fixture(scope="module")
def stages(tmp_path_factory, halosign) -> Stages:
    return Stages(tmp_path_factory.mktemp("stages"), halosign)


@pytest.fixture(scope="module")
def one_after_the_other(stages, environment, tmp_path_factory):
    """Return what two commands leave that are given one after the other.

    They run in processes of their own: weights depend on the number of threads, which Dask sets in
    this one.
    """

    @once
    def carried_out(pair: Pair) -> dict[str, object]:
        folder = stages.copy(pair.stage, tmp_path_factory.mktemp("alone") / "work")
        pair.prepare(folder)
        for call in (pair.first, pair.second):
            start(call(folder), environment, folder.with_name("log")).end()
        return pair.result(folder)

    return carried_out


@dataclass
class Started:
    """A command that runs; it writes to a file, so that it never waits for a reader."""

    process: "subprocess.Popen[bytes]"
    log: Path

    def end(self) -> tuple[int, str]:
        """Wait for it; return its exit code and all that the user read."""
        try:
            code = self.process.wait(timeout=PATIENCE_S)
        finally:
            self.process.kill()
        return code, self.log.read_text()


def start(command: list[str], environment: dict[str, str], log: Path) -> Started:
    """Start a command in a process of its own."""
    with log.open("wb") as words:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", *command],
            env=environment,
            stdout=words,
            stderr=words,
        )
    return Started(process, log)


@pytest.mark.slow
@pytest.mark.parametrize("seed", seeds(SEEDS))
@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_two_commands_at_once_leave_what_one_after_the_other_leaves(
    pair, seed, stages, one_after_the_other, environment, halosign, reports, tmp_path
):
    dice = random.Random(f"{pair.name} {seed}")
    folder = stages.copy(pair.stage, tmp_path / "work")
    calls = [pair.first(folder), pair.second(folder)]
    pair.prepare(folder)
    order = dice.sample((0, 1), 2)
    started = {}
    for n in order:
        started[n] = start(calls[n], environment, tmp_path / f"{n}.log")
        time.sleep(dice.uniform(0, HEAD_START_S) if n == order[0] else 0)
    ended = [started[n].end() for n in (0, 1)]
    words = "\n".join(said for _, said in ended)
    print(words)
    codes = tuple(code for code, _ in ended)
    assert codes in pair.codes or codes[::-1] in pair.codes
    if pair.again:
        assert halosign(*calls[1]).returncode == 0
    report = CommandReport(
        pair.name,
        "two at once",
        seed,
        codes[1],
        lost=0,
        damaged=len(damages(folder)),
        tracebacks=words.count("Traceback"),
        other_bytes=pair.result(folder) != one_after_the_other(pair),
    )
    print(report)
    reports.append(report)
    assert report.is_harmless

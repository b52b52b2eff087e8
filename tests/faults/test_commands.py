"""Each long command is struck at a random system call, then given again.

It is killed, terminated, or its disk is full or fails. Whatever happens, the user reads words and
no traceback, a command that ends well has done its work, nothing that was written once is changed,
and the same command again ends with the bytes of an undisturbed run.
"""

import random
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from functools import cache as once
from pathlib import Path

import pytest

from flows.cli.commands import INTERRUPTED
from tests.faults.commands import COMMANDS, LongCommand, Stages, damages, store_in
from tests.faults.disk_faults import FAULTS, Calls, FaultyDisk
from tests.faults.harness import CommandReport, seeds
from tests.flows.conftest import environment, halosign

__all__ = ["environment", "halosign"]

PATIENCE_S = 300
CODES = {
    "kill": {-signal.SIGKILL},
    "term": {0, INTERRUPTED},
    "write-eio": {0, 1, 2},
    "write-enospc": {0, 1, 2},
    "read-eio": {0, 1, 2},
}
"""How a struck command may end; with 0, all of its work must be done."""
IN_OWN_PROCESS = ("train",)
"""Commands whose bytes depend on the number of threads, which Dask sets in this process."""
WRITTEN_ONCE = ("cases", "decisions", "releases", "checkpoints")


@dataclass(frozen=True)
class Ended:
    """How a command ended, and all that the user read."""

    code: int
    words: str


@pytest.fixture(scope="module")
def carry_out(environment):
    """Run a command in a process of its own, which leads a session."""

    def call(command: list[str], disk: FaultyDisk) -> Ended:
        done = subprocess.run(
            [sys.executable, "-m", "flows.cli", *command],
            env={**environment, **disk.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            timeout=PATIENCE_S,
            text=True,
            check=False,
        )
        return Ended(done.returncode, done.stdout)

    return call


@pytest.fixture(scope="module")
def stages(tmp_path_factory, halosign) -> Stages:
    return Stages(tmp_path_factory.mktemp("stages"), halosign)


@pytest.fixture(scope="module")
def undisturbed(library, stages, carry_out, tmp_path_factory):
    """Return the calls of a command that nothing happens to, and what it leaves."""

    @once
    def carried_out(command: LongCommand) -> tuple[Calls, dict[str, object]]:
        folder = stages.copy(command.stage, tmp_path_factory.mktemp("undisturbed") / "work")
        disk = FaultyDisk(library, folder)
        done = carry_out(command.call(folder), disk)
        assert done.code == 0, done.words
        return disk.calls, command.result(folder)

    return carried_out


def written_once(folder: Path) -> dict[str, bytes]:
    """Return the files that no command may change any more, as far as they count."""
    if not (folder / "store" / "store.json").is_file():
        return {}
    store = store_in(folder)
    keys = [key for prefix in WRITTEN_ONCE for key in store.list_prefix(prefix)]
    finished = tuple(key.removesuffix(".done") for key in keys if key.endswith(".done"))
    return {k: store.get(k) for k in keys if not k.startswith("cases") or k.startswith(finished)}


SLOW = [
    pytest.param(command, fault, seed, id=f"{command.name}-{fault}-{seed}", marks=pytest.mark.slow)
    for command in COMMANDS
    for fault in FAULTS
    for seed in seeds(command.seeds)
]


@pytest.mark.parametrize(("command", "fault", "seed"), SLOW)
def test_a_struck_command_is_finished_by_the_same_command(
    command, fault, seed, undisturbed, library, stages, carry_out, halosign, reports, tmp_path
):
    calls, wanted = undisturbed(command)
    dice = random.Random(f"{command.name} {fault} {seed}")
    folder = stages.copy(command.stage, tmp_path / "work")
    at = dice.randrange(calls.of(fault)) + 1
    disk = FaultyDisk(library, folder, fault, at, lasts=seed % 2 == 0)
    first = carry_out(command.call(folder), disk)
    print(f"call {at} of {calls.of(fault)}: {first.code}\n{first.words}")
    assert first.code in CODES[fault]
    assert first.code != INTERRUPTED or "\ninterrupted: " in f"\n{first.words}"
    is_complete = first.code != 0 or command.result(folder) == wanted
    before = {} if command.name == "gc" else written_once(folder)
    if command.name in IN_OWN_PROCESS:
        again = carry_out(command.call(folder), FaultyDisk(library, folder))
    else:
        again = repeat(command, folder, halosign)
    assert again.code == 0, again.words
    after = written_once(folder)
    report = CommandReport(
        command.name,
        fault,
        seed,
        first.code,
        lost=sum(after.get(key) != data for key, data in before.items()),
        damaged=len(damages(folder)),
        tracebacks=(first.words + again.words).count("Traceback"),
        other_bytes=not is_complete or command.result(folder) != wanted,
    )
    print(report)
    reports.append(report)
    assert report.is_harmless
    shutil.rmtree(folder)


def repeat(command, folder, halosign) -> Ended:
    """Run the same command again; a version that was begun is used up, and the next is taken."""
    again = halosign(*command.call(folder))
    if command.name == "publish" and again.returncode == 2:
        assert "a version is used only once" in again.stderr
        if "has begun and not finished" in again.stderr:
            call = ["0.2.0" if part == "0.1.0" else part for part in command.call(folder)]
        else:
            call = ["release", "verify", "0.1.0", "--store", f"{folder}/store"]
        again = halosign(*call)
    return Ended(again.returncode, again.stdout + again.stderr)

"""A command that is interrupted says what is kept of its own work."""

import pytest
from typer.core import TyperCommand

from flows.cli.commands import INTERRUPTED, KEPT
from tests.flows.cli.test_main import commands

LONG = {
    "demo": "finished nodules are stored",
    "synthesize": "scans that were written are complete",
    "curate": "finished nodules are stored",
    "store check": "nothing is deleted",
    "store gc": "whatever anything refers to is kept",
    "train": "the last stored state of the training is kept",
    "evaluate": "stored scores, networks and states of trainings are kept",
    "predict": "files that were written are whole",
    "release publish": "the version is published whole or not at all",
    "release export": "files that were written are whole and kept",
    "release reproduce": "recomputed nodules are stored",
    "review serve": "every verdict that was acknowledged is stored",
    "review auto": "verdicts that were added are stored",
    "review import": "verdicts that were added are stored",
}
"""What commands leave that store their work bit by bit."""


def test_the_table_names_commands_that_exist():
    assert LONG.keys() <= {" ".join(path) for path, _ in commands()}


@pytest.mark.parametrize(
    "call",
    [tuple(command.epilog.removeprefix("Example: halosign ").split()) for _, command in commands()],
    ids=" ".join,
)
def test_an_interrupted_command_says_what_is_kept(call, halosign, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(TyperCommand, "invoke", interrupt)
    name = next((name for name in LONG if " ".join(call).startswith(f"{name} ")), "")
    done = halosign(*call)
    assert done.returncode == INTERRUPTED
    (words,) = done.stderr.splitlines()
    assert words.startswith("interrupted: ")
    assert words.endswith(". Run the same command again to continue.")
    assert LONG.get(name, KEPT) in words


def test_an_interruption_before_a_command_begins_says_so_too(halosign, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(TyperCommand, "parse_args", interrupt)
    done = halosign("status", "--store", "nowhere")
    assert done.returncode == INTERRUPTED
    assert f"interrupted: {KEPT}" in done.stderr

"""The command line: help with examples, clear errors, documented commands that exist."""

import re
import sys
from pathlib import Path

import dask
import pytest
import typer
from typer.testing import CliRunner

from flows.cli.main import app, main
from tests.test_documentation import documents

ROOT = Path(__file__).parents[3]


def commands(group=None, path=()):
    group = group or typer.main.get_command(app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


@pytest.mark.parametrize(
    ("path", "command"),
    list(commands()),
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_every_command_has_help_and_an_example_that_parses(path, command):
    assert command.help
    words = command.epilog.removeprefix("Example: ").split()
    assert words[: 1 + len(path)] == ["halosign", *path]
    context = command.make_context(" ".join(path), words[1 + len(path) :])
    assert context.params


def test_every_option_says_what_it_is():
    for path, command in commands():
        for parameter in command.params:
            assert parameter.name == "help" or getattr(parameter, "help", None), (
                path,
                parameter.name,
            )


@pytest.mark.parametrize(
    ("options", "auxiliary"),
    [
        ((), "told"),
        (("--no-aux",), "none"),
        (("--auxiliary", "none"), "none"),
        (("--auxiliary", "untold"), "untold"),
    ],
)
def test_a_network_learns_with_the_auxiliary_masks_unless_told_otherwise(
    options, auxiliary, monkeypatch
):
    asked = []
    monkeypatch.setattr(
        "flows.train.make_training_job", lambda *job: asked.append(job[3]) or sys.exit(0)
    )
    command = dict(commands())[("train",)]
    with pytest.raises(SystemExit):
        command.main(["--release", "0.1.0", "--store", "s", *options], standalone_mode=False)
    assert asked == [auxiliary]


def test_a_switch_is_shown_without_a_type():
    assert "<bool>" not in CliRunner().invoke(app, ["--help"]).output
    assert "<bool>" not in CliRunner().invoke(app, ["list", "--help"]).output


@pytest.mark.parametrize("page", [str(path.relative_to(ROOT)) for path in documents()])
def test_the_commands_in_the_docs_exist_with_their_options(page):
    known = {path: {o for p in command.params for o in p.opts} for path, command in commands()}
    for line in re.findall(
        r"^ *(?:\$ )?halosign (.*?)(?:  +#.*)?$", (ROOT / page).read_text(), re.MULTILINE
    ):
        words = line.split()
        path = next((tuple(words[:n]) for n in (3, 2, 1) if tuple(words[:n]) in known), None)
        assert path, f"{page}: no such command: halosign {line}"
        assert {word for word in words if word.startswith("--")} <= known[path], (
            f"{page}: halosign {line}"
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("curate", "--store", "s"), "exactly one source is required"),
        (("plan", "--store", "s", "--dicom", "a", "--nodules", ""), "expected names separated by"),
        (
            ("release", "export", "1", "--store=s", "--format=npz", "--to=d", "--split=,"),
            "expected names separated by",
        ),
        (
            ("curate", "--store", "s", "--dicom", "a", "--files", "b"),
            "exactly one source is required",
        ),
        (
            (
                "curate",
                "--files",
                "pyproject.toml",
                "--store",
                "s",
                "--scheduler",
                "x",
                "--workers",
                "2",
            ),
            "use only one of --scheduler",
        ),
        (("status", "--store", "nowhere"), "there is no store here"),
        (("release", "verify", "v1", "--store", "nowhere"), "there is no store here"),
        (("nonsense",), "No such command"),
        (("list", "--store", "nowhere"), "there is no store here"),
        (("plan", "--files", "pyproject.toml", "--store", "s", "--set", "x"), "cannot be parsed"),
        (("synthesize", "--dicom", "nowhere", "--patients", "LIDC-IDRI-9999"), "LIDC-IDRI-9999"),
        (("demo", "--workers", "0"), "got '0', expected a value greater than or equal to 1"),
        (("demo", "--workers", "two"), "got 'two', expected a valid integer"),
        (
            ("curate", "--store=s", "--dicom=a", "--log-format=xml"),
            "got 'xml', expected one of 'text', 'json'",
        ),
    ],
)
def test_wrong_use_ends_with_2_and_one_clear_paragraph(halosign, arguments, message):
    done = halosign(*arguments)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr
    assert not Path("s").exists()
    assert not Path("nowhere").exists()


def test_a_terminal_shows_an_error_in_lines_of_whole_words(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["halosign", "status", "--store", str(tmp_path / ("x" * 90))])
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    with pytest.raises(SystemExit):
        main()
    lines = capsys.readouterr().err.splitlines()
    assert [len(line) > 65 for line in lines].count(True) == 1
    assert any(line.strip(" ,") == str(tmp_path / ("x" * 90)) for line in lines)
    assert lines[0].endswith("error: there is no store here: got")


@pytest.mark.parametrize("command", ["plan", "curate"])
def test_a_source_that_is_away_ends_with_1_and_touches_nothing(halosign, command):
    done = halosign(command, "--store", "s", "--files", "nowhere.csv")
    assert done.returncode == 1
    assert "the source is not reachable: got" in done.stderr
    assert "nowhere.csv: No such file or directory" in done.stderr
    assert "Traceback" not in done.stderr
    assert not Path("s").exists()


def test_a_scheduler_that_does_not_respond_is_an_error(halosign, table, recipe, tmp_path):
    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}):
        done = halosign(
            "curate", "--files", table, "--store", tmp_path / "store", "--recipe", recipe,
            "--scheduler", "tcp://127.0.0.1:9",
        )  # fmt: skip
    assert done.returncode == 2
    assert "error: the Dask scheduler does not respond: got tcp://127.0.0.1:9" in done.stderr


@pytest.mark.slow
def test_progress_goes_to_the_error_stream(halosign, table, recipe, tmp_path):
    store = tmp_path / "store"
    halosign(
        "curate", "--files", table, "--store", store, "--recipe", recipe, "--patients", "P-n1"
    )  # fmt: skip
    done = halosign("store", "check", "--store", store)
    assert done.returncode == 0, done.stderr
    assert "1 nodule verified, 0 damaged" in done.stdout
    assert "verifying" not in done.stdout


@pytest.mark.slow
def test_it_works_without_a_running_server(halosign_process, table, recipe, tmp_path):
    done = halosign_process(
        "curate", "--files", table, "--store", tmp_path / "store", "--recipe", recipe,
        "--patients", "P-n1", "--workers", 1,
        PREFECT_API_URL="", PREFECT_HOME=str(tmp_path / "prefect"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "1 computed" in done.stdout

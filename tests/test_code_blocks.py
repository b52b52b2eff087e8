"""Code in the documentation: Python runs, command lines parse, recipes are read.

A block is left out by the comment `<!-- not run: why -->` on the line before it.
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import typer.main
from click.testing import CliRunner
from huggingface_hub.cli.hf import app as hugging_face

from flows.cli.main import app
from flows.curate import curate_nodule
from storage.recipe import Recipe, load_recipe
from storage.releases.reader import ReleaseReader
from storage.releases.release import open_release, publish_release
from storage.sources.registry import SourceSpec
from storage.store import open_store
from tasks.auto_select import pick_automatically
from tasks.curation.context import CurationJob
from tasks.curation.inventory import take_inventory
from tasks.publish import draft_release
from tests.phantoms import ball_patch, write_table
from tests.test_documentation import documents

ROOT = Path(__file__).parents[1]
PAGES = documents()
BLOCK = re.compile(
    r"(?P<mark><!-- not run: [^>]+ -->\n)?^```(?P<language>\w+)\n(?P<code>.*?)^```", re.M | re.S
)
SMALL = {
    "crop": {"in_plane_voxels": 32},
    "release": {"split_seed": 2, "train": 0.4, "validation": 0.3},
}


def blocks(path: Path, language: str) -> Iterator[str]:
    """Yield the blocks of a language that are to be run."""
    for found in BLOCK.finditer(path.read_text()):
        if found["language"] == language and not found["mark"]:
            yield found["code"]


def with_blocks(language: str) -> list[Path]:
    return [path for path in PAGES if any(blocks(path, language))]


def page_name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_every_block_has_a_language() -> None:
    fences = [
        (page_name(path), line)
        for path in PAGES
        for number, line in enumerate(
            [line for line in path.read_text().splitlines() if line.startswith("```")]
        )
        if number % 2 == 0 and line == "```"
    ]
    assert fences == []


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages take for granted: a store with release 0.1.0, mattes, a table."""
    folder = tmp_path_factory.mktemp("pages")
    write_table(folder, {f"n{n}": ball_patch(seed=n) for n in range(8)})
    store = open_store(str(folder / "store"), create=True)
    recipe = Recipe.model_validate(SMALL)
    job = CurationJob(SourceSpec("files", str(folder / "table.csv")), store.url, recipe)
    for nodule in take_inventory(job, None).nodules:
        assert curate_nodule(nodule, job).state == "done"
    pick_automatically(store)
    publish_release(store, "0.1.0", draft_release(store, "0.1.0", recipe), publisher="test")
    (folder / "demo").mkdir()
    (folder / "demo" / "store").symlink_to(folder / "store")
    reader = ReleaseReader(open_release(store.url, "0.1.0"))
    (folder / "mattes").mkdir()
    for nodule in reader.nodules("test"):
        mean = (reader.read(nodule, "readers") > 0).mean(axis=0)
        np.savez(folder / "mattes" / f"{nodule}.npz", alpha=mean)
    (folder / "nodules.csv").write_text("voi,patient\nn1,p1\n")
    return folder


@pytest.mark.parametrize("path", with_blocks("python"), ids=page_name)
def test_python_runs(path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page run one after the other, as in a notebook."""
    monkeypatch.chdir(store)
    monkeypatch.setenv("MPLBACKEND", "agg")
    reader = ReleaseReader(open_release("store", "0.1.0"))
    names: dict[str, object] = {
        "volume_hu": reader.read("n0", "image"),
        "trimap": reader.read("n0", "trimap"),
    }
    for number, code in enumerate(blocks(path, "python")):
        exec(compile(code, f"{page_name(path)}, block {number}", "exec"), names)


@pytest.mark.parametrize("path", with_blocks("sh"), ids=page_name)
def test_command_lines_parse(path: Path) -> None:
    """Each line that begins with `halosign` or `hf` has the arguments that the command takes."""
    command = typer.main.get_command(app)
    for code in blocks(path, "sh"):
        for line in code.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words = words[1:]
            if words[:1] == ["halosign"]:
                parse(command, words[1:])
            if words[:1] == ["hf"]:
                helped = CliRunner().invoke(hugging_face, [*words[1:], "--help"])
                assert helped.exit_code == 0, (line, helped.output)


def test_commands_in_the_tables_parse() -> None:
    text = (ROOT / "docs" / "coming_from.md").read_text()
    found = re.findall(r"`halosign ([^`]+ --[^`]+)`", text)
    assert len(found) > 15
    for words in found:
        parse(typer.main.get_command(app), shlex.split(words))


def parse(command: object, words: list[str]) -> None:
    """Parse a command line down to its command; raises what a user would see."""
    parent = None
    while hasattr(command, "commands"):
        context = command.make_context(words[0] if words else "", list(words), parent=parent)
        words = [*context._protected_args, *context.args]
        if not words:
            return
        parent, command = context, command.commands[words[0]]
        words = words[1:]
    command.make_context("command", list(words), parent=parent)


@pytest.mark.parametrize("path", [ROOT / "docs/recipes.md", ROOT / "docs/review.md"], ids=page_name)
def test_recipes_are_read(path: Path, tmp_path: Path) -> None:
    for code in blocks(path, "yaml"):
        (tmp_path / "recipe.yaml").write_text(code)
        load_recipe(str(tmp_path / "recipe.yaml"))

"""The documentation as a site: it builds without a warning, is complete, and can be heard."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import halosign
from tests.test_code_blocks import blocks

ROOT = Path(__file__).parents[1]


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("sphinx", reason="Sphinx is not installed: see `make docs`")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "docs", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_site_has_every_public_name_command_and_the_notebook(site: Path) -> None:
    page = (site / "python.html").read_text()
    assert [name for name in halosign.__all__ if f'id="halosign.{name}"' not in page] == []
    commands = (site / "commands.html").read_text()
    assert "halosign release export" in commands
    notebook = json.loads((site / "tutorial.ipynb").read_text())
    assert {cell["cell_type"] for cell in notebook["cells"]} == {"code", "markdown"}
    # Its cells are the blocks that `test_python_runs` runs one after the other
    code = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert code == [block.strip() for block in blocks(ROOT / "docs" / "tutorial.md", "python")]


@pytest.mark.parametrize("name", ["index", "tutorial", "api", "releases", "benchmarks", "commands"])
def test_a_screen_readers_tree_has_no_serious_fault(
    site: Path, chromium: Any, axe_faults: Callable[[Any], list[Any]], name: str
) -> None:
    context = chromium.new_context(bypass_csp=True)
    page = context.new_page()
    page.goto((site / f"{name}.html").as_uri())
    faults = axe_faults(page)
    context.close()
    assert [fault for fault in faults if fault[1] in {"serious", "critical"}] == []

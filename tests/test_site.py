"""The documentation as a site: it builds without a warning, and has every public name."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import halosign

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_site_builds_and_has_every_public_name(tmp_path: Path) -> None:
    pytest.importorskip("sphinx", reason="Sphinx is not installed: see `make docs`")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "docs", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "python.html").read_text()
    assert [name for name in halosign.__all__ if f'id="halosign.{name}"' not in page] == []
    commands = (tmp_path / "commands.html").read_text()
    assert "halosign release export" in commands
    notebook = json.loads((tmp_path / "tutorial.ipynb").read_text())
    assert {cell["cell_type"] for cell in notebook["cells"]} == {"code", "markdown"}

"""The documentation as a site: `make docs`.

The pages are those of this folder. What can be told from the code is written while the site is
built: the commands from their help, the Python reference from docstrings, the notebook from the
tutorial.
"""

import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from sphinx.application import Sphinx

HERE = Path(__file__).parent
PUBLIC = ("halosign", "matting.geometry.trimap", "matting.measures.metrics", "matting.parameters")
WRITTEN = ("readme.md", "changelog.md", "commands.md", "python.md")
"""Pages that are written here; git ignores them."""

project = "Halosign"
author = "the Halosign developers"
release = metadata.version("halosign")
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["results", "build"]
html_theme = "furo"
html_title = f"Halosign {release}"
html_show_copyright = False
smartquotes = False
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
autodoc_typehints = "description"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
copybutton_exclude = ".linenos, .gp, .go"


def write_pages() -> None:
    """Write the pages that are not kept."""
    links = re.compile(r"\]\((?!https?:|#)(?:docs/)?([^)]+)\)")
    readme = (HERE.parent / "README.md").read_text()
    (HERE / "readme.md").write_text(links.sub(_link, readme).replace("# Halosign", "# README", 1))
    changes = (HERE.parent / "CHANGELOG.md").read_text()
    (HERE / "changelog.md").write_text(links.sub(_link, changes))
    command = [sys.executable, "-m", "typer", "flows.cli.main", "utils", "docs"]
    done = subprocess.run(
        [*command, "--name", "halosign"],
        cwd=HERE.parent,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    (HERE / "commands.md").write_text(done.stdout.replace("# `halosign`", "# Commands", 1))
    # A constant that is imported from elsewhere is no member to autodoc
    directives = ["autodata:: halosign.METHODS", *(f"automodule:: {name}" for name in PUBLIC)]
    parts = [f"```{{eval-rst}}\n.. {directive}\n```\n" for directive in directives]
    (HERE / "python.md").write_text("# Python reference\n\n" + "\n".join(parts))


def _link(found: re.Match[str]) -> str:
    """Return a link of a page of the root, as seen from this folder."""
    target = found[1]
    inside = (HERE / target.partition("#")[0]).exists()
    return f"]({target if inside else f'../{target}'})"


def link_pages(_: Sphinx, __: str, source: list[str]) -> None:
    """Lead links to pages of the root to their copies."""
    for page in ("README", "CHANGELOG"):
        source[0] = source[0].replace(f"](../{page}.md", f"]({page.lower()}.md")


def write_notebook(app: Sphinx, error: Exception | None) -> None:
    """Write the tutorial as a notebook beside its page."""
    if error is None:
        notebook = as_notebook((HERE / "tutorial.md").read_text())
        (Path(app.outdir) / "tutorial.ipynb").write_text(json.dumps(notebook, indent=1))


def complete_for_keyboards(app: Sphinx, error: Exception | None) -> None:
    """Add what the theme leaves out: the level of a heading, and focus for what can be scrolled."""
    if error is None:
        for page in Path(app.outdir).rglob("*.html"):
            text = page.read_text()
            text = text.replace('role="heading">', 'role="heading" aria-level="2">')
            text = text.replace(
                '<div class="table-wrapper', '<div tabindex="0" class="table-wrapper'
            )
            page.write_text(text.replace("<pre>", '<pre tabindex="0">'))


def as_notebook(text: str) -> dict[str, object]:
    """Return a page of Markdown as a notebook: each block of Python is a cell."""
    cells = []
    for number, part in enumerate(re.split(r"```python\n(.*?)```\n", text, flags=re.DOTALL)):
        source = part.strip().splitlines(keepends=True)
        code = {"cell_type": "code", "execution_count": None, "outputs": []}
        kind = code if number % 2 else {"cell_type": "markdown"}
        if source:
            cells.append({"id": f"cell-{number}", "metadata": {}, "source": source, **kind})
    return {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


def setup(app: Sphinx) -> None:
    """Write the pages before Sphinx looks for them."""
    write_pages()
    app.connect("source-read", link_pages)
    app.connect("build-finished", write_notebook)
    app.connect("build-finished", complete_for_keyboards)

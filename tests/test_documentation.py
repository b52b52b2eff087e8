"""Names of the code and links in documentation and docstrings refer to something that exists."""

import ast
import importlib
import importlib.util
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("flows", "tasks", "matting", "storage", "qc", "tests", "benchmarks", "recipes")
DOTTED = re.compile(rf"(?<![\w./-])(?:halosign|{'|'.join(PACKAGES)})(?:\.[A-Za-z_]\w*)+(?!\w*[/-])")
PATH = re.compile(rf"(?<![\w./-])(?:{'|'.join(PACKAGES)}|docs|examples)/[\w./-]*\w")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
KEYS = {"recipes/paper.yaml"}


def tracked(*patterns: str) -> list[Path]:
    """Return the files that git tracks, or those of the folder outside a checkout."""
    command = ["git", "-C", str(ROOT), "ls-files", "--", *patterns]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return [ROOT / name for name in listed if (ROOT / name).is_file()]


def documents() -> list[Path]:
    """The documentation as it is now; the changelog names what was."""
    return [path for path in tracked("*.md") if path.name != "CHANGELOG.md"]


@cache
def exists(dotted: str) -> bool:
    """Return whether a dotted name is a module, or an attribute of one."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        try:
            if importlib.util.find_spec(name) is None:
                continue
        except ModuleNotFoundError:
            continue
        found: object = importlib.import_module(name)
        for part in parts[length:]:
            fields = getattr(found, "__annotations__", {})
            if part in fields and not hasattr(found, part):
                return part == parts[-1]
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


def docstrings(path: Path) -> str:
    """Return all docstrings of a file, those of attributes included."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return "\n".join(
        node.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def is_recipe_key(dotted: str) -> bool:
    """`recipes` has no names of its own, and files are no names."""
    return dotted.endswith((".md", ".yaml", ".py", ".json", ".html", ".csv", ".svg", ".png"))


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_names_in_documents_exist(path: Path) -> None:
    named = {name for name in DOTTED.findall(path.read_text()) if not is_recipe_key(name)}
    assert [name for name in sorted(named) if not exists(name)] == []


def test_names_in_docstrings_exist() -> None:
    missing = []
    for path in tracked("*.py"):
        for name in sorted(set(DOTTED.findall(docstrings(path)))):
            if not is_recipe_key(name) and not exists(name):
                missing.append(f"{path.relative_to(ROOT)}: {name}")
    assert missing == []


def test_paths_in_documents_and_docstrings_exist() -> None:
    missing = []
    for path in [*documents(), *tracked("*.py")]:
        text = docstrings(path) if path.suffix == ".py" else path.read_text()
        for name in sorted(set(PATH.findall(text))):
            if not (ROOT / name).exists():
                missing.append(f"{path.relative_to(ROOT)}: {name}")
    assert missing == []


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    targets = [target for target in LINK.findall(path.read_text()) if "://" not in target]
    assert [target for target in targets if not (path.parent / target).exists()] == []


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("matting.estimate", True),
        ("matting.estimate.solve", True),
        ("storage.store.Store.get", True),
        ("matting.learned.prediction", True),
        ("matting.estimates", False),
        ("storage.store.Store.fetch", False),
    ],
)
def test_a_name_is_looked_up_to_its_last_part(name: str, found: bool) -> None:
    assert exists(name) is found

"""The package that users import: its names, their types, and its independence of the rest."""

import ast
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import halosign

ROOT = Path(__file__).parents[2]


def typed_names() -> dict[str, str]:
    """Return the module of each name as type checkers see it."""
    tree = ast.parse((ROOT / "halosign" / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    return {
        alias.name: f"{node.module}"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_type_checkers_see_the_names_that_python_gives():
    assert typed_names() == halosign._HOMES
    assert set(halosign.__all__) == set(halosign._HOMES) <= set(dir(halosign))
    assert halosign.__version__ == version("halosign")


@pytest.mark.parametrize("name", halosign.__all__)
def test_a_public_name_is_described(name):
    found = getattr(halosign, name)
    assert name == "METHODS" or found.__doc__
    assert f"`{name}" in (ROOT / "docs" / "api.md").read_text()


def test_an_unknown_name_is_no_attribute():
    with pytest.raises(AttributeError, match="module 'halosign' has no attribute 'solver'"):
        _ = halosign.solver


def test_every_package_is_typed():
    for package in (*halosign.isolation.PACKAGES, "halosign"):
        assert package == "recipes" or (ROOT / package / "py.typed").is_file()


def test_importing_it_is_quick():
    code = (
        "import sys, halosign; "
        "sys.exit(any(name in sys.modules for name in ('numpy', 'numba', 'torch', 'prefect')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

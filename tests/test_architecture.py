"""No circle among the folders of a root folder. What else imports must not do: pyproject.toml."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOT_FOLDERS = ("flows", "tasks", "qc", "storage", "matting")


def entry_of(module: str) -> str:
    """Return the folder or module directly below the root folder that a module belongs to."""
    return ".".join(module.split(".")[:2])


def imports_of(path: Path) -> set[str]:
    """Return the modules that a file imports, each name of a `from` import as a possible module."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def graph_of(root_folder: Path) -> dict[str, set[str]]:
    """Return for each entry of a root folder the other entries that it imports."""
    graph: dict[str, set[str]] = {}
    for path in sorted(root_folder.rglob("*.py")):
        module = ".".join(path.relative_to(root_folder.parent).with_suffix("").parts)
        entry = entry_of(module.removesuffix(".__init__"))
        if entry == root_folder.name:
            continue
        targets = {entry_of(name) for name in imports_of(path)}
        wanted = {name for name in targets if name.startswith(f"{root_folder.name}.")}
        graph.setdefault(entry, set()).update(wanted - {entry})
    return graph


def circle_in(graph: dict[str, set[str]]) -> list[str]:
    """Return one circle, or an empty list."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


@pytest.mark.parametrize("name", ROOT_FOLDERS)
def test_folders_import_each_other_in_one_direction(name: str) -> None:
    graph = graph_of(ROOT / name)
    assert len(graph) > 3
    assert circle_in(graph) == []


def test_a_circle_is_found(tmp_path: Path) -> None:
    for name, line in {"a/x": "from house.b import y", "b/y": "import house.a.x"}.items():
        path = tmp_path / "house" / f"{name}.py"
        path.parent.mkdir(parents=True)
        path.write_text(line)
    assert set(circle_in(graph_of(tmp_path / "house"))) == {"house.a", "house.b"}

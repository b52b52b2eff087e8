"""Signs of readability, counted the same way for this project and for any other source tree.

    python -m benchmarks.house                       # this project
    python -m benchmarks.house ../before ../zarr-python/src/zarr

The counts are signs, not gates: they show where to look, and nothing is written for a count.
"""

import ast
import io
import subprocess
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import command_line, table

LONG_LINE = 100
SHORT_BODY = 25
LONG_FILE = 400
MANY_PARAMETERS = 3
NOT_SOURCE = ("test", "benchmark", "doc", "example", "asv", "bench", "build", ".")
"""Folders that begin so are not counted as source."""
HOME_MADE_VERBS = ("Give", "Tell", "Say", "Let", "Put", "Hold", "Take")
"""First words of docstrings that few other projects use."""


@dataclass(frozen=True, slots=True)
class Tree:
    """The parsed source files of one project."""

    name: str
    files: dict[Path, tuple[str, ast.Module]]
    test_lines: int


def read_tree(root: Path) -> Tree:
    """Parse the Python source below a folder, and count the lines of its tests."""
    files = {}
    test_lines = 0
    for path in tracked(root):
        parts = path.relative_to(root).parts
        text = path.read_text(encoding="utf-8", errors="replace")
        if any(part.startswith("test") or part == "conftest.py" for part in parts):
            test_lines += len(text.splitlines())
        elif not any(part.startswith(NOT_SOURCE) for part in parts[:-1]):
            try:
                files[path] = text, ast.parse(text)
            except SyntaxError:
                continue
    return Tree(root.resolve().name, files, test_lines)


def tracked(root: Path) -> list[Path]:
    """Return the Python files below a folder, those that git tracks where it is a checkout."""
    command = ["git", "-C", str(root), "ls-files", "-z", "*.py"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    if listed.returncode:
        return sorted(root.rglob("*.py"))
    return [root / name for name in listed.stdout.split("\0") if name and (root / name).is_file()]


def measure(tree: Tree) -> dict[str, Any]:
    """Return one row of the table."""
    texts = [text for text, _ in tree.files.values()]
    modules = [module for _, module in tree.files.values()]
    lines = [line for text in texts for line in text.splitlines()]
    functions = [function for module in modules for function in functions_of(module)]
    documented = [doc for module in modules for doc in docstrings(module)]
    verbs = Counter(doc.split(maxsplit=1)[0].rstrip(".:,") for doc in documented if doc.split())
    many = [one for one in functions if is_public(one) and len(parameters(one)) >= MANY_PARAMETERS]
    unexplained = [one for one in many if not explains_parameters(ast.get_docstring(one) or "")]
    assignments = [n for module in modules for n in ast.walk(module) if isinstance(n, ast.Assign)]
    comprehensions = sum(
        isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp)
        for module in modules
        for node in ast.walk(module)
    )
    bodies = [body_lines(function) for function in functions]
    return {
        "tree": tree.name,
        "files": len(texts),
        "lines": len(lines),
        "docstrings 'Give' etc.": sum(verbs[verb] for verb in HOME_MADE_VERBS),
        "docstrings 'Return'": verbs["Return"] + verbs["Returns"],
        "3+ parameters, none explained": f"{len(unexplained)} of {len(many)}",
        "comments, % of lines": percent(sum(map(count_comments, texts)), len(lines)),
        "tuple assignments, %": percent(sum(map(is_tuple, assignments)), len(assignments)),
        "comprehensions / 1000 lines": round(1000 * comprehensions / max(len(lines), 1), 1),
        f"lines over {LONG_LINE}, %": percent(sum(len(n) > LONG_LINE for n in lines), len(lines)),
        f"bodies to {SHORT_BODY} lines, %": percent(
            sum(n <= SHORT_BODY for n in bodies), len(bodies)
        ),
        f"files over {LONG_FILE} lines": sum(len(t.splitlines()) > LONG_FILE for t in texts),
        "dict[str, Any]": sum(text.count("dict[str, Any]") for text in texts),
        "most entries in a folder": largest_folder(tree),
        "test lines / source line": round(tree.test_lines / max(len(lines), 1), 2),
    }


def functions_of(module: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield every function and method."""
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def docstrings(module: ast.Module) -> Iterator[str]:
    """Yield the docstrings of functions and methods."""
    for function in functions_of(module):
        text = ast.get_docstring(function)
        if text:
            yield text


def is_public(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Return whether a name has no leading underscore."""
    return not function.name.startswith("_")


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Return the names of the parameters, without self and cls."""
    given = function.args
    names = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return [name for name in names if name not in {"self", "cls"}]


def explains_parameters(docstring: str) -> bool:
    """Return whether a docstring has a section on parameters (Google, NumPy or Sphinx style)."""
    return any(mark in docstring for mark in ("Args:", "Arguments:", "Parameters\n", ":param"))


def count_comments(text: str) -> int:
    """Return the number of lines that hold a comment."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    try:
        return len({token.start[0] for token in tokens if token.type == tokenize.COMMENT})
    except (tokenize.TokenError, SyntaxError):
        return 0


def is_tuple(assignment: ast.Assign) -> bool:
    """Return whether several values are assigned to several names in one line."""
    return isinstance(assignment.targets[0], ast.Tuple) and isinstance(assignment.value, ast.Tuple)


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of a function's body, without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    if not body:
        return 0
    return (body[-1].end_lineno or 0) - body[0].lineno + 1


def largest_folder(tree: Tree) -> int:
    """Return the number of modules and packages in the fullest folder."""
    entries: dict[Path, set[str]] = {}
    for path in tree.files:
        if path.name != "__init__.py":
            entries.setdefault(path.parent, set()).add(path.name)
        else:
            entries.setdefault(path.parent.parent, set()).add(path.parent.name)
    return max(map(len, entries.values()), default=0)


def percent(part: int, whole: int) -> float:
    """Return a share in percent, with one decimal."""
    return round(100 * part / max(whole, 1), 1)


def main(roots: Iterable[Path]) -> None:
    """Print the table, one column per tree."""
    rows = [measure(read_tree(root)) for root in roots]
    columns = ["sign", *(str(row["tree"]) for row in rows)]
    signs = [sign for sign in rows[0] if sign != "tree"]
    print(table(columns, [[sign, *(row[sign] for row in rows)] for sign in signs]))


if __name__ == "__main__":
    parser = command_line(__doc__)
    parser.add_argument("roots", type=Path, nargs="*", default=[Path(__file__).parents[1]])
    main(parser.parse_args().roots)

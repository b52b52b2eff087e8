"""One-line mutation testing of the five packages, with the tests that reach the mutated module.

    python -m benchmarks.mutants [--count 60] [--seed 1] [--only N] [--jobs 2]

A mutant changes one line: a comparison, an arithmetic operator, `and`/`or`, a dropped `not`, a
constant by one, `min` for `max`, a removed early return. Its tests are those that import its
module, the nearest in the import graph first and the test file of the same path before all. The
test that kills a mutant must pass without it. Everything runs in copies of the tree. The results
are written to benchmarks/results/mutants.json after each mutant, so the same command resumes. A
survivor is either a line that no test checks or a change without effect: look at each.
"""

import ast
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from benchmarks.measure import RESULTS, command_line, table

ROOT = Path(__file__).parents[1]
PACKAGES = ("flows", "tasks", "matting", "storage", "qc")
FILE = RESULTS / "mutants.json"
MAX_HOPS = 4
"""A test reaches a module that it imports (1), or that a module which it imports imports (2) ..."""
MAX_FILES = 3
"""Test files of one mutant, the nearest first."""
LIMIT_S = 900
"""Seconds for the tests of one mutant; one that takes longer counts as killed by the limit."""

SWAPS = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "/"),
    ast.And: ("and", "or"),
    ast.Or: ("or", "and"),
}


@dataclass(frozen=True, order=True)
class Mutant:
    """One changed line."""

    path: str
    line: int
    before: str
    after: str


class Finder(ast.NodeVisitor):
    """Collects the mutants of one module; text, annotations and decorators of functions stay."""

    def __init__(self, path: str, source: str) -> None:
        self.path = path
        self.lines = source.splitlines()
        self.found: list[Mutant] = []

    def add(self, line: int, start: int, end: int, text: str) -> None:
        # Columns of ast count bytes of UTF-8.
        before = self.lines[line - 1]
        raw = before.encode()
        after = (raw[:start] + text.encode() + raw[end:]).decode()
        if after != before:
            self.found.append(Mutant(self.path, line, before, after))

    def swap(self, operator: ast.AST, left: ast.expr, right: ast.expr) -> None:
        """Replace the operator between two expressions of one line."""
        if type(operator) not in SWAPS or left.end_lineno != right.lineno:
            return
        old, new = SWAPS[type(operator)]
        start, end = left.end_col_offset or 0, right.col_offset
        between = self.lines[right.lineno - 1].encode()[start:end].decode()
        if between.count(old) == 1 and re.fullmatch(r"[\s()]*", between.replace(old, "", 1)):
            swapped = between.replace(old, new, 1)
            self.add(right.lineno, start, end, swapped)

    def visit_Compare(self, node: ast.Compare) -> None:
        operands = [node.left, *node.comparators]
        for left, operator, right in zip(operands, node.ops, operands[1:], strict=False):
            self.swap(operator, left, right)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if not any(_is_text(side) for side in (node.left, node.right)):
            self.swap(node.op, node.left, node.right)
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        for left, right in zip(node.values, node.values[1:], strict=False):
            self.swap(node.op, left, right)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not) and node.lineno == node.operand.lineno:
            self.add(node.lineno, node.col_offset, node.operand.col_offset, "")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self.add(node.lineno, node.col_offset, node.end_col_offset or 0, str(not node.value))
        elif isinstance(node.value, int):
            self.add(node.lineno, node.col_offset, node.end_col_offset or 0, str(node.value + 1))

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func
        if isinstance(name, ast.Name) and name.id in {"min", "max"}:
            other = "max" if name.id == "min" else "min"
            self.add(name.lineno, name.col_offset, name.end_col_offset or 0, other)
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        *rest, last = node.body
        is_exit = isinstance(last, ast.Return | ast.Continue | ast.Break)
        if is_exit and not rest and not node.orelse and last.lineno == last.end_lineno:
            self.add(last.lineno, last.col_offset, last.end_col_offset or 0, "pass")
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        for default in (*node.args.defaults, *(d for d in node.args.kw_defaults if d)):
            self.visit(default)
        for statement in node.body:
            self.visit(statement)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value:
            self.visit(node.value)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Leave f-strings alone: Python 3.11 does not know the positions inside."""


def _is_text(node: ast.expr) -> bool:
    constant = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return constant or isinstance(node, ast.JoinedStr)


def find_mutants(path: str) -> list[Mutant]:
    source = (ROOT / path).read_text(encoding="utf-8")
    finder = Finder(path, source)
    finder.visit(ast.parse(source))
    return sorted({mutant for mutant in finder.found if _parses(source, mutant)})


def _parses(source: str, mutant: Mutant) -> bool:
    try:
        ast.parse(mutated(source, mutant))
    except SyntaxError:
        return False
    return True


def mutated(source: str, mutant: Mutant) -> str:
    lines = source.splitlines(keepends=True)
    lines[mutant.line - 1] = mutant.after + "\n"
    return "".join(lines)


def tracked(*patterns: str) -> list[str]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


def choose(count: int, seed: int) -> list[Mutant]:
    """Draw mutants, equally many of each package, at most one of a line."""
    dice = random.Random(seed)
    chosen = []
    for number, package in enumerate(PACKAGES):
        found = [mutant for path in tracked(f"{package}/*.py") for mutant in find_mutants(path)]
        dice.shuffle(found)
        lines = {(mutant.path, mutant.line): mutant for mutant in reversed(found)}
        share = count // len(PACKAGES) + (number < count % len(PACKAGES))
        chosen += list(lines.values())[:share]
    dice.shuffle(chosen)  # so that a part of them is of all packages
    return chosen


def imports() -> dict[str, set[str]]:
    """Return the files that each file imports, at its top or in a function."""
    files = tracked("*.py")
    modules = {_module(name): name for name in files}
    found: dict[str, set[str]] = {}
    for name in files:
        imported: set[str] = set()
        for node in ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported |= {node.module}
                imported |= {f"{node.module}.{alias.name}" for alias in node.names}
        found[name] = {modules[module] for module in imported if module in modules}
    return found


def _module(name: str) -> str:
    return name.removesuffix(".py").replace("/", ".").removesuffix(".__init__")


def tests_of(path: str, graph: dict[str, set[str]]) -> list[str]:
    """Return the test files that reach a module, the nearest first."""
    importers: dict[str, set[str]] = defaultdict(set)
    for name, imported in graph.items():
        for other in imported:
            importers[other].add(name)
    hops = {path: 0}
    for distance in range(1, MAX_HOPS + 1):
        for name in [name for name, known in hops.items() if known == distance - 1]:
            for importer in importers[name]:
                hops.setdefault(importer, distance)
    # The fixtures of a conftest.py serve every test below its folder.
    tests = [name for name in graph if _is_test(name)]
    for name in tests:
        for folder in Path(name).parents:
            conftest = f"{folder}/conftest.py"
            if conftest in hops:
                hops[name] = min(hops.get(name, MAX_HOPS + 1), hops[conftest] + 1)
    mirror = f"tests/{Path(path).parent}/test_{Path(path).name}"
    reached = [name for name in tests if name == mirror or hops.get(name, 99) <= MAX_HOPS]
    return sorted(reached, key=lambda name: (name != mirror, hops.get(name, 0), name))[:MAX_FILES]


def _is_test(name: str) -> bool:
    return name.startswith("tests/") and Path(name).name.startswith("test_")


def copy_tree(folder: Path) -> Path:
    for name in tracked():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
    return folder


def run_tests(tree: Path, tests: list[str], *options: str) -> tuple[int | None, str]:
    """Return pytest's exit code, None where it took too long, and the end of its output."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not slow", "-p", "no:cacheprovider"]
    environment = {
        **os.environ,
        "PYTHONPATH": str(tree),
        # A .pyc is found by size and time, which a mutant may share with the original.
        "PYTHONDONTWRITEBYTECODE": "1",
        "NUMBA_CACHE_DIR": str(tree / ".numba"),
    }
    process = subprocess.Popen(
        [*command, *options, *tests],
        cwd=tree,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=LIMIT_S)
        return process.returncode, output[-4000:]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return None, ""


def try_mutant(mutant: Mutant, tree: Path, files: list[str]) -> dict[str, Any]:
    """Run the tests of a mutant in a copy of the tree, which is unchanged again afterwards."""
    begin = time.monotonic()
    killed_by = ""
    remaining = list(files)
    while remaining:
        with applied(mutant, tree):
            code, output = run_tests(tree, remaining, "-x", "--no-header")
        if not code:
            killed_by = "time limit" if code is None else ""
            break
        # An id may contain spaces; " - " ends it. Captured log lines begin with ERROR too.
        found = re.search(r"^(?:FAILED|ERROR) (tests/.+?)(?: - .*)?$", output, re.MULTILINE)
        killed_by = found[1] if found else f"exit code {code}"
        if not found or passes(tree, killed_by):
            break
        # The test fails without the mutation too, so it proves nothing.
        remaining.remove(killed_by.partition("::")[0])
        killed_by = ""
    seconds = round(time.monotonic() - begin, 1)
    return {**asdict(mutant), "killed_by": killed_by, "tests": remaining, "seconds": seconds}


def passes(tree: Path, test: str) -> bool:
    """Return whether a test passes; where its id cannot be parsed, whether its file does."""
    code, _ = run_tests(tree, [test])
    if code == pytest.ExitCode.USAGE_ERROR:
        code, _ = run_tests(tree, [test.partition("::")[0]])
    return code == 0


@contextmanager
def applied(mutant: Mutant, tree: Path) -> Iterator[None]:
    target = tree / mutant.path
    source = target.read_text(encoding="utf-8")
    # Numba's cache of a kernel does not notice changes in the functions that it calls.
    stale = tree / ".numba" if mutant.path.startswith("matting/") else None
    if stale:
        shutil.rmtree(stale, ignore_errors=True)
    try:
        target.write_text(mutated(source, mutant), encoding="utf-8")
        yield
    finally:
        target.write_text(source, encoding="utf-8")
        if stale:
            shutil.rmtree(stale, ignore_errors=True)


def read_results() -> list[dict[str, Any]]:
    return json.loads(FILE.read_text())["mutants"] if FILE.exists() else []


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--count", type=int, default=60, help="mutants to draw")
    parser.add_argument("--seed", type=int, default=1, help="decides which are drawn")
    parser.add_argument("--only", type=int, help="try the first N of them")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at a time")
    given = parser.parse_args()
    drawn = choose(given.count, given.seed)
    results = {(r["path"], r["before"], r["after"]): r for r in read_results()}
    pending = [m for m in drawn[: given.only] if (m.path, m.before, m.after) not in results]
    graph = imports()
    with (
        tempfile.TemporaryDirectory(prefix="halosign-mutants-") as folder,
        ThreadPoolExecutor(given.jobs) as pool,
    ):
        trees: Queue[Path] = Queue()
        for number in range(given.jobs):
            trees.put(copy_tree(Path(folder) / str(number)))

        def run(mutant: Mutant) -> dict[str, Any]:
            tree = trees.get()
            try:
                return try_mutant(mutant, tree, tests_of(mutant.path, graph))
            finally:
                trees.put(tree)

        futures = {pool.submit(run, mutant): mutant for mutant in pending}
        for future in as_completed(futures):
            mutant = futures[future]
            result = future.result()
            results[mutant.path, mutant.before, mutant.after] = result
            save(drawn, results)
            print(f"{result['killed_by'] or 'SURVIVED'}  {mutant.path}:{mutant.line}", flush=True)
    done = save(drawn, results)
    rows = [(f"{r['path']}:{r['line']}", _change(r), r["killed_by"] or "SURVIVED") for r in done]
    print(table(("line", "change", "killed by"), rows))
    print(f"{len(done)} mutants, {sum(not r['killed_by'] for r in done)} survived")


def save(
    drawn: list[Mutant], results: dict[tuple[str, str, str], dict[str, Any]]
) -> list[dict[str, Any]]:
    keys = [(mutant.path, mutant.before, mutant.after) for mutant in drawn]
    done = [results[key] for key in keys if key in results]
    FILE.write_text(json.dumps({"mutants": done}, indent=1) + "\n")
    return done


def _change(result: dict[str, Any]) -> str:
    return f"{result['before'].strip()} -> {result['after'].strip()}"[:100]


if __name__ == "__main__":
    main()

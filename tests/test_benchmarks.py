import ast
import json
import re
from pathlib import Path

import numpy as np
import pytest

from matting import METHODS
from storage.cases.case import ALGORITHM_VERSION
from tests.references import Scene, closed_form, random_scene


def test_the_textbook_laplacian_is_that_of_the_formula() -> None:
    from benchmarks.textbook import laplacian

    scene = random_scene(3)
    everywhere = Scene(
        scene.intensity, np.ones(scene.intensity.shape, bool), scene.foreground, scene.spacing_mm
    )
    penalty = np.arange(scene.intensity.size, dtype=np.float64)
    got = laplacian(scene.intensity, 1e-3, penalty).toarray()
    np.testing.assert_allclose(got, closed_form(everywhere, 1e-3) + np.diag(penalty), atol=1e-12)


def test_a_spread_has_both_ends_and_no_doubles() -> None:
    from benchmarks.nodules import spread

    assert spread("abcdefg", 3) == ["a", "d", "g"]
    assert spread("abc", 10) == ["a", "b", "c"]


def test_slices_are_given_as_the_peer_takes_them() -> None:
    pytest.importorskip("pymatting")
    from benchmarks.nodules import Ready
    from benchmarks.peers import peer_estimators, solve_slices
    from matting.geometry.trimap import BACKGROUND, FOREGROUND, UNKNOWN
    from tests.phantoms import ball_patch

    patch = ball_patch()
    core, union = patch.readers.all(axis=0), patch.readers.any(axis=0)
    labels = np.where(core, FOREGROUND, np.where(union, UNKNOWN, BACKGROUND)).astype(np.uint8)
    slices = set(np.flatnonzero((labels == UNKNOWN).any(axis=(1, 2))))
    with_core = {z for z in slices if core[z].any()}
    assert with_core < slices
    for estimator in peer_estimators().values():
        solved = solve_slices(Ready("ball", patch, labels), estimator, cut=True)
        assert set(solved) == with_core
        for z, alpha in solved.items():
            assert (alpha[core[z]] > 0.9).all()
            assert (alpha[~union[z]] < 0.1).all()


def test_the_page_says_what_is_missed() -> None:
    from benchmarks.page import textbook

    side = {"seconds": 1.0, "megabytes": 2.0, "iterations": 3}
    report = {
        "id": "N",
        "unknown_voxels": 1000,
        "patch_voxels": 2000,
        "ratios": {"seconds": 199.0, "megabytes": 15.0},
    }
    report |= dict.fromkeys(("ours", "ours, pulled", "textbook"), side)
    text = textbook({**report, "mean_difference": {"ours": 1.1e-3, "ours, pulled": 1e-6}})
    verdicts = [line.rstrip(".").split()[-1] for line in text.splitlines() if "target" in line]
    assert verdicts == ["missed", "met", "met"]
    assert "| ours | 1 | 2 | 3 |" in text


def test_the_page_judges_cost_at_the_median_nodule_and_over_sizes() -> None:
    from benchmarks.page import cost

    def row(unknown: int, microseconds: float) -> dict[str, object]:
        costs = {"all eight": microseconds}
        return {
            "unknown_voxels": unknown,
            "seconds": {"all eight": 1e-6 * unknown * microseconds},
            "microseconds_per_unknown": costs | dict.fromkeys(METHODS, 1.0),
        }

    def verdicts(*rows: dict[str, object]) -> list[str]:
        for one in rows:
            one["seconds"] |= dict.fromkeys(METHODS, 0.1)
        text = cost({"nodules": list(rows), "median_nodule": rows[0]})
        return [word for word in text.replace(".", " ").split() if word in ("met", "missed")]

    assert verdicts(row(8_000, 60.0), row(20_000, 60.0), row(50_000, 75.0)) == ["met", "met"]
    assert verdicts(row(8_000, 63.0), row(20_000, 60.0), row(50_000, 79.0)) == ["missed", "missed"]
    assert verdicts(row(8_000, 60.0), row(20_000, 60.0)) == ["met", "missed"], (
        "nothing shown up to 100,000"
    )


def test_the_errors_page_names_every_loss_and_the_version() -> None:
    from benchmarks.errors_page import page

    rows = {method: {"alpha": 0.05, "density": 0.04} for method in METHODS} | {
        "best reader": {"alpha": 0.1, "density": 0.04}
    }
    report = {"algorithm": ALGORITHM_VERSION, "seeds": {"1": {"table": {"solid": rows}}}}
    text = page(report)
    assert f"Measured with algorithm version {ALGORITHM_VERSION}.\n" in text
    assert "| cf+ | 0.0400 |" in text
    assert "| best reader | 0.1000 / 0.0400 |" in text
    assert "in every kind" in text
    rows["best reader"]["density"] = 0.03
    text = page({**report, "algorithm": ALGORITHM_VERSION - 1})
    assert f"not with the current version {ALGORITHM_VERSION}" in text
    assert "- if+ on solid, seed 1: to best reader" in text
    assert "- if on solid" not in text


def test_the_page_judges_the_time_against_the_peers() -> None:
    from benchmarks.page import peers

    errors = {
        "cf": {"3D": 0.08, "2D": 0.1, "ratio": 1.25},
        "lb": {"3D": 0.11, "2D": 0.1, "ratio": 0.909},
    }
    ratios = {"cut ratio": 8.0, "cf cut, a voxel, ratio": 0.99}
    time = {"slices": 4, "unsolved": 1}
    text = peers(
        {"times": [time], "truth_errors": errors, "median_ratios": ratios, "stand_ins": []}
    )
    assert "8.0 times ours, target 8: met." in text
    assert "0.99 times ours, target at least 1:\n  missed." in text


def test_a_stage_is_timed_without_the_stages_that_it_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import stages

    clock, now = stages.Clock(), [0.0]
    monkeypatch.setattr(stages.time, "process_time", lambda: now[0])

    def take(seconds: float) -> None:
        now[0] += seconds

    search = clock.timed("neighbour search", take)

    def build() -> None:
        take(1.0)
        search(4.0)
        search(2.0)

    clock.timed("operators", build)()
    assert clock.seconds["operators"] == 1.0
    assert clock.seconds["neighbour search"] == 6.0


def test_the_stages_of_this_version_are_all_found() -> None:
    from importlib import import_module

    from benchmarks.stages import STAGES

    for names in STAGES.values():
        module, name = names[-1].rsplit(".", 1)
        assert callable(getattr(import_module(module), name))


def test_attacks_are_counted_and_what_broke_is_named() -> None:
    from benchmarks.attack import Count, count, page, survived_percent

    report = """<testsuites><testsuite>
    <testcase classname="tests.a" name="test_many"><properties><property name="tried" value="98"/>
    </properties></testcase>
    <testcase classname="tests.a" name="test_one"/>
    <testcase classname="tests.a" name="test_lost"><failure/></testcase>
    <testcase classname="tests.a" name="test_elsewhere"><skipped/></testcase>
    </testsuite></testsuites>"""
    counted = count(report)
    assert counted == Count(100, 1, ("tests.a::test_lost",), 1)
    assert survived_percent({"a": counted}) == 99.0
    text = page({"a": counted, "b": Count(100, 0)})
    assert "not survived: tests.a::test_lost" in text
    assert "99.50 % survived" in text


def test_every_area_of_attacks_names_tests_that_exist() -> None:
    from benchmarks.attack import AREAS, ROOT

    assert [
        place for places in AREAS.values() for place in places if not (ROOT / place).exists()
    ] == []


def test_promises_of_the_review_server_that_do_not_hold_are_named() -> None:
    from benchmarks.attack_review import broken_promises

    good = {
        "phases": {"quiet": {"p95_ms": 10.0, "memory_mb": 300.0}},
        "wrong_token_answers": {403: 3, 429: 9},
        "hostile_answers": {404: 1},
        "files_changed": 0,
        "tracebacks": 0,
        "log_bytes": 10,
    }
    assert broken_promises(good) == []
    slow = {"phases": {**good["phases"], "loud": {"p95_ms": 300.0, "memory_mb": 333.0}}}
    assert broken_promises({**good, **slow}) == ["loud: p95 300 ms", "memory grew by 33 MB"]
    bad = {"hostile_answers": {200: 1, 404: 9}, "files_changed": 1, "log_bytes": 10**6}
    assert broken_promises({**good, **bad}) == [
        "1000000 bytes of log",
        "1 files_changed",
        "answers [200] to what must be refused",
    ]


def test_ratios_are_those_of_the_sums_and_the_median_of_each() -> None:
    from benchmarks.against import summary

    def row(unknown: int, then: float, now: float) -> dict[str, object]:
        return {
            "unknown": unknown,
            "then": {"all eight": then, "converged": 8},
            "now": {"all eight": now, "converged": 8},
        }

    rows = [row(100, 1.0, 0.5), row(100, 1.0, 0.6), row(800, 8.0, 5.6)]
    assert summary(rows) == {
        "all eight": {"then": 10_000.0, "now": 6_700.0, "ratio": 0.67, "median ratio": 0.6}
    }


@pytest.mark.parametrize(
    "script", sorted(Path("benchmarks").glob("*.py")), ids=lambda path: path.stem
)
def test_a_script_reads_only_the_options_that_it_defines(script: Path) -> None:
    """No type checker sees the attributes of an argparse namespace."""
    tree = ast.parse(script.read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    names = [
        node.args[0].value
        for node in calls
        if isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument"
    ]
    defined = {str(name).removeprefix("--").replace("-", "_") for name in names}
    parsed = "parser.parse_args()"
    given = {
        ast.unparse(node.targets[0])
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and ast.unparse(node.value) == parsed
    }
    read = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in given | {parsed}
    }
    assert read == defined


ADVISORY = {"id": "PYSEC-1", "fix_versions": ["3.1.1"], "aliases": [], "description": ""}
KNOWN = {"name": "zarr", "version": "3.1.0", "vulns": [ADVISORY]}
SOUND = {"name": "numpy", "version": "2.0", "vulns": []}
UNKNOWN = {"name": "inhouse", "skip_reason": "Dependency not found on PyPI"}


@pytest.mark.parametrize(
    ("packages", "words"),
    [
        ([SOUND], "0 known vulnerabilities of 1 packages"),
        ([SOUND, KNOWN, UNKNOWN], "1 known vulnerabilities of 2 packages.*zarr .*PYSEC-1 .*3.1.1"),
        ([SOUND, UNKNOWN], "not judged, since the registry does not know: inhouse"),
        ([UNKNOWN], "not compared: the package registry has no advisories, or cannot be reached"),
        (None, "not compared: pip-audit did not finish"),
    ],
)
def test_silence_of_advisories_is_no_good_news(tmp_path, packages, words) -> None:
    from benchmarks.advisories import audit, page

    auditor = tmp_path / "pip-audit"
    report = "" if packages is None else json.dumps({"dependencies": packages, "fixes": []})
    auditor.write_text(f"#!/bin/sh\ncat <<'END'\n{report}\nEND\nexit 1\n")
    auditor.chmod(0o700)
    found = page(audit(["# pins", "numpy==2.0", "zarr==3.1.0"], auditor))
    assert re.search(words, found, re.DOTALL), found


def test_without_pip_audit_a_sentence_says_so(tmp_path, monkeypatch) -> None:
    from benchmarks.advisories import audit, page

    monkeypatch.setenv("PATH", str(tmp_path))
    found = page(audit(["zarr==3.1.0"], tmp_path / "none"))
    assert found.startswith("Advisories were not compared: pip-audit is not installed")

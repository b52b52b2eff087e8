"""Halosign beside a user's own modules of the same names, and as an installed wheel."""

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
import setuptools

from halosign.isolation import PACKAGES
from tests.flows.conftest import RECIPE
from tests.phantoms import ball_patch, write_table

ROOT = Path(__file__).parents[2]

SCRIPT = """
import tasks
import halosign
import storage, qc, flows, matting, recipes

import numpy as np

for own in (tasks, storage, qc, flows, matting, recipes):
    assert own.OWNER == "user", own
volume_hu = np.full((9, 9, 9), -800.0)
volume_hu[3:6, 3:6, 3:6] = 0
trimap = np.full((9, 9, 9), 128)
trimap[4, 4, 4], trimap[0] = 255, 0
solution = halosign.solve("cf", volume_hu, trimap, spacing_mm=1)
try:
    halosign.open_release("nowhere", "0.1.0")
except halosign.InputError as error:
    refusal = str(error)
import pickle
assert pickle.loads(pickle.dumps(solution)).converged
np.savez("result.npz", alpha=solution.alpha, refusal=refusal)
"""


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder with a user's own modules of all of Halosign's names."""
    folder = tmp_path / "hostile"
    for name in PACKAGES:
        path = folder / (f"{name}/__init__.py" if name in ("storage", "flows") else f"{name}.py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("OWNER = 'user'\n")
    return folder


@pytest.mark.slow
def test_a_script_beside_its_own_modules_has_both(hostile, tmp_path):
    results = []
    # The plain one first, which leaves compiled code in the cache
    for folder in (tmp_path / "plain", hostile):
        folder.mkdir(exist_ok=True)
        script = folder / "script.py"
        own = SCRIPT if folder == hostile else SCRIPT.replace('own.OWNER == "user"', "own")
        script.write_text(own)
        subprocess.run(
            [sys.executable, script],
            cwd=folder,
            check=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        with np.load(folder / "result.npz") as archive:
            results.append({name: archive[name] for name in archive.files})
    assert (results[0]["alpha"] == results[1]["alpha"]).all()
    assert results[0]["refusal"] == results[1]["refusal"]
    assert "there is no store here" in str(results[0]["refusal"])


def test_the_command_line_runs_beside_them_as_a_module(hostile):
    done = subprocess.run(
        [sys.executable, "-m", "halosign", "status", "--store", "none"],
        cwd=hostile,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "there is no store here: got none" in done.stderr


def copy_tracked_files(to: Path) -> None:
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            (to / name).write_bytes((ROOT / name).read_bytes())


def without_python_path() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of commands of an environment with the wheel; its dependencies are those here."""
    folder = tmp_path_factory.mktemp("installed")
    copy = folder / "source"
    copy_tracked_files(copy)
    pip = [sys.executable, "-P", "-m", "pip", "--quiet", "--disable-pip-version-check"]
    alone = without_python_path()
    build = ["wheel", copy, "--no-deps", "--no-build-isolation", "--wheel-dir", folder]
    subprocess.run([*pip, *build], check=True, env=alone)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    site = next((folder / "venv" / "lib").glob("python*/site-packages"))
    wheel = next(folder.glob("*.whl"))
    install = ["install", wheel, "--no-deps", "--no-index"]
    subprocess.run([*pip, "--python", folder / "venv/bin/python", *install], check=True, env=alone)
    # Only a folder: its own .pth files, such as that of a checkout, are not read.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "venv" / "bin"


@pytest.mark.slow
def test_a_checkout_installed_by_make_is_found_from_the_folder_above_it(tmp_path):
    checkout = tmp_path / "halosign"
    copy_tracked_files(checkout)
    options = re.search(r"^EDITABLE := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    venv, alone = tmp_path / "venv", without_python_path()
    # Only setuptools: pip must not see the package that is installed here
    site = Path(setuptools.__file__).parents[1]
    (tmp_path / "builder").mkdir()
    for part in (*site.glob("setuptools*"), site / "_distutils_hack"):
        (tmp_path / "builder" / part.name).symlink_to(part)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    pip = [sys.executable, "-P", "-m", "pip", "--quiet", "--python", venv / "bin/python"]
    install = ["install", "--no-index", "--no-deps", "--no-build-isolation"]
    build = {**alone, "PYTHONPATH": str(tmp_path / "builder")}
    subprocess.run([*pip, *install, *options[1].split(), checkout], check=True, env=build)
    code = "import halosign; print(halosign.__file__)"
    command = [venv / "bin" / "python", "-c", code]
    found = subprocess.run(
        command, cwd=tmp_path, env=alone, check=True, capture_output=True, text=True
    )
    assert Path(found.stdout.strip()) == checkout / "halosign" / "__init__.py"


@pytest.mark.slow
@pytest.mark.parametrize("how", ["command", "module"])
def test_the_wheel_curates_outside_a_checkout_beside_them(installed, hostile, tmp_path, how):
    table = write_table(tmp_path, {"n1": ball_patch(), "n2": ball_patch(seed=3)})
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    command = (
        [installed / "halosign"] if how == "command" else [installed / "python", "-m", "halosign"]
    )
    environment = {
        **without_python_path(),
        "HOME": str(tmp_path),
        "HALOSIGN_CACHE": str(tmp_path / "cache"),
    }

    def call(*arguments: object) -> str:
        done = subprocess.run(
            [*map(str, [*command, *arguments])],
            cwd=hostile,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert call("--version").startswith("halosign ")
    recipe = ("--recipe", tmp_path / "recipe.yaml")
    said = call("curate", "--files", table, "--store", "store", *recipe, "--workers", 2)
    assert "2 computed" in said
    call("review", "auto", "--store", "store")
    call("release", "publish", "0.1.0", "--store", "store", *recipe)
    call("report", "--store", "store", "--out", "report.html")
    assert "0.1.0" in call("release", "verify", "0.1.0", "--store", "store")

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tasks.environment


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=ann", "-c", "user.email=ann@example.org")
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("is_tracked", [True, False])
def test_the_commit_is_that_of_the_code_and_not_of_a_checkout_around_it(tmp_path, is_tracked):
    shutil.copy(str(tasks.environment.__file__), tmp_path / "environment.py")
    (tmp_path / "other.txt").write_text("x")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "other.txt", *["environment.py"] * is_tracked)
    git(tmp_path, "commit", "-q", "-m", "first")
    code = "import environment; print(environment._commit())"
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout.strip()
    assert said == (git(tmp_path, "rev-parse", "HEAD") if is_tracked else "None")

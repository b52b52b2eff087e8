import runpy
import sys
from pathlib import Path

import pytest

from matting import METHODS

EXAMPLE = Path(__file__).parents[1] / "examples" / "estimate_alphas.py"


def test_the_example_prints_all_methods_and_saves_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "mattes.png"
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), "--out", str(picture)])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in lines[2 : 2 + len(METHODS)]]
    assert [row[0] for row in rows] == list(METHODS)
    assert all(row[1] == "converged" for row in rows)
    assert all(float(row[5]) < 0.15 for row in rows)
    assert picture.read_bytes().startswith(b"\x89PNG")

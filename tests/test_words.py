"""Words that were replaced by standard ones stay out of code, help, pages and documentation."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SUFFIXES = {".py", ".md", ".html", ".js", ".yaml", ".yml", ".toml", ".svg"}
WORDS = {
    r"\bstand-?ins?\b": "synthetic (the stored flag `stand_in` keeps its name)",
    r"(?-i:\bRefusal\b)": "InputError",
    r"\brubbish\b": "garbage, or unreferenced cases and incomplete files",
    r"\b(?:shelf|shelves)\b": "store",
    r"(?<!-)\banew\b": "again, or from scratch",
    r"\bleft out by the selection\b": "excluded",
    r"\bdata's way\b": "pipeline",
    r"\bstranded\b": "disconnected",
    r"\bresidues?\b": "residual",
    r"\"\"\"(?:Give|Tell|Say)\b": "Return, Write, Check …",
}
"""What must not occur, as a pattern, and what to write instead."""
EXEMPT = {"CHANGELOG.md", "tests/test_words.py"}
HEADERS = ("stand-in, simulated", '"stand-in"', "stand-in: simulated", "halosign stand-in")
"""Texts in the headers of synthetic DICOM, which enter the digests of cases."""


def texts() -> dict[str, str]:
    """Return the text of every tracked file that people read, by path."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=True
    ).stdout.split("\n")
    paths = [name for name in listed if Path(name).suffix in SUFFIXES and name not in EXEMPT]
    return {name: (ROOT / name).read_text() for name in paths if (ROOT / name).is_file()}


def occurrences(pattern: str) -> list[str]:
    """Return where a pattern occurs, as path, line and text."""
    found = []
    for name, text in texts().items():
        for number, line in enumerate(text.splitlines(), 1):
            if any(text in line.lower() for text in HEADERS):
                continue
            if re.search(pattern, line, re.IGNORECASE):
                found.append(f"{name}:{number}: {line.strip()}")
    return found


@pytest.mark.parametrize("pattern", WORDS)
def test_a_replaced_word_does_not_come_back(pattern: str) -> None:
    assert occurrences(pattern) == [], f"write instead: {WORDS[pattern]}"


def test_a_word_is_found_where_it_occurs() -> None:
    assert any(place.startswith("README.md:") for place in occurrences(r"\bhalosign\b"))

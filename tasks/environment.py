"""What computed a result: versions and commit of the code."""

import subprocess
from importlib.metadata import version
from pathlib import Path


def code_facts() -> dict[str, str | None]:
    """Give the versions of Halosign and torch, and the commit."""
    return {"halosign": version("halosign"), "torch": version("torch"), "commit": _commit()}


def _commit() -> str | None:
    """Give the commit of the code where it runs from a checkout, marked where files differ from it."""
    command = [
        "git",
        "-C",
        str(Path(__file__).parent),
        "describe",
        "--always",
        "--abbrev=40",
        "--dirty",
    ]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None

"""Versions and commit of the code, recorded with results."""

import subprocess
from importlib.metadata import version
from pathlib import Path


def code_facts() -> dict[str, str | None]:
    """Return the versions of Halosign and torch, and the commit."""
    return {"halosign": version("halosign"), "torch": version("torch"), "commit": _commit()}


def _commit() -> str | None:
    """Return the commit of the checkout, `-dirty` where files differ; None outside a checkout."""
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

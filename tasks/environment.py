"""Versions and commit of the code, recorded with results."""

import subprocess
from importlib.metadata import version
from pathlib import Path


def code_facts() -> dict[str, str | None]:
    """Return the versions of Halosign and torch, and the commit."""
    return {"halosign": version("halosign"), "torch": version("torch"), "commit": _commit()}


def _commit() -> str | None:
    """Return the commit of the checkout, `-dirty` where files differ; None outside a checkout.

    An installed package may lie in a folder of somebody else's checkout, which does not track it.
    """
    file = Path(__file__)
    try:
        _git(file.parent, "ls-files", "--error-unmatch", file.name)
        return _git(file.parent, "describe", "--always", "--abbrev=40", "--dirty")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

"""Facts about inputs that are expensive to compute, as JSON in the user's cache folder.

Everything in it can be computed again: a lost, damaged or read-only cache costs time,
never a result. It holds the SHA-256 of keys, which may be paths with the names of patients.
"""

import hashlib
import json
import os
import tempfile
from pathlib import Path

from storage.sources.base import JSON

CACHE_VARIABLE = "HALOSIGN_CACHE"
"""Environment variable that names another folder for the cache."""


def cache_folder() -> Path:
    """Return the folder: ``$HALOSIGN_CACHE``, else ``halosign`` in the user's cache folder.

    It need not exist.
    """
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "halosign"


def cache_get(kind: str, key: str) -> JSON:
    """Return what was remembered of `kind` under `key`, or None."""
    try:
        entry = json.loads(_file(kind, key).read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(entry, dict) or entry.get("key") != _sha256(key):
        return None
    facts: JSON = entry.get("facts")
    return facts


def cache_set(kind: str, key: str, facts: JSON) -> None:
    """Keep `facts`.

    The file appears whole or not at all, and a folder that cannot be written is left alone.
    """
    file = _file(kind, key)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=file.parent, suffix=".partial")
    except OSError:
        return
    try:
        with os.fdopen(handle, "w") as stream:
            json.dump({"key": _sha256(key), "facts": facts}, stream, separators=(",", ":"))
        os.replace(name, file)
    except OSError:
        Path(name).unlink(missing_ok=True)


def _file(kind: str, key: str) -> Path:
    return cache_folder() / kind / f"{_sha256(key)[:32]}.json"


def _sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()

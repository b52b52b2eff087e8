"""From a source's description, which travels, to the source itself, which stays on its worker."""

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from storage.recipe import SourceSettings
from storage.sources.base import Source
from storage.sources.errors import SourceUnreachableError
from storage.sources.zip_folders import is_archive


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """Which source, in a form that travels between processes."""

    kind: Literal["lidc", "files"]
    location: str
    """Folder of LIDC-IDRI patients, or a CSV table."""
    pseudonym_key: str = ""
    """File with the key of the pseudonyms that stand for a table's ids; empty for the ids."""
    xml: str = ""
    """Folder of LIDC-IDRI's XML files, which name the reader of each annotation; or empty."""


def open_source(spec: SourceSpec, settings: SourceSettings) -> Source:
    """Open a source, once per process; raises SourceUnreachableError where it is away now."""
    check_reachable(spec)
    return _open_once(spec, settings)


def check_reachable(spec: SourceSpec) -> None:
    """Raise SourceUnreachableError where the folder or the table of a source is away.

    An empty folder counts as away: it is what an unmounted share leaves behind.
    """
    path = Path(spec.location)
    try:
        if spec.kind == "lidc" and not is_archive(path):
            with os.scandir(path) as entries:
                got = "" if any(entries) else f"{path}: an empty folder"
        else:
            with path.open("rb"):
                got = ""
    except OSError as error:
        got = f"{path}: {error.strerror}"
    if got:
        raise SourceUnreachableError(
            "the source is not reachable",
            got=got,
            expected="a folder of LIDC-IDRI patients, or a CSV table",
            remedy="Check the path given as --dicom or --files, the mount and the permissions, "
            "then run the same command again; what is stored was not touched.",
        )


@lru_cache(maxsize=8)
def _open_once(spec: SourceSpec, settings: SourceSettings) -> Source:
    # Each source brings its own libraries; a worker loads only those of the one it reads.
    if spec.kind == "lidc":
        from storage.sources.lidc import LidcSource

        xml = Path(spec.xml) if spec.xml else None
        return LidcSource(Path(spec.location), settings, xml)
    from storage.sources.table import FilesSource

    key = Path(spec.pseudonym_key) if spec.pseudonym_key else None
    return FilesSource(Path(spec.location), settings, key)

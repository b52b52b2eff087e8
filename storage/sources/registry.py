"""From a source's description, which travels, to the source itself, which stays on its worker."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from matting.errors import InputError
from storage.sources.base import Source


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """Which source, in a form that travels between processes."""

    kind: Literal["lidc", "files"]
    location: str
    """Folder of LIDC-IDRI patients, or a CSV table."""


@lru_cache(maxsize=8)
def open_source(spec: SourceSpec) -> Source:
    """Open a source, once per process; raises InputError where there is none."""
    if not Path(spec.location).exists():
        raise InputError(
            "there is no such source",
            got=spec.location,
            expected="a folder of LIDC-IDRI patients, or a CSV table",
            remedy="Check the path given as --dicom or --files.",
        )
    # Each source brings its own libraries; a worker loads only those of the one it reads.
    if spec.kind == "lidc":
        from storage.sources.lidc import LidcSource

        return LidcSource(Path(spec.location))
    from storage.sources.table import FilesSource

    return FilesSource(Path(spec.location))

"""The interface of a source of annotated scans: list its nodules, read one of them.

Two sources keep this promise: `storage.sources.lidc` (LIDC-IDRI as DICOM) and
`storage.sources.table` (a table of volumes). A `Nodule` is the key that travels between processes;
voxels are read where they are worked on.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from matting.errors import InputError
from matting.geometry.patch import Patch
from matting.parameters import ResampleSettings
from storage.records import LidcFacts, TableFacts
from storage.sources.zip_folders import split_path

REFUSE_ODD = ResampleSettings()
"""Refuses slices at changing distances, and slices that lean."""
JSON = None | bool | int | float | str | list["JSON"] | dict[str, "JSON"]


@dataclass(frozen=True, slots=True, order=True)
class Nodule:
    """Enough to find one nodule's inputs again on any worker; a few hundred bytes."""

    id: str
    """Stable, sortable and safe in a path, e.g. ``LIDC-IDRI-0078-a0123``."""
    patient_id: str
    details: Mapping[str, JSON] = field(compare=False)
    """What its own source needs to read it; JSON, meaningless to others."""


@dataclass(frozen=True, slots=True, order=True)
class Exclusion:
    """A nodule that the selection leaves out, and why."""

    nodule_id: str
    patient_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Inventory:
    """The nodules of a source and those excluded, each sorted by nodule id."""

    nodules: tuple[Nodule, ...]
    exclusions: tuple[Exclusion, ...]
    absent: tuple[Nodule, ...] = ()
    """Nodules that the source knows of without having any file of them now."""
    notes: tuple[str, ...] = ()
    """What was chosen or left out among the files of a series, for people to check."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One nodule read from its source."""

    patch: Patch
    """The whole slices that the crop needs, at native spacing, in HU; masks on the same lattice."""
    content_sha256: str
    """Over everything that came from the source: pixel files and annotations."""
    provenance: LidcFacts | TableFacts
    """Public facts that go into the case: ids, ratings, free columns. Never patient data."""
    synthetic: bool
    """True where the CT is simulated."""


class Source(Protocol):
    """Where annotated scans come from."""

    def inventory(self, *, readers: int, patients: frozenset[str] | None = None) -> Inventory:
        """List the nodules marked by exactly `readers` readers, and the excluded ones."""
        ...

    def fingerprint(self, nodule: Nodule, *, padding_slices: int) -> str:
        """Return a cheap fingerprint (names, sizes, times.

        No pixel is read) that changes when the inputs may have.

        It never refuses: inputs that are gone or unfit have a fingerprint too, and `read` says
        what is wrong.
        """
        ...

    def find_unreachable(self, nodule: Nodule) -> str:
        """Return which file of a nodule cannot be opened now, and why; empty where all can."""
        ...

    def read(
        self, nodule: Nodule, *, padding_slices: int, settings: ResampleSettings = REFUSE_ODD
    ) -> Reading:
        """Read one nodule; `settings` say what becomes of slices that are uneven or lean.

        Raises SourceUnreachableError where its inputs are not there, InputError where they are not
        fit to be worked on.
        """
        ...


def first_unreachable(paths: Iterable[Path]) -> str:
    """Return the first file or folder that cannot be opened, and why; empty where all can."""
    for path in dict.fromkeys(split_path(path)[0] for path in paths):
        try:
            if path.is_dir():
                with os.scandir(path):
                    continue
            with path.open("rb"):
                continue
        except OSError as error:
            return f"{path}: {error.strerror}"
    return ""


def check_patients(
    patients: frozenset[str] | None, present: Sequence[str], place: object, *, remedy: str
) -> None:
    """Raise InputError for patients that are asked for and not there.

    `present` is sorted, `place` is where it was looked up.
    """
    unknown = sorted((patients or frozenset()) - set(present))
    if unknown:
        raise InputError(
            "unknown patients",
            got=", ".join(unknown[:5])
            + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""),
            expected=f"some of the {len(present)} patients in {place}, {present[0]} to "
            f"{present[-1]}",
            remedy=remedy,
        )

"""A table of volume files (NIfTI, NRRD, MHA): one CT and its readers' masks per nodule.

The table is a CSV with the columns `nodule`, `patient`, `image`, `readers`, if need be
`known_alpha`, `n_readers`, `hu_slope` and `hu_offset`; any other column is left out unless the
recipe keeps it. Paths are relative to the table. `readers` names either one bit-coded volume (bit r
= reader r) or one mask per reader, separated by semicolons. What a table says may identify a
patient: no message shows a cell of it, and ids can be replaced by pseudonyms.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matting.errors import InputError
from matting.geometry.grid import Grid
from matting.geometry.patch import Patch
from matting.parameters import ResampleSettings
from storage.recipe import NOTHING_ALLOWED, SourceSettings
from storage.records import TableFacts, to_json
from storage.sources.base import (
    REFUSE_ODD,
    Exclusion,
    Inventory,
    Nodule,
    Reading,
    check_patients,
    first_unreachable,
)
from storage.sources.ct import CtVolume, read_ct
from storage.sources.detached import voxel_files
from storage.sources.dicom_file import is_dicom
from storage.sources.dicom_headers import folders_with_files, listing
from storage.sources.image_io import read_volume, without_padding
from storage.sources.lattice import place_alpha
from storage.sources.masks import READERS_AT_MOST, ReaderEntry, read_masks
from storage.sources.redaction import Redaction
from storage.sources.table_ids import check_patterns, pseudonymize, select_columns
from storage.sources.table_paths import find_path
from storage.sources.table_rows import SCALE_COLUMNS, read_rows
from storage.sources.zip_folders import is_archive


@dataclass(frozen=True, slots=True)
class FilesSource:
    """The nodules of one table; keeps the promise of `storage.sources.base.Source`."""

    table: Path
    """The CSV file."""
    settings: SourceSettings = NOTHING_ALLOWED
    """Which columns are kept, and whether slices of DICOM may show text or drawings."""
    pseudonym_key: Path | None = None
    """File with the key of the pseudonyms that stand for ids; only the inventory reads it."""

    def inventory(self, *, readers: int, patients: frozenset[str] | None = None) -> Inventory:
        """List the table's nodules; those known to have another number of readers are excluded.

        Raises:
            InputError: Where the table cannot be used, or lacks a patient that is asked for.
        """
        rows = select_columns(self.table, read_rows(self.table), self.settings.keep)
        wanted = patients
        if self.pseudonym_key is None:
            check_patterns(self.table, rows)
        else:
            rows, wanted = pseudonymize(rows, self.pseudonym_key, patients)
        present = sorted({row["patient"] for row in rows})
        check_patients(wanted, present, self.table, remedy="Correct the names.")
        found = [
            _nodule_or_exclusion(row, readers)
            for row in rows
            if wanted is None or row["patient"] in wanted
        ]
        nodules = sorted(item for item in found if isinstance(item, Nodule))
        exclusions = sorted(item for item in found if isinstance(item, Exclusion))
        notes = () if nodules else tuple(_other_numbers(rows))
        return Inventory(tuple(nodules), tuple(exclusions), notes=notes)

    def fingerprint(self, nodule: Nodule, *, padding_slices: int) -> str:
        """Return a fingerprint of the row and of its files' names, sizes and times.

        No file is opened but headers that may name voxels in another file (.mhd, .nhdr).

        What is not there has a fingerprint too: `read` refuses it.
        """
        files: list[list[str | int]] = []
        for path in _files(self.table, _row_of(nodule)):
            there = path.stat() if path.is_file() else None
            files.append([path.name, there.st_size, there.st_mtime_ns] if there else [path.name])
        facts = [nodule.id, dict(nodule.details), padding_slices, files]
        facts += [name for name, allowed in self.settings if allowed is True]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def find_unreachable(self, nodule: Nodule) -> str:
        """Return which file of a nodule cannot be opened now; empty where all can."""
        row = _row_of(nodule)
        try:
            found = first_unreachable(_files(self.table, row))
        except OSError as error:
            found = f"{error.filename}: {error.strerror}"
        return _redaction(self.table, row).text(found)

    def read(
        self, nodule: Nodule, *, padding_slices: int, settings: ResampleSettings = REFUSE_ODD
    ) -> Reading:
        """Read the slices around one nodule and its readers' masks.

        Raises:
            InputError: Where a file is missing, unreadable or unfit, or the readers are not as
                many as asked for.
        """
        row = _row_of(nodule)
        redaction = _redaction(self.table, row)
        return redaction.call(lambda: self._read(nodule, row, padding_slices, settings))

    def _read(
        self,
        nodule: Nodule,
        row: Mapping[str, str],
        padding_slices: int,
        settings: ResampleSettings,
    ) -> Reading:
        folder = self.table.parent
        _check_distinct(folder, row)
        ct = _read_ct(find_path(folder, row["image"]), row, settings, self.settings)
        masks = read_masks(_entries(folder, row), ct, _known_readers(row))
        _check_number(len(masks), nodule)
        depth = _depth(masks, padding_slices)
        grid = ct.grid.window((depth.start, 0, 0), (depth.stop - depth.start, *ct.grid.shape[1:]))
        alpha = _known_alpha(self.table, row, grid)
        patch = Patch(grid, ct.image_hu[depth], ct.valid[depth], masks[:, depth], alpha)
        kept = {*self.settings.keep, *SCALE_COLUMNS}
        columns = {name: cell for name, cell in row.items() if name in kept}
        provenance = TableFacts(columns, ct.image_set or None)
        return Reading(patch, _digest(patch, provenance), provenance, synthetic=alpha is not None)


def _check_distinct(folder: Path, row: Mapping[str, str]) -> None:
    """Raise InputError where one file is listed for two readers, whatever its spelling."""
    seen: dict[tuple[object, ...], int] = {}
    for number, entry in enumerate(_entries(folder, row), 1):
        there = entry.path.stat() if entry.path.exists() else None
        file = (there.st_dev, there.st_ino) if there else (entry.path.resolve(),)
        key = (*file, entry.label)
        if key in seen:
            raise InputError(
                "a reader's file is listed twice",
                got=f"files {seen[key]} and {number} of column `readers`, which are one file",
                expected="a file or a label of its own for each reader",
                remedy=f"Correct the readers of {row['nodule']} in the table.",
            )
        seen[key] = number


def _read_ct(
    path: Path, row: Mapping[str, str], settings: ResampleSettings, allowed: SourceSettings
) -> CtVolume:
    """Read the CT of a row: a volume, whose values the row may convert, or DICOM."""
    if path.is_dir() or is_archive(path) or (path.is_file() and is_dicom(path)):
        scaled = [name for name in SCALE_COLUMNS if row.get(name)]
        if scaled:
            raise InputError(
                f"{' and '.join(scaled)} of {row['nodule']} cannot be used",
                got=f"DICOM in {path}",
                expected="a volume; DICOM has its own slope and intercept",
                remedy="Leave the cells empty.",
            )
        return read_ct(path, settings, allowed)
    volume = read_volume(path, "the CT")
    return CtVolume(volume.grid, *without_padding(_in_hu(volume.values, row)))


def _in_hu(values: NDArray[Any], row: Mapping[str, str]) -> NDArray[np.float32]:
    scale = []
    for name, default in SCALE_COLUMNS.items():
        try:
            number = float(row.get(name) or default)
        except ValueError:
            number = math.nan
        if not math.isfinite(number) or (name == "hu_slope" and number == 0):
            raise InputError(
                f"{name} of {row['nodule']} is no number that values can be converted with",
                got="0" if number == 0 else "something else",
                expected="a number, and hu_slope other than 0: HU = hu_slope * value + hu_offset",
                remedy="Correct the table.",
            )
        scale.append(number)
    slope, offset = scale
    if (slope, offset) == (1, 0):
        return values.astype(np.float32)
    return (values.astype(np.float64) * slope + offset).astype(np.float32)


def _check_number(got: int, nodule: Nodule) -> None:
    if got != nodule.details["readers"]:
        raise InputError(
            "another number of readers than asked for",
            got=_other_number(got, int(str(nodule.details["readers"]))),
            expected="one mask for each",
            remedy="State n_readers in the table, so that the nodule is left out, or set "
            f"`readers: {got}` in the recipe.",
        )


def _redaction(table: Path, row: Mapping[str, str]) -> Redaction:
    folder = table.parent
    files = {
        name: [(cell, find_path(folder, cell))]
        for name in ("image", "known_alpha")
        if (cell := row.get(name))
    }
    entries = zip(_names(row["readers"]), _entries(folder, row), strict=True)
    readers = [(cell, entry.path) for cell, entry in entries]
    return Redaction(folder, {**files, "readers": readers})


def _nodule_or_exclusion(row: dict[str, str], readers: int) -> Nodule | Exclusion:
    known = _known_readers(row)
    if known is not None and known != readers:
        return Exclusion(row["nodule"], row["patient"], _other_number(known, readers))
    return Nodule(row["nodule"], row["patient"], {"row": {**row}, "readers": readers})


def _known_readers(row: Mapping[str, str]) -> int | None:
    """Return the number of readers where the row tells, else None; the masks may still disagree."""
    text = row.get("n_readers", "")
    if text and (not text.isdecimal() or not 1 <= int(text) <= READERS_AT_MOST):
        raise InputError(
            f"n_readers of {row['nodule']} is no number of readers",
            got=text if text.isdecimal() and len(text) < 5 else "something else",
            expected=f"1 to {READERS_AT_MOST}",
            remedy="Correct the table.",
        )
    files = len(_names(row["readers"]))
    if files > 1 and text and int(text) != files:
        raise InputError(
            f"n_readers of {row['nodule']} contradicts its files",
            got=f"{text} readers, {files} masks",
            expected="the same number, or no n_readers",
            remedy="Correct the table.",
        )
    return files if files > 1 else int(text) if text else None


def _other_numbers(rows: list[dict[str, str]]) -> Iterator[str]:
    """Yield what a recipe must say so that the rows of a table are not left out."""
    counts = Counter(known for row in rows if (known := _known_readers(row)))
    for number, count in sorted(counts.items()):
        yield f"{count} of the table with {number} readers: set `readers: {number}` in the recipe"


def _other_number(got: int, asked: int) -> str:
    return f"{got} reader{'' if got == 1 else 's'}, {asked} asked"


def _names(cell: str) -> list[str]:
    return [name.strip() for name in cell.split(";") if name.strip()]


def _entries(folder: Path, row: Mapping[str, str]) -> list[ReaderEntry]:
    return [ReaderEntry.parse(name, folder) for name in _names(row["readers"])]


def _row_of(nodule: Nodule) -> dict[str, str]:
    row = nodule.details["row"]
    return {name: str(cell) for name, cell in row.items()} if isinstance(row, dict) else {}


def _files(table: Path, row: Mapping[str, str]) -> Iterator[Path]:
    folder = table.parent
    paths = [find_path(folder, row["image"])]
    paths += dict.fromkeys(entry.path for entry in _entries(folder, row))
    paths += [find_path(folder, name) for name in [row.get("known_alpha", "")] if name]
    for path in paths:
        if path.is_dir():
            below, _ = folders_with_files(path)
            yield from (inner / name for inner in below for name, _, _ in listing(inner))
        else:
            yield path
            yield from voxel_files(path)


def _depth(readers: NDArray[np.bool_], padding_slices: int) -> slice:
    marked = np.flatnonzero(readers.any(axis=(0, 2, 3)))
    return slice(
        max(int(marked[0]) - padding_slices, 0),
        min(int(marked[-1]) + padding_slices + 1, readers.shape[1]),
    )


def _known_alpha(table: Path, row: Mapping[str, str], grid: Grid) -> NDArray[np.float32] | None:
    name = row.get("known_alpha")
    return (
        place_alpha(
            read_volume(find_path(table.parent, name), "the known alpha"), grid, "the known alpha"
        )
        if name
        else None
    )


def _digest(patch: Patch, provenance: TableFacts) -> str:
    """Hash voxels, geometry and the table's columns, whatever the files' format."""
    digest = hashlib.sha256(
        f"{patch.grid!r} {json.dumps(to_json(provenance), sort_keys=True)}".encode()
    )
    for array in (patch.image_hu, patch.valid, patch.readers, patch.known_alpha):
        digest.update(b"none" if array is None else np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()

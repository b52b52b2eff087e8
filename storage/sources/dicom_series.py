"""CT series in folders of DICOM files: headers first, then only the slices that are needed.

Files are known by their headers; what was found is kept in the user's cache folder and holds as
long as names, sizes and times of the files do. Slices are ordered by ImagePositionPatient along
their common normal. Where a position comes twice, the slice with the smaller InstanceNumber stays
(one without a number loses; then the smaller SOP instance UID, then the path decides). The
distance of slices comes from their positions, never from SliceThickness: the two differ in a third
of LIDC-IDRI's scans.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from matting.geometry.grid import Vector
from storage.sources.base import JSON
from storage.sources.cache import cache_get, cache_set

SYNTHETIC_MANUFACTURER = "Halosign stand-in"
"""Manufacturer (0008,0070) of every simulated slice."""

POSITION_TOLERANCE_MM = 0.05
"""Slices closer than this have the same position, and may stray this far from an even lattice.

LIDC-IDRI's positions carry 6 digits and its smallest distance of slices is 0.45 mm.
"""

_REQUIRED = (
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "Rows",
    "Columns",
)
_TAGS = [*_REQUIRED, "InstanceNumber", "SliceThickness", "Manufacturer"]


@dataclass(frozen=True, slots=True)
class SliceHeader:
    """The header of one slice."""

    path: Path
    sop_uid: str
    study_uid: str
    series_uid: str
    position_lps_mm: Vector
    """Centre of the first pixel, patient coordinates (x, y, z)."""
    orientation: tuple[float, ...]
    """Unit vectors along which columns and rows count up: (x, y, z) of the one, then of the
    other."""
    pixel_spacing_mm: tuple[float, ...]
    """Distance between rows, then between columns."""
    shape: tuple[int, ...]
    """Rows, columns."""
    instance_number: int | None
    slice_thickness_mm: float | None
    synthetic: bool


_CACHED_FIELDS = {field.name for field in fields(SliceHeader)} - {"path"}


@dataclass(frozen=True, slots=True)
class Series:
    """The slices of one CT series, ordered along `normal`, one per position."""

    uid: str
    study_uid: str
    normal: Vector
    slices: tuple[SliceHeader, ...]
    duplicates: tuple[SliceHeader, ...]
    """Slices left out because another one has their position."""
    ignored: Mapping[str, str]
    """File that is no CT slice, in the series' own folders, and why; named when slices turn out to
    be missing."""

    @property
    def synthetic(self) -> bool:
        """True where any slice is simulated."""
        return any(header.synthetic for header in self.slices)

    def positions_mm(self) -> NDArray[np.float64]:
        """Return the position of each slice along the normal, ascending."""
        positions: NDArray[np.float64] = np.array(
            [h.position_lps_mm for h in self.slices]
        ) @ np.asarray(self.normal)
        return positions

    def step_mm(self) -> float:
        """Return the usual distance between neighbours (the median), or NaN for a single slice."""
        return (
            float(np.median(np.diff(self.positions_mm()))) if len(self.slices) > 1 else float("nan")
        )

    def ignored_files(self) -> str:
        """Return a sentence on the ignored files, for a remedy; empty if there are none."""
        if not self.ignored:
            return ""
        named = [f"{file} ({why})" for file, why in sorted(self.ignored.items())[:3]]
        more = f" and {len(self.ignored) - 3} more" if len(self.ignored) > 3 else ""
        return f" Files passed over: {', '.join(named)}{more}."


@dataclass(frozen=True, slots=True)
class _Folder:
    slices: tuple[SliceHeader, ...]
    ignored: Mapping[str, str]


def find_series(folders: Iterable[Path]) -> dict[str, Series]:
    """Return the CT series whose slices lie directly in `folders`, by SeriesInstanceUID."""
    slices: dict[str, list[SliceHeader]] = defaultdict(list)
    ignored: dict[str, dict[str, str]] = defaultdict(dict)
    for folder in folders:
        index = _index(folder)
        for header in index.slices:
            slices[header.series_uid].append(header)
        for uid in {header.series_uid for header in index.slices}:
            ignored[uid].update(index.ignored)
    return {uid: _series(uid, found, ignored[uid]) for uid, found in slices.items()}


def folders_with_files(root: Path) -> list[Path]:
    """Return `root` and the folders below it that hold files, sorted."""
    return sorted(Path(path) for path, _, files in os.walk(root) if files)


def listing(folder: Path) -> list[tuple[str, int, int]]:
    """Return name, size and time (ns) of each file in a folder, sorted by name.

    Hidden files do not count.
    """
    with os.scandir(folder) as entries:
        found = [entry for entry in entries if not entry.name.startswith(".") and entry.is_file()]
        return sorted(
            (entry.name, entry.stat().st_size, entry.stat().st_mtime_ns) for entry in found
        )


def _series(uid: str, headers: list[SliceHeader], ignored: Mapping[str, str]) -> Series:
    orientation = Counter(header.orientation for header in headers).most_common(1)[0][0]
    normal = np.cross(orientation[:3], orientation[3:])
    normal = normal / (np.linalg.norm(normal) or 1.0) + 0.0  # no negative zeros
    kept: list[SliceHeader] = []
    dropped: list[SliceHeader] = []
    for group in _by_position(headers, normal):
        first, *others = sorted(group, key=_precedence)
        kept.append(first)
        dropped.extend(others)
    x, y, z = normal.tolist()
    return Series(uid, kept[0].study_uid, (x, y, z), tuple(kept), tuple(dropped), ignored)


def _by_position(
    headers: list[SliceHeader], normal: NDArray[np.float64]
) -> list[list[SliceHeader]]:
    positions = np.array([header.position_lps_mm for header in headers]) @ normal
    order = np.argsort(positions, kind="stable")
    starts = np.flatnonzero(np.diff(positions[order]) > POSITION_TOLERANCE_MM) + 1
    return [[headers[i] for i in group] for group in np.split(order, starts)]


def _precedence(header: SliceHeader) -> tuple[bool, int, str, str]:
    return (
        header.instance_number is None,
        header.instance_number or 0,
        header.sop_uid,
        str(header.path),
    )


def _index(folder: Path) -> _Folder:
    """Read the headers of a folder's files; unchanged files come from the cache."""
    key = str(folder.resolve())
    known = _known_files(cache_get("headers", key))
    files = {
        entry: known.get(entry) or _read_header(folder / entry[0]) for entry in listing(folder)
    }
    if files != known:
        cache_set("headers", key, [[list(entry), header] for entry, header in files.items()])
    slices = tuple(
        _slice_header(folder / name, header)
        for (name, _, _), header in files.items()
        if isinstance(header, dict)
    )
    return _Folder(
        slices, {name: reason for (name, _, _), reason in files.items() if isinstance(reason, str)}
    )


def _known_files(facts: JSON) -> dict[tuple[str, int, int], dict[str, JSON] | str]:
    """Return what the cache holds; what this version would not have written counts as unknown."""
    known: dict[tuple[str, int, int], dict[str, JSON] | str] = {}
    for item in facts if isinstance(facts, list) else []:
        match item:
            case [[str(name), int(size), int(time)], str(reason)]:
                known[name, size, time] = reason
            case [[str(name), int(size), int(time)], dict(header)] if (
                header.keys() == _CACHED_FIELDS
            ):
                known[name, size, time] = header
    return known


def _slice_header(path: Path, header: Mapping[str, JSON]) -> SliceHeader:
    values: dict[str, Any] = {
        name: tuple(v) if isinstance(v, list) else v for name, v in header.items()
    }
    return SliceHeader(path, **values)


def _read_header(path: Path) -> dict[str, JSON] | str:
    """Return the fields of a slice's header, or why the file is no CT slice."""
    try:
        dataset = dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)
        absent = [keyword for keyword in _REQUIRED if dataset.get(keyword) in (None, "")]
        return f"header without {', '.join(absent)}" if absent else _fields(dataset)
    except InvalidDicomError:
        return "not DICOM"
    except (
        Exception
    ) as error:  # a file that ends early or holds nonsense raises whatever pydicom stumbles over
        return f"unreadable: {error}"


def _fields(dataset: Dataset) -> dict[str, JSON]:
    number, thickness = dataset.get("InstanceNumber"), dataset.get("SliceThickness")
    return {
        "sop_uid": str(dataset.SOPInstanceUID).strip(),
        "study_uid": str(dataset.StudyInstanceUID).strip(),
        "series_uid": str(dataset.SeriesInstanceUID).strip(),
        "position_lps_mm": _numbers(dataset, "ImagePositionPatient", 3),
        "orientation": _numbers(dataset, "ImageOrientationPatient", 6),
        "pixel_spacing_mm": _numbers(dataset, "PixelSpacing", 2),
        "shape": [int(dataset.Rows), int(dataset.Columns)],
        "instance_number": None if number in (None, "") else int(number),
        "slice_thickness_mm": None if thickness in (None, "") else float(thickness),
        "synthetic": str(dataset.get("Manufacturer", "")).strip() == SYNTHETIC_MANUFACTURER,
    }


def _numbers(dataset: Dataset, keyword: str, count: int) -> list[JSON]:
    numbers: list[JSON] = [float(value) for value in dataset[keyword].value]
    if len(numbers) != count or not np.isfinite(np.array(numbers, np.float64)).all():
        raise ValueError(f"{keyword} is {numbers}, not {count} numbers")
    return numbers

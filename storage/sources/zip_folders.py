"""Folders inside zip archives, read in place: ``scans.zip/series/1.dcm`` is a path like any other.

Nothing is ever unpacked to disk, so names inside an archive are never names of files.
"""

import io
import zipfile
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import BinaryIO

LARGEST_MEMBER_BYTES = 2**31
"""A whole enhanced CT has less; a member that unpacks to more is not read."""

UNREADABLE = (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError)
"""What a damaged or encrypted archive raises."""


def is_archive(path: Path) -> bool:
    """Return whether a path is a zip archive on disk that can be opened."""
    if path.suffix.lower() != ".zip" or not path.is_file():
        return False
    try:
        _members(path)
    except (OSError, *UNREADABLE):
        return False
    return True


def split_path(path: Path) -> tuple[Path, str]:
    """Return the zip archive that a path leads into and the rest of it.

    For a path into no archive: itself and an empty text. The archive itself has the rest ``.``.
    """
    for above in (path, *path.parents):
        if above.suffix.lower() == ".zip" and above.is_file():
            return above, path.relative_to(above).as_posix()
    return path, ""


def is_folder(path: Path) -> bool:
    """Return whether a path is a folder, on disk or in an archive."""
    archive, inner = split_path(path)
    return inner in _members(archive) if inner and is_archive(archive) else path.is_dir()


def inner_folders(archive: Path) -> Iterator[Path]:
    """Yield the folders of an archive that hold files, sorted; hidden ones do not count."""
    for folder in sorted(_members(archive)):
        yield archive / folder


def inner_listing(archive: Path, folder: str) -> list[tuple[str, int, int]]:
    """Return name, size and time (ns, the archive's) of each file in a folder, sorted by name."""
    time_ns = archive.stat().st_mtime_ns
    return sorted((name, size, time_ns) for name, size in _members(archive)[folder].items())


def open_file(path: Path) -> BinaryIO:
    """Open a file on disk or in an archive.

    Raises:
        OSError: It is not there, cannot be read, or unpacks to more than LARGEST_MEMBER_BYTES.
    """
    archive, inner = split_path(path)
    if not inner:
        return path.open("rb")
    try:
        opened = _opened(archive, archive.stat().st_mtime_ns)
        info = opened.getinfo(inner)
        if info.file_size > LARGEST_MEMBER_BYTES:
            raise OSError(0, f"unpacks to {info.file_size} bytes", str(path))
        return io.BytesIO(opened.read(info))
    except KeyError as error:
        raise FileNotFoundError(2, "No such file in the archive", str(path)) from error
    except UNREADABLE as error:
        raise OSError(0, "damaged or encrypted in its archive", str(path)) from error


def _members(archive: Path) -> dict[str, dict[str, int]]:
    """Return the sizes of an archive's files by folder, then by name."""
    return _listed(archive, archive.stat().st_mtime_ns)


@lru_cache(maxsize=16)
def _listed(archive: Path, time_ns: int) -> dict[str, dict[str, int]]:
    folders: dict[str, dict[str, int]] = {}
    for info in _opened(archive, time_ns).infolist():
        path = PurePosixPath(info.filename)
        hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
        if not info.is_dir() and not hidden:
            folders.setdefault(str(path.parent), {})[path.name] = info.file_size
    return folders


@lru_cache(maxsize=16)
def _opened(archive: Path, time_ns: int) -> zipfile.ZipFile:
    # The time is only there so that an archive that was written again is opened again.
    del time_ns
    return zipfile.ZipFile(archive)

"""Writes below a local folder that outlast a loss of power.

A write that has returned is on the disk: the file's bytes, its name, and the folders above it. A
file gets its name only after its bytes are on the disk, so that a key holds all of its old bytes
or all of its new ones, whenever the power fails. (`obstore`, which reads, leaves writes in the
system's memory.)
"""

import errno
import itertools
import os
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

_THREADS = 8
_CANNOT_SYNC_FOLDERS = (errno.EINVAL, errno.ENOTSUP)
"""What file systems answer that keep no folders to be synced, e.g. network shares."""


class Disk:
    """The system calls that change files: one method each, for tests to fail in between."""

    def write(self, path: Path, data: bytes) -> None:
        """Write a new file; its bytes may stay in memory."""
        with path.open("xb") as file:
            file.write(data)

    def sync_files(self, paths: Collection[Path]) -> None:
        """Wait until the files' bytes are on the disk."""
        _at_once(_sync_file, paths)

    def sync_folders(self, paths: Collection[Path]) -> None:
        """Wait until the names in the folders are on the disk."""
        _at_once(_sync_folder, paths)

    def rename(self, path: Path, to: Path) -> None:
        """Rename a file, replacing what has that name."""
        path.rename(to)

    def link(self, path: Path, to: Path) -> None:
        """Add a second name to a file; raises FileExistsError where something has that name."""
        to.hardlink_to(path)

    def remove(self, path: Path) -> None:
        """Remove a file."""
        path.unlink()

    def make_folder(self, path: Path) -> None:
        """Make a folder below an existing one."""
        path.mkdir(exist_ok=True)


class Folder:
    """A local folder to write to, by key.

    Every method raises OSError where the system refuses, and FileNotFoundError where the folder is
    gone, e.g. unmounted: it is not made again.

    Args:
        path: Of the folder; it exists.
        disk: What carries the writes out.
    """

    def __init__(self, path: Path, disk: Disk | None = None) -> None:
        self._path = path
        self._disk = disk or Disk()
        self._synced = {path}
        """Folders whose own name is known to be on the disk."""
        self._lock = Lock()

    def write(self, files: Mapping[str, bytes]) -> None:
        """Write files by key, each replacing what is there; together they need fewer waits."""
        self._place(files, self._disk.rename)

    def create(self, key: str, data: bytes) -> None:
        """Write a file; raises FileExistsError where there is one."""
        self._place({key: data}, self._disk.link)

    def remove(self, keys: Iterable[str]) -> None:
        """Remove files; one that does not exist is ignored."""
        folders = set()
        for key in keys:
            path = self._locate(key)
            try:
                self._disk.remove(path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            folders.add(path.parent)
        self._disk.sync_folders(sorted(folders))

    def _place(self, files: Mapping[str, bytes], name: Callable[[Path, Path], None]) -> None:
        """Write the bytes beside their places, sync them, then give them their names."""
        paths = {key: self._locate(key) for key in files}
        staged: dict[str, Path] = {}
        try:
            for key, data in files.items():
                self._make_folders(paths[key].parent)
                staged[key] = _beside(paths[key])
                self._disk.write(staged[key], data)
            self._disk.sync_files(list(staged.values()))
            for key, path in staged.items():
                name(path, paths[key])
        finally:
            for path in staged.values():
                if path.exists():  # linked, or given up
                    self._disk.remove(path)
        self._sync_names({path.parent for path in paths.values()})

    def _locate(self, key: str) -> Path:
        parts = key.split("/")
        if any(part in {"", ".", ".."} for part in parts):
            raise OSError(errno.EINVAL, "not a key of this store", key)
        return self._path.joinpath(*parts)

    def _make_folders(self, folder: Path) -> None:
        missing = []
        while folder != self._path and not folder.is_dir():
            missing.append(folder)
            folder = folder.parent
        for path in reversed(missing):
            with self._lock:
                self._synced.discard(path)  # somebody removed it since
            self._disk.make_folder(path)

    def _sync_names(self, folders: set[Path]) -> None:
        """Sync folders, and those above them unless that was done before."""
        with self._lock:
            new = {
                path
                for folder in folders
                for path in itertools.takewhile(
                    lambda above: above not in self._synced, (folder, *folder.parents)
                )
            }
        self._disk.sync_folders(sorted(folders | {path.parent for path in new}))
        with self._lock:
            self._synced |= new


def _beside(path: Path) -> Path:
    """Return a name for the bytes of a file that is not complete; listings leave it out."""
    return path.with_name(f"{path.name}#{secrets.randbelow(10**12)}")


def _at_once(sync: Callable[[Path], None], paths: Collection[Path]) -> None:
    """Sync on several threads: the file system joins what it is asked to write at one time."""
    if len(paths) <= 1:
        for path in paths:
            sync(path)
        return
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(sync, paths))


def _sync_file(path: Path) -> None:
    _sync(path, os.O_RDONLY)


def _sync_folder(path: Path) -> None:
    try:
        _sync(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC_FOLDERS:
            raise


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

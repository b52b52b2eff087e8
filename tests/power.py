"""A disk that loses power: what was not synced is dropped, in part, at a moment of one's choice.

The disk works on a real folder, which readers see as they would see the system's memory, and keeps
account of what is on the platter: a file's bytes once the file is synced, a name once its folder
is. Without power, nothing more can be done. `restart` leaves in the folder what a file system may
leave: all that was synced; of the changes of names that were not, any selection in any folder; in
a file whose bytes were not, nothing, its beginning, zeros or all of it.
"""

import random
import shutil
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from storage.folder import Disk


class PowerLossError(BaseException):
    """The power has failed; no handler of errors notices, as none would be there."""


@dataclass(eq=False)
class File:
    """A file, whatever its names are."""

    data: bytes
    synced: bytes | None = None


@dataclass(eq=False)
class FolderNames:
    """The names in a folder: on the platter, and the changes since."""

    synced: "dict[str, File | FolderNames]" = field(default_factory=dict)
    changes: "list[dict[str, File | FolderNames | None]]" = field(default_factory=list)

    @property
    def current(self) -> "dict[str, File | FolderNames]":
        return _changed(self.synced, self.changes)


class UnsafeDisk(Disk):
    """A disk whose power fails before its `fails_at`-th operation, or never where that is None.

    Args:
        root: The folder; what it holds now is on the platter.
        fails_at: Counted from 0.
    """

    def __init__(self, root: Path, fails_at: int | None = None) -> None:
        self.root = root
        self.operations = 0
        self._fails_at = fails_at
        self._names = _read(root)

    def write(self, path: Path, data: bytes) -> None:
        self._step()
        super().write(path, data)
        self._folder(path.parent).changes.append({path.name: File(data)})

    def sync_files(self, paths: Collection[Path]) -> None:
        for path in paths:
            self._step()
            file = self._folder(path.parent).current[path.name]
            assert isinstance(file, File)
            file.synced = file.data

    def sync_folders(self, paths: Collection[Path]) -> None:
        for path in paths:
            self._step()
            folder = self._folder(path)
            folder.synced, folder.changes = folder.current, []

    def rename(self, path: Path, to: Path) -> None:
        self._step()
        super().rename(path, to)
        folder = self._folder(path.parent)
        folder.changes.append({path.name: None, to.name: folder.current[path.name]})

    def link(self, path: Path, to: Path) -> None:
        self._step()
        super().link(path, to)
        folder = self._folder(path.parent)
        folder.changes.append({to.name: folder.current[path.name]})

    def remove(self, path: Path) -> None:
        self._step()
        super().remove(path)
        self._folder(path.parent).changes.append({path.name: None})

    def make_folder(self, path: Path) -> None:
        self._step()
        if not path.exists():
            super().make_folder(path)
            self._folder(path.parent).changes.append({path.name: FolderNames()})

    def restart(self, dice: random.Random) -> None:
        """Leave in the folder what is found when the power is back."""
        shutil.rmtree(self.root)
        _write(self.root, self._names, dice)

    def _step(self) -> None:
        if self._fails_at is not None and self.operations >= self._fails_at:
            raise PowerLossError
        self.operations += 1

    def _folder(self, path: Path) -> FolderNames:
        folder = self._names
        for name in path.relative_to(self.root).parts:
            found = folder.current[name]
            assert isinstance(found, FolderNames)
            folder = found
        return folder


def _changed(
    names: dict[str, File | FolderNames],
    changes: Collection[dict[str, File | FolderNames | None]],
) -> dict[str, File | FolderNames]:
    found: dict[str, File | FolderNames | None] = dict(names)
    for change in changes:
        found |= change
    return {name: node for name, node in found.items() if node is not None}


def _read(folder: Path) -> FolderNames:
    names = FolderNames()
    for path in folder.iterdir():
        if path.is_dir():
            names.synced[path.name] = _read(path)
        else:
            names.synced[path.name] = File(path.read_bytes(), path.read_bytes())
    return names


def _write(path: Path, folder: FolderNames, dice: random.Random) -> None:
    path.mkdir()
    kept = [change for change in folder.changes if dice.random() < 0.5]
    for name, node in _changed(folder.synced, kept).items():
        if isinstance(node, FolderNames):
            _write(path / name, node, dice)
        elif node.synced is not None:
            (path / name).write_bytes(node.synced)
        else:
            cut = dice.randrange(len(node.data) + 1)
            parts = (b"", node.data[:cut], bytes(len(node.data)), node.data)
            (path / name).write_bytes(dice.choice(parts))

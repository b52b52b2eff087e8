"""Read the arrays of a release, box by box.

Of an array only the volumes that are asked for are read. A reader is pickled as its address and
opens the release again where it is unpickled, so it may be sent to the workers of a data loader.
Folders may also be read in a forked process; buckets may not, and that is refused: the threads
that talk to them do not survive a fork.
"""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr
import zarr.abc.store
import zarr.storage
from numpy.typing import NDArray

from matting.errors import InputError
from matting.geometry.grid import Grid, Shape
from storage.cases.case import open_array, open_group
from storage.cases.chunks import chunk_key, decode_chunk, is_single_chunk
from storage.errors import CorruptionError, NotFoundError
from storage.layout import case_prefix
from storage.output import write_output
from storage.records import CaseFacts, Member
from storage.releases.release import Release
from storage.store import Store
from storage.zarr_files import ZarrFiles

Start = tuple[int, int, int]
PATHS = {
    "alpha": "alpha",
    "image": "image",
    "validity": "validity",
    "readers": "labels/readers/0",
    "trimap": "labels/trimap/0",
    "known_alpha": "known_alpha",
}
"""Paths of the arrays in a case, by the names that `ReleaseReader.read` takes."""


class ReleaseReader:
    """Reads the arrays of one release."""

    def __init__(self, release: Release, partition: int = 0, *, cache: Path | None = None) -> None:
        """Read an opened release; see `storage.releases.release.open_release`.

        Args:
            release: Where to read.
            partition: Which division of the patients `splits` gives; 0 is the release's own.
            cache: A folder for copies of volumes that are not in a local folder; processes may
                share it.
        """
        self.release = release
        self.partition = partition
        self.cache = cache
        self.splits = release.splits(partition)
        """The split of every nodule: ``train``, ``validation`` or ``test``."""
        self._process = os.getpid()
        self._groups: dict[str, tuple[zarr.Group, CaseFacts]] = {}
        self._arrays: dict[tuple[str, str], zarr.Array[Any]] = {}
        url = release.store.url
        self._files: Store | Path = release.store if "://" in url else Path(url)

    def __repr__(self) -> str:
        """Name the release."""
        return f"ReleaseReader({self.release})"

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the address."""
        return partial(ReleaseReader, cache=self.cache), (self.release, self.partition)

    @property
    def version(self) -> str:
        """The release's version."""
        return self.release.version

    def nodules(self, split: str | None = None) -> tuple[str, ...]:
        """Return the ids of a split's nodules, sorted; of all nodules without a split.

        Raises:
            InputError: The release has no nodule in that split.
        """
        found = tuple(sorted(name for name, own in self.splits.items() if split in (None, own)))
        if not found:
            raise InputError(
                f"release {self.version} lacks a split",
                got=split,
                expected=" or ".join(sorted(set(self.splits.values()))),
                remedy="Choose one of these; a small data set may lack a split.",
            )
        return found

    def member(self, nodule_id: str) -> Member:
        """Return what the manifest says of a nodule.

        Raises InputError for one that the release does not have.
        """
        try:
            return self.release.members[nodule_id]
        except KeyError:
            raise InputError(
                f"release {self.version} has no such nodule",
                got=nodule_id,
                expected=f"one of its {len(self.release.members)}",
                remedy="See `halosign release show`.",
            ) from None

    def facts(self, nodule_id: str) -> CaseFacts:
        """Return all that is known of a nodule's case beside its arrays."""
        return self._group(nodule_id)[1]

    def grid(self, nodule_id: str) -> Grid:
        """Return the lattice of a nodule in patient space."""
        return self.facts(nodule_id).geometry

    def shape(self, nodule_id: str) -> Shape:
        """Return the size of a nodule's volumes (z, y, x) in voxels."""
        z, y, x = self._array(nodule_id, "image").shape
        return z, y, x

    def read(
        self,
        nodule_id: str,
        name: str,
        start: Start = (0, 0, 0),
        shape: Shape | None = None,
        *,
        method: str = "",
    ) -> NDArray[Any]:
        """Read a box of one array.

        Args:
            nodule_id: Which nodule.
            name: ``image`` (int16, HU), ``alpha`` (float32 in 0..1, the released matte),
                ``readers`` (uint8 0 or 1, one mask per reader), ``validity`` (uint8, 1 where the
                scanner measured), ``trimap`` (uint8 0, 128, 255) or, of simulated CT,
                ``known_alpha`` (float32 in 0..1).
            start: First voxel of the box (z, y, x), within the volume.
            shape: Size of the box in voxels; up to the end of the volume by default. It is cut off
                at that end.
            method: For ``alpha``, another method than the released one.

        Returns:
            (z, y, x), of ``readers`` (r, z, y, x).

        Raises:
            InputError: The release has no such nodule, array or matte.
            CorruptionError: The array is damaged.
        """
        size = shape or self.shape(nodule_id)
        z, y, x = (slice(first, first + n) for first, n in zip(start, size, strict=True))
        array = self._array(nodule_id, name)
        if not is_single_chunk(array):
            lead = self._slot(nodule_id, method) if name == "alpha" else Ellipsis
            return np.asarray(array[lead, z, y, x])
        if name == "alpha":
            return self._volume(nodule_id, name, self._slot(nodule_id, method))[z, y, x]
        if array.ndim == 3:
            return self._volume(nodule_id, name)[z, y, x]
        volumes = (self._volume(nodule_id, name, slot) for slot in range(array.shape[0]))
        return np.stack([volume[z, y, x] for volume in volumes])

    def _volume(self, nodule_id: str, name: str, *lead: int) -> NDArray[Any]:
        array = self._array(nodule_id, name)
        key = f"{self._prefix(nodule_id)}/{chunk_key(PATHS[name], array, *lead)}"
        data = self._get(nodule_id, key)
        try:
            return decode_chunk(array, data)
        except ValueError as error:
            raise CorruptionError(
                f"{key} of release {self.version} is damaged: {error}. Restore it.", key=key
            ) from error

    def _get(self, nodule_id: str, key: str) -> bytes | None:
        """Read one file.

        None for one that was never written, for zarr leaves out a chunk of fill values.
        """
        try:
            if isinstance(self._files, Store):
                return self._get_once(self._files, key)
            return (self._files / key).read_bytes()
        except (NotFoundError, FileNotFoundError) as error:
            name = key.removeprefix(f"{self._prefix(nodule_id)}/")
            stored = f"{case_prefix(nodule_id, self.member(nodule_id).digest)}/{name}"
            if stored in self.release.manifest.case_files:
                raise CorruptionError(
                    f"{key} of release {self.version} is missing. Restore it.", key=key
                ) from error
            return None

    def _get_once(self, files: Store, key: str) -> bytes:
        """Read a file from the cache, or else from the store and leave a copy."""
        if self.cache is None:
            return files.get(key)
        # The key of a case's file contains the digest of all that it was made from, so the file
        # never changes; an export's does not, hence the release's own folder.
        path = self.cache / self.release.manifest_sha256 / key
        try:
            return path.read_bytes()
        except FileNotFoundError:
            data = files.get(key)
            write_output(path, data)
            return data

    def _prefix(self, nodule_id: str) -> str:
        """Return the prefix of a nodule's group: an export has one folder per nodule."""
        if self.release.is_export:
            return nodule_id
        return case_prefix(nodule_id, self.member(nodule_id).digest)

    def _slot(self, nodule_id: str, method: str) -> int:
        wanted = method or self.member(nodule_id).method
        methods = self.facts(nodule_id).methods
        if wanted not in methods:
            raise InputError(
                "no such matte",
                got=wanted,
                expected=" or ".join(methods),
                remedy="Choose one of these.",
            )
        return methods.index(wanted)

    def _group(self, nodule_id: str) -> tuple[zarr.Group, CaseFacts]:
        if nodule_id not in self._groups:
            self._check_process()
            self.member(nodule_id)
            self._groups[nodule_id] = open_group(_zarr_store(self._files), self._prefix(nodule_id))
        return self._groups[nodule_id]

    def _array(self, nodule_id: str, name: str) -> zarr.Array[Any]:
        self._check_process()
        if (nodule_id, name) not in self._arrays:
            group, _ = self._group(nodule_id)
            if name not in PATHS or not self._has_array(nodule_id, name):
                raise InputError(
                    f"nodule {nodule_id} has no such array",
                    got=name,
                    expected=" or ".join(PATHS),
                    remedy="Choose one of these.",
                )
            owner = f"nodule {nodule_id} of release {self.version}"
            self._arrays[nodule_id, name] = open_array(group, PATHS[name], owner)
        return self._arrays[nodule_id, name]

    def _has_array(self, nodule_id: str, name: str) -> bool:
        """Every case has all arrays but the known matte, which only simulated CT has."""
        prefix = case_prefix(nodule_id, self.member(nodule_id).digest)
        key = f"{prefix}/{PATHS[name]}/zarr.json"
        return name != "known_alpha" or key in self.release.manifest.case_files

    def _check_process(self) -> None:
        """Raise InputError after a fork, where obstore would wait for ever for its threads."""
        if os.getpid() != self._process and isinstance(self._files, Store):
            raise InputError(
                "a bucket cannot be read in a forked process",
                got=self._files.url,
                expected="a process started by spawn",
                remedy='Give the data loader multiprocessing_context="spawn", or export the '
                "release to a folder.",
            )


def _zarr_store(files: Store | Path) -> zarr.abc.store.Store:
    if isinstance(files, Store):
        return ZarrFiles(files)
    return zarr.storage.LocalStore(files, read_only=True)


def check_shape(crop_zyx: int | Sequence[int]) -> Shape:
    """Return the size of a crop; raises InputError for anything but one or three sizes in voxels.

    Args:
        crop_zyx: Voxels along (z, y, x), or one number for a cube.
    """
    sizes = np.asarray(crop_zyx)
    if sizes.ndim == 0:
        sizes = np.repeat(sizes, 3)
    is_whole = sizes.shape == (3,) and sizes.dtype.kind in "iuf" and (sizes % 1 == 0).all()
    if not is_whole or (sizes < 1).any():
        raise InputError(
            "invalid size of a crop",
            got=crop_zyx,
            expected="three whole numbers (z, y, x), or one for a cube",
            remedy="Use for example 96 96 96.",
        )
    z, y, x = (int(n) for n in sizes)
    return z, y, x

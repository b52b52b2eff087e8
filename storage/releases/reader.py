"""A release opened for learning from: its nodules by split, and boxes of their arrays.

It reads a version in a store, or a folder that `halosign release export --format zarr` wrote; of an array only the
volumes that are asked for. A reader pickles to its address and opens again wherever it is unpickled, so it may go to
the workers of a data loader. Folders may also be read in a forked process; buckets may not, and that is refused: the
threads that talk to them do not survive a fork.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
import zarr.abc.store
import zarr.storage
from numpy.typing import NDArray

from matting.errors import InputError
from matting.geometry.grid import Grid, Shape
from storage.cases.chunks import chunk_key, is_plain, unpacked
from storage.errors import CorruptionError, NotFoundError
from storage.layout import case_prefix, grid_from_attributes
from storage.recipe import ReleaseSettings
from storage.releases.release import read_release, withdrawal
from storage.releases.splits import repartitioned, split_of
from storage.store import Store, open_store

Start = tuple[int, int, int]
PATHS = {
    "alpha": "alpha",
    "image": "image",
    "validity": "validity",
    "readers": "labels/readers/0",
    "trimap": "labels/trimap/0",
    "known_alpha": "known_alpha",
}
"""Where the arrays lie in a case, by the names that `ReleaseReader.read` knows."""
EXPORT_MARKER = "export.json"


class ReleaseReader:
    """One version of the data set, open for reading."""

    def __init__(
        self,
        url: str,
        version: str | None = None,
        *,
        even_if_withdrawn: bool = False,
        partition: int = 0,
    ) -> None:
        """Open a release.

        Args:
            url: A store (folder or URL), or a folder with an export in the format ``zarr``.
            version: Which release of the store; may be left out for an export, which holds one.
            even_if_withdrawn: Read a release that was taken back, to reproduce old work.
            partition: 0 for the release's own splits; any other number shares its patients out anew, with its own
                shares and the seed that many further on.

        Raises:
            InputError: There is no such store, release or export, or it was withdrawn.
        """
        self._how = (url, version, even_if_withdrawn, partition)
        self._process = os.getpid()
        self._arrays: dict[tuple[str, str], zarr.Array[Any]] = {}
        self._groups: dict[str, zarr.Group] = {}
        marker = Path(url) / EXPORT_MARKER
        self._is_export = marker.is_file()
        if self._is_export:
            self.manifest: dict[str, Any] = _export_manifest(marker, version)
            self._files: Store | Path = Path(url)
        else:
            self.manifest, self._files = _stored(url, version, even_if_withdrawn)
        self.splits = _splits(self.manifest, partition)
        """The side of every nodule: ``train``, ``validation`` or ``test``."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel as an address."""
        return _reopened, self._how

    @property
    def version(self) -> str:
        """The release's version."""
        return str(self.manifest["version"])

    def nodules(self, split: str | None = None) -> tuple[str, ...]:
        """Give the ids of a split's nodules, sorted; of all without a split.

        Raises:
            InputError: The release has no nodule in that split.
        """
        found = tuple(sorted(name for name, side in self.splits.items() if split in (None, side)))
        if not found:
            raise InputError(
                f"release {self.version} lacks a split",
                got=split,
                expected=" or ".join(sorted(set(self.splits.values()))),
                remedy="Choose one of these; a small data set may lack a side.",
            )
        return found

    def facts(self, nodule_id: str) -> dict[str, Any]:
        """Give all that a nodule's case says of itself: geometry, source, recipe, reports, figures."""
        facts = self._group(nodule_id).attrs["halosign"]
        if not isinstance(facts, dict):
            raise CorruptionError(
                f"case {nodule_id} of release {self.version} has no attributes of ours. Restore it."
            )
        return dict(facts)

    def grid(self, nodule_id: str) -> Grid:
        """Give the lattice of a nodule: shape (z, y, x), spacing in mm, place in the patient."""
        return grid_from_attributes(self.facts(nodule_id)["geometry"])

    def shape(self, nodule_id: str) -> Shape:
        """Give the size of a nodule's volumes (z, y, x) in voxels."""
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
            name: ``image`` (int16, HU), ``alpha`` (float32 in 0..1, the released matte), ``readers`` (uint8 0 or 1,
                one mask a reader), ``validity`` (uint8, 1 where the scanner measured), ``trimap`` (uint8 0, 128, 255)
                or, of simulated CT, ``known_alpha`` (float32 in 0..1).
            start: First voxel of the box (z, y, x), within the volume.
            shape: Size of the box in voxels; to the end of the volume when left out. What lies beyond is left away.
            method: Another matte than the released one, for ``alpha``.

        Returns:
            (z, y, x), of ``readers`` (r, z, y, x).
        """
        size = shape or self.shape(nodule_id)
        z, y, x = (slice(first, first + n) for first, n in zip(start, size, strict=True))
        array = self._array(nodule_id, name)
        if not is_plain(array):
            lead = self._slot(nodule_id, method) if name == "alpha" else Ellipsis
            return np.asarray(array[lead, z, y, x])
        if name == "alpha":
            return self._volume(nodule_id, name, self._slot(nodule_id, method))[z, y, x]
        if array.ndim == 4:
            return np.stack(
                [self._volume(nodule_id, name, slot)[z, y, x] for slot in range(array.shape[0])]
            )
        return self._volume(nodule_id, name)[z, y, x]

    def _volume(self, nodule_id: str, name: str, *lead: int) -> NDArray[Any]:
        array = self._array(nodule_id, name)
        key = chunk_key(PATHS[name], array, *lead)
        data = self._bytes(nodule_id, key)
        try:
            return unpacked(array, data)
        except ValueError as error:
            raise CorruptionError(
                f"{key} of {nodule_id} in release {self.version} is spoiled. Restore it."
            ) from error

    def _bytes(self, nodule_id: str, key: str) -> bytes | None:
        """Read one file; None for one that was never written, for zarr leaves out what is the same throughout."""
        place = f"{self._folder(nodule_id)}/{key}"
        try:
            return (
                self._files.get(place)
                if isinstance(self._files, Store)
                else (self._files / place).read_bytes()
            )
        except (NotFoundError, FileNotFoundError) as error:
            if (
                f"{case_prefix(nodule_id, self._member(nodule_id)['digest'])}/{key}"
                in self.manifest["case_files"]
            ):
                raise CorruptionError(
                    f"{place} of release {self.version} is missing. Restore it."
                ) from error
            return None

    def _folder(self, nodule_id: str) -> str:
        """Give where a nodule's group lies."""
        return (
            nodule_id
            if self._is_export
            else case_prefix(nodule_id, self._member(nodule_id)["digest"])
        )

    def _slot(self, nodule_id: str, method: str) -> int:
        wanted, known = (
            method or str(self._member(nodule_id)["method"]),
            self.facts(nodule_id)["methods"],
        )
        if wanted not in known:
            raise InputError(
                "no such matte",
                got=wanted,
                expected=" or ".join(known),
                remedy="Choose one of these.",
            )
        return int(known.index(wanted))

    def _member(self, nodule_id: str) -> dict[str, Any]:
        try:
            return dict(self.manifest["nodules"][nodule_id])
        except KeyError:
            raise InputError(
                f"release {self.version} has no such nodule",
                got=nodule_id,
                expected=f"one of its {len(self.manifest['nodules'])}",
                remedy="See `halosign release show`.",
            ) from None

    def _group(self, nodule_id: str) -> zarr.Group:
        if nodule_id not in self._groups:
            self._check_process()
            folder = self._folder(str(self._member(nodule_id)["nodule_id"]))
            try:
                self._groups[nodule_id] = zarr.open_group(
                    _shelf(self._files), path=folder, mode="r"
                )
            except (FileNotFoundError, ValueError) as error:
                raise CorruptionError(
                    f"case {nodule_id} of release {self.version} is not whole. Restore it."
                ) from error
        return self._groups[nodule_id]

    def _array(self, nodule_id: str, name: str) -> zarr.Array[Any]:
        self._check_process()
        key = nodule_id, name
        if key not in self._arrays:
            try:
                found = self._group(nodule_id)[PATHS[name]]
            except KeyError:
                raise InputError(
                    f"nodule {nodule_id} has no such array",
                    got=name,
                    expected=" or ".join(PATHS),
                    remedy="Choose one.",
                ) from None
            if not isinstance(found, zarr.Array):
                raise CorruptionError(f"{name} of case {nodule_id} is no array. Restore it.")
            self._arrays[key] = found
        return self._arrays[key]

    def _check_process(self) -> None:
        """Refuse to wait for ever: obstore's threads are not there after a fork."""
        if os.getpid() != self._process and isinstance(self._files, Store):
            raise InputError(
                "a bucket cannot be read in a forked process",
                got=self._how[0],
                expected="a process begun by spawn",
                remedy='Give the data loader multiprocessing_context="spawn", or export the release to a folder.',
            )


def _reopened(
    url: str, version: str | None, even_if_withdrawn: bool, partition: int
) -> ReleaseReader:
    return ReleaseReader(url, version, even_if_withdrawn=even_if_withdrawn, partition=partition)


def _splits(manifest: dict[str, Any], partition: int) -> dict[str, str]:
    members = manifest["nodules"]
    if partition == 0:
        return {name: str(member["split"]) for name, member in members.items()}
    shares = repartitioned(ReleaseSettings.model_validate(manifest["recipe"]["release"]), partition)
    return {name: split_of(str(member["patient_id"]), shares) for name, member in members.items()}


def _stored(
    url: str, version: str | None, even_if_withdrawn: bool
) -> tuple[dict[str, Any], Store | Path]:
    store = open_store(url)
    if version is None:
        raise InputError(
            "a store holds many releases",
            got="no version",
            expected="one",
            remedy="Name it, e.g. 0.1.0.",
        )
    manifest = read_release(store, version)
    tombstone = withdrawal(store, version)
    if tombstone and not even_if_withdrawn:
        raise InputError(
            "a withdrawn release is not read",
            got=tombstone,
            expected="one in use",
            remedy="Use another version; even_if_withdrawn=True reads it to reproduce old work.",
        )
    return manifest, store if "://" in store.url else Path(store.url)


def _shelf(files: Store | Path) -> zarr.abc.store.Store:
    if isinstance(files, Store):
        return zarr.storage.ObjectStore(files.objects, read_only=True)
    return zarr.storage.LocalStore(files, read_only=True)


def _export_manifest(marker: Path, version: str | None) -> dict[str, Any]:
    try:
        about = json.loads(marker.read_bytes())
        manifest: dict[str, Any] = json.loads((marker.parent / "manifest.json").read_bytes())
        found, format_ = about["release"], about["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptionError(
            f"{marker.parent} is no whole export: {error}. Export the release again."
        ) from error
    if format_ != "zarr" or version not in (None, found):
        raise InputError(
            "the export is another one",
            got=f"release {found} as {format_}",
            expected=f"release {version or found} as zarr",
            remedy="Give the folder of that export, or a store.",
        )
    return manifest


def check_shape(crop_zyx: Sequence[int]) -> Shape:
    """Take three sizes in voxels for a crop; raises InputError for anything else."""
    if len(crop_zyx) != 3 or any(int(n) != n or n < 1 for n in crop_zyx):
        raise InputError(
            "this is no size of a crop",
            got=crop_zyx,
            expected="three whole numbers (z, y, x)",
            remedy="E.g. 96 96 96.",
        )
    z, y, x = (int(n) for n in crop_zyx)
    return z, y, x

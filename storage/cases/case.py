"""Cases: one nodule's image, masks, trimap and eight mattes as one Zarr group, complete or absent.

A case is first built in memory, so all its bytes and their SHA-256 are known before any of them is
written. Then its files are put one by one and the `.done` mark last. An interruption at any moment
leaves a complete case or none, and since the digest determines the bytes, two writers of one case
write the same.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
import zarr.abc.store
import zarr.codecs
import zarr.storage
from numpy.typing import NDArray

from matting.geometry.grid import Grid
from matting.geometry.patch import Patch
from storage.errors import AlreadyExistsError, CorruptionError, NotFoundError
from storage.layout import case_prefix, done_key, image_metadata, label_metadata, round_alpha
from storage.recipe import Recipe
from storage.records import (
    CaseFacts,
    DoneMark,
    FileEntry,
    canonical_json,
    encode,
    parse_record,
    read_record,
    to_json,
)
from storage.store import Store
from storage.zarr_files import ZarrFiles

ALGORITHM_VERSION = 8
"""Raised whenever the same source and recipe give other bytes than before."""

_CODEC = zarr.codecs.ZstdCodec(level=3)
_CT_CODEC = zarr.codecs.BloscCodec(cname="lz4hc", clevel=5, shuffle="bitshuffle", typesize=2)
"""CT is mostly noise: split into bit planes it packs 10 % smaller and unpacks three times faster
than with zstd, which is the better codec for mattes and masks."""

_BAD_METADATA = (
    FileNotFoundError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RecursionError,
)
"""What zarr raises for a group or array whose metadata is missing or damaged."""


@dataclass(frozen=True, slots=True)
class NewCase:
    """A case to be stored."""

    facts: CaseFacts
    patch: Patch
    trimap: NDArray[np.uint8]
    """(z, y, x)."""
    alphas: Mapping[str, NDArray[np.float64] | None]
    """(z, y, x) in 0..1 by method, in the order of `facts.methods`; None where a method gave no
    matte."""


@dataclass(frozen=True, slots=True)
class Case:
    """A stored case, opened for reading; arrays are read on demand."""

    nodule_id: str
    digest: str
    group: zarr.Group
    facts: CaseFacts

    @property
    def grid(self) -> Grid:
        """The lattice of the case in patient space."""
        return self.facts.geometry

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the stored mattes, in stored order."""
        return self.facts.methods

    @property
    def reader_count(self) -> int:
        """How many readers' masks there are."""
        return int(self._array("labels/readers/0").shape[0])

    @property
    def unknown_facts(self) -> set[str]:
        """Names of facts in the metadata that this version does not know."""
        stored = self.group.attrs["halosign"]
        return set(stored) - set(to_json(self.facts)) if isinstance(stored, dict) else set()

    def array(self, name: str) -> NDArray[Any]:
        """Read a whole array by its path, e.g. labels/readers/0; raises CorruptionError."""
        return self._read(name, ...)

    def alpha(self, method: str) -> NDArray[np.float32]:
        """Read one matte (z, y, x); NaN throughout where the method gave none.

        Raises CorruptionError.
        """
        return self._read("alpha", self.methods.index(method))

    def _read(self, name: str, part: Any) -> NDArray[Any]:
        array = self._array(name)
        try:
            return np.asarray(array[part])
        except (RuntimeError, ValueError, TypeError) as error:  # of a codec
            raise CorruptionError(
                f"array {name} of case {self.nodule_id}/{self.digest} is damaged. "
                f"{CaseFacts.remedy}",
                key=f"{case_prefix(self.nodule_id, self.digest)}/{name}",
            ) from error

    def _array(self, name: str) -> zarr.Array[Any]:
        return open_array(self.group, name, f"case {self.nodule_id}/{self.digest}")


def case_digest(content_sha256: str, recipe: Recipe) -> str:
    """Return the digest of a case: a hash of source, recipe and algorithm version."""
    content = {
        "source": content_sha256,
        "recipe": recipe.content_key(),
        "algorithm": ALGORITHM_VERSION,
    }
    return hashlib.sha256(canonical_json(content)).hexdigest()


def is_done(store: Store, nodule_id: str, digest: str) -> bool:
    """Return whether a case has its mark; its files are not looked at."""
    return store.exists(done_key(nodule_id, digest))


def find_incomplete(store: Store, nodule_id: str, digest: str) -> str:
    """Compare the names and sizes of a case's files with its mark, by one listing.

    Returns:
        What is wrong, in words; empty where the case is complete.
    """
    try:
        files = read_case_files(store, nodule_id, digest)
    except NotFoundError:
        return "its case is missing from the store"
    except CorruptionError as error:
        return f"the mark of its case is damaged: {error}"
    sizes = {entry.key: entry.size_bytes for entry in store.entries(case_prefix(nodule_id, digest))}
    wrong = [key for key, entry in files.items() if sizes.get(key) != entry.size_bytes]
    if not wrong:
        return ""
    return f"its case is incomplete: {len(wrong)} of {len(files)} files, first {wrong[0]}"


def write_case(store: Store, case: NewCase) -> int:
    """Store a case and mark it done; repeating it, also by another worker, is harmless.

    A marked case that is incomplete is written again.

    Returns:
        How many bytes the case has.

    Raises:
        CorruptionError: The case is marked, with other bytes under the same digest.
    """
    nodule_id, digest = case.facts.nodule, case.facts.digest
    staged = _stage(case)
    files = {name: FileEntry(hashlib.sha256(d).hexdigest(), len(d)) for name, d in staged.items()}
    size = sum(entry.size_bytes for entry in files.values())
    if not find_incomplete(store, nodule_id, digest):
        # Another worker was first while this one computed.
        return sum(entry.size_bytes for entry in read_case_files(store, nodule_id, digest).values())
    mark = DoneMark(digest, files)
    _check_mark(store, nodule_id, mark)
    prefix = case_prefix(nodule_id, digest)
    store.put_all({f"{prefix}/{name}": data for name, data in sorted(staged.items())})
    key = done_key(nodule_id, digest)
    try:
        store.create(key, encode(mark))
    except AlreadyExistsError:
        _check_mark(store, nodule_id, mark)
        store.put(key, encode(mark))  # it was damaged, or written by an earlier version
    return size


def _check_mark(store: Store, nodule_id: str, mark: DoneMark) -> None:
    """Raise CorruptionError where a case is marked with other files; a damaged mark is none."""
    key = done_key(nodule_id, mark.digest)
    try:
        known = _read_mark(store, nodule_id, mark.digest)
    except (NotFoundError, CorruptionError):
        return
    if known != mark:
        raise CorruptionError(
            f"{store.url}/{key} lists other bytes than were computed: two workers ran different "
            "versions of a library. `halosign store check --repair` sets a damaged case aside; "
            "then curate again.",
            key=key,
        )


def read_case(store: Store, nodule_id: str, digest: str) -> Case:
    """Open a case that is done.

    Raises:
        NotFoundError: The case is not there, or not done.
        CorruptionError: Its metadata is missing or damaged.
    """
    key = done_key(nodule_id, digest)
    if not store.exists(key):
        raise NotFoundError(
            f"{store.url} has no finished case {nodule_id}/{digest}. Curate it, or check the id.",
            key=key,
        )
    group, facts = open_group(ZarrFiles(store), case_prefix(nodule_id, digest))
    return Case(nodule_id, digest, group, facts)


def open_group(files: zarr.abc.store.Store, path: str) -> tuple[zarr.Group, CaseFacts]:
    """Open the group of a case and check its facts; raises CorruptionError.

    Args:
        files: Where the group is stored.
        path: Of the group, in there.
    """
    key = f"{path}/zarr.json"
    try:
        group = zarr.open_group(files, path=path, mode="r")
        attributes = json.dumps(group.attrs.get("halosign"))
    except _BAD_METADATA as error:
        raise CorruptionError(
            f"{key} is missing or damaged. {CaseFacts.remedy}", key=key
        ) from error
    return group, parse_record(attributes.encode(), CaseFacts, key)


def open_array(group: zarr.Group, name: str, owner: str) -> zarr.Array[Any]:
    """Open an array of a case; raises CorruptionError.

    Args:
        group: Of the case.
        name: Of the array.
        owner: The case, for the message.
    """
    try:
        found = group[name]
    except _BAD_METADATA as error:
        raise CorruptionError(
            f"array {name} of {owner} is missing or damaged. {CaseFacts.remedy}",
            key=f"{group.path}/{name}/zarr.json",
        ) from error
    if not isinstance(found, zarr.Array):
        raise CorruptionError(
            f"{name} of {owner} is not an array. {CaseFacts.remedy}", key=f"{group.path}/{name}"
        )
    return found


def read_case_files(store: Store, nodule_id: str, digest: str) -> dict[str, FileEntry]:
    """Read the files of a finished case, by their path in the store.

    Raises NotFoundError or CorruptionError.
    """
    mark = _read_mark(store, nodule_id, digest)
    prefix = case_prefix(nodule_id, digest)
    return {f"{prefix}/{name}": entry for name, entry in sorted(mark.files.items())}


def _read_mark(store: Store, nodule_id: str, digest: str) -> DoneMark:
    key = done_key(nodule_id, digest)
    mark = read_record(store, key, DoneMark)
    if mark.digest != digest:
        raise CorruptionError(
            f"{store.url}/{key} is the mark of another case: got {mark.digest}, expected {digest}. "
            f"{DoneMark.remedy}",
            key=key,
        )
    return mark


def verify_files(
    store: Store,
    files: Mapping[str, FileEntry],
    on_file: Callable[[int, int], None] = lambda _, __: None,
) -> list[str]:
    """Read every file; returns a complaint for each that is missing or changed.

    Args:
        store: Where they are.
        files: What is known of each, by key.
        on_file: Called before each file with the number of files read, and of all.
    """
    complaints = []
    for done, (key, entry) in enumerate(files.items()):
        on_file(done, len(files))
        try:
            data = store.get(key)
        except NotFoundError:
            complaints.append(f"{key}: missing")
            continue
        if len(data) != entry.size_bytes:
            complaints.append(f"{key}: {len(data)} bytes, {entry.size_bytes} were written")
        elif hashlib.sha256(data).hexdigest() != entry.sha256:
            complaints.append(f"{key}: the content is not what was written")
    return complaints


def _stage(case: NewCase) -> dict[str, bytes]:
    """Build the group in memory; returns its files by path."""
    files: dict[str, Any] = {}
    group = zarr.create_group(
        zarr.storage.MemoryStore(files), zarr_format=3, attributes=_attributes(case)
    )
    patch = case.patch
    write_array(group, "image", np.rint(patch.image_hu).astype(np.int16), 3)
    write_array(group, "alpha", _stack_alphas(case), 4)
    write_array(group, "validity", patch.valid.astype(np.uint8), 3)
    if patch.known_alpha is not None:
        write_array(group, "known_alpha", round_alpha(patch.known_alpha.astype(np.float64)), 3)
    labels = group.create_group(
        "labels", attributes={"ome": {"version": "0.5", "labels": ["readers", "trimap"]}}
    )
    _write_label(labels, "readers", patch.readers.astype(np.uint8), patch.grid)
    _write_label(labels, "trimap", case.trimap, patch.grid)
    return {key: bytes(buffer.to_bytes()) for key, buffer in files.items()}


def _stack_alphas(case: NewCase) -> NDArray[np.float32]:
    stack = np.full((len(case.alphas), *case.patch.grid.shape), np.nan, np.float32)
    for slot, alpha in enumerate(case.alphas.values()):
        if alpha is not None:
            stack[slot] = round_alpha(alpha)
    return stack


def _attributes(case: NewCase) -> dict[str, Any]:
    return {"ome": image_metadata(case.patch.grid), "halosign": to_json(case.facts)}


def _write_label(labels: zarr.Group, name: str, values: NDArray[np.uint8], grid: Grid) -> None:
    metadata = label_metadata(name, grid, channels=values.ndim == 4)
    write_array(labels.create_group(name, attributes={"ome": metadata}), "0", values, values.ndim)


def write_array(group: zarr.Group, name: str, values: NDArray[Any], dimensions: int) -> None:
    """Write an array into a group, with one chunk per volume."""
    chunks = (1, *values.shape[1:]) if dimensions == 4 else values.shape
    array = group.create_array(
        name,
        shape=values.shape,
        dtype=values.dtype,
        chunks=chunks,
        compressors=[_CT_CODEC if name == "image" else _CODEC],
        dimension_names=("c", "z", "y", "x")[-dimensions:],
    )
    array[...] = values

"""Cases: one nodule's image, masks, trimap and eight mattes as one Zarr group, whole or not there.

A case is staged in memory, so every byte and its SHA-256 are known before the first one is written. Then its files
are put one by one and the `.done` mark last. A kill at any moment leaves a whole case or none, and since the digest
decides the bytes, two writers of one case write the same.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
import zarr.codecs
import zarr.storage
from numpy.typing import NDArray

from matting.geometry.grid import Grid
from matting.geometry.patch import Patch
from storage.errors import AlreadyExistsError, CorruptionError, NotFoundError
from storage.layout import (
    case_prefix,
    done_key,
    grid_attributes,
    grid_from_attributes,
    image_metadata,
    label_metadata,
    rounded_alpha,
)
from storage.recipe import Recipe
from storage.store import Store, canonical_json

ALGORITHM_VERSION = 7
"""Raised whenever the same source and recipe give other bytes than before."""

_CODEC = zarr.codecs.ZstdCodec(level=3)
_CT_CODEC = zarr.codecs.BloscCodec(cname="lz4hc", clevel=5, shuffle="bitshuffle", typesize=2)
"""CT is mostly noise: split into bit planes it packs a tenth smaller and unpacks three times faster than with zstd,
which is the better one for mattes and masks."""


@dataclass(frozen=True, slots=True)
class NewCase:
    """All that goes into a case."""

    nodule_id: str
    digest: str
    patch: Patch
    trimap: NDArray[np.uint8]
    """(z, y, x)."""
    alphas: Mapping[str, NDArray[np.float64] | None]
    """(z, y, x) in 0..1 by method, in stored order; None where a method gave no matte."""
    facts: Mapping[str, Any]
    """JSON for the attributes: source, recipe, per-method reports, candidate figures."""


@dataclass(frozen=True, slots=True)
class Case:
    """A stored case, opened for reading; arrays are read when asked for."""

    nodule_id: str
    digest: str
    group: zarr.Group

    @property
    def facts(self) -> dict[str, Any]:
        """Everything known about the case, as JSON."""
        facts = self.group.attrs["halosign"]
        if not isinstance(facts, dict):
            raise CorruptionError(
                f"case {self.nodule_id}/{self.digest} has no attributes of ours. Recompute it."
            )
        return dict(facts)

    @property
    def grid(self) -> Grid:
        """Where the case lies in the patient."""
        return grid_from_attributes(self.facts["geometry"])

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the stored mattes, in stored order."""
        return tuple(self.facts["methods"])

    @property
    def reader_count(self) -> int:
        """How many readers' masks there are."""
        return int(self._array("labels/readers/0").shape[0])

    def array(self, name: str) -> NDArray[Any]:
        """Read one array whole: image, validity, labels/readers/0, labels/trimap/0 or known_alpha."""
        return np.asarray(self._array(name)[...])

    def alpha(self, method: str) -> NDArray[np.float32]:
        """Read one matte (z, y, x); NaN throughout where the method gave none."""
        return np.asarray(self._array("alpha")[self.methods.index(method)])

    def _array(self, name: str) -> zarr.Array[Any]:
        found = self.group[name]
        if not isinstance(found, zarr.Array):
            raise CorruptionError(
                f"{name} of case {self.nodule_id}/{self.digest} is no array. Recompute it."
            )
        return found


def case_digest(content_sha256: str, recipe: Recipe) -> str:
    """Name a case by all that decides its bytes: source, recipe, algorithm."""
    decides = {
        "source": content_sha256,
        "recipe": recipe.deciding(),
        "algorithm": ALGORITHM_VERSION,
    }
    return hashlib.sha256(canonical_json(decides)).hexdigest()


def is_done(store: Store, nodule_id: str, digest: str) -> bool:
    """Ask the store whether a case is whole."""
    return store.size(done_key(nodule_id, digest)) is not None


def write_case(store: Store, case: NewCase) -> int:
    """Store a case and mark it done; gives the bytes written. May be repeated, also by another worker."""
    prefix = case_prefix(case.nodule_id, case.digest)
    staged = _stage(case)
    if is_done(
        store, case.nodule_id, case.digest
    ):  # another worker was first while this one computed
        return sum(
            int(facts["bytes"]) for facts in case_files(store, case.nodule_id, case.digest).values()
        )
    for name, data in sorted(staged.items()):
        store.put(f"{prefix}/{name}", data)
    listing = {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        for name, data in staged.items()
    }
    try:
        store.create(
            done_key(case.nodule_id, case.digest),
            canonical_json({"digest": case.digest, "files": listing}),
        )
    except AlreadyExistsError as error:
        raise CorruptionError(
            f"{store.url}/{done_key(case.nodule_id, case.digest)} lists other bytes than were computed: two workers "
            "ran different versions of a library. Run `halosign store check`, delete the mark, curate again."
        ) from error
    return sum(len(data) for data in staged.values())


def read_case(store: Store, nodule_id: str, digest: str) -> Case:
    """Open a case that is done; raises NotFoundError where it is not, Damaged where its metadata is gone."""
    if not is_done(store, nodule_id, digest):
        raise NotFoundError(
            f"{store.url} holds no finished case {nodule_id}/{digest}. Curate it, or check the id."
        )
    shelf = zarr.storage.ObjectStore(store.objects, read_only=True)
    try:
        group = zarr.open_group(shelf, path=case_prefix(nodule_id, digest), mode="r")
    except (FileNotFoundError, ValueError) as error:
        raise CorruptionError(
            f"case {nodule_id}/{digest} has lost its metadata. Delete its mark, curate again."
        ) from error
    return Case(nodule_id, digest, group)


def case_files(store: Store, nodule_id: str, digest: str) -> dict[str, dict[str, Any]]:
    """Give the files of a finished case: path in the store to SHA-256 and bytes; raises NotFoundError or CorruptionError."""
    mark = store.get_json(done_key(nodule_id, digest))
    try:
        return {
            f"{case_prefix(nodule_id, digest)}/{name}": facts
            for name, facts in sorted(mark["files"].items())
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise CorruptionError(
            f"{done_key(nodule_id, digest)} lists no files. Delete it and curate again."
        ) from error


def damage(store: Store, files: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Read every file and name those that are missing or not what was written."""
    complaints = []
    for key, facts in files.items():
        try:
            data = store.get(key)
        except NotFoundError:
            complaints.append(f"{key}: missing")
            continue
        if len(data) != facts["bytes"]:
            complaints.append(f"{key}: {len(data)} bytes, {facts['bytes']} were written")
        elif hashlib.sha256(data).hexdigest() != facts["sha256"]:
            complaints.append(f"{key}: the content is not what was written")
    return complaints


def _stage(case: NewCase) -> dict[str, bytes]:
    """Build the group in memory and give its files."""
    shelf: dict[str, Any] = {}
    group = zarr.create_group(
        zarr.storage.MemoryStore(shelf), zarr_format=3, attributes=_attributes(case)
    )
    alpha = np.full((len(case.alphas), *case.patch.grid.shape), np.nan, np.float32)
    for slot, matte in enumerate(case.alphas.values()):
        if matte is not None:
            alpha[slot] = rounded_alpha(matte)
    put_array(group, "image", np.rint(case.patch.image_hu).astype(np.int16), 3)
    put_array(group, "alpha", alpha, 4)
    put_array(group, "validity", case.patch.valid.astype(np.uint8), 3)
    if case.patch.known_alpha is not None:
        put_array(group, "known_alpha", rounded_alpha(case.patch.known_alpha.astype(np.float64)), 3)
    labels = group.create_group(
        "labels", attributes={"ome": {"version": "0.5", "labels": ["readers", "trimap"]}}
    )
    for name, values in (("readers", case.patch.readers.astype(np.uint8)), ("trimap", case.trimap)):
        metadata = label_metadata(name, case.patch.grid, channels=values.ndim == 4)
        put_array(labels.create_group(name, attributes={"ome": metadata}), "0", values, values.ndim)
    return {key: bytes(buffer.to_bytes()) for key, buffer in shelf.items()}


def _attributes(case: NewCase) -> dict[str, Any]:
    facts = {
        "nodule": case.nodule_id,
        "digest": case.digest,
        "algorithm": ALGORITHM_VERSION,
        "geometry": grid_attributes(case.patch.grid),
        "methods": list(case.alphas),
        **case.facts,
    }
    return {"ome": image_metadata(case.patch.grid), "halosign": facts}


def put_array(group: zarr.Group, name: str, values: NDArray[Any], dimensions: int) -> None:
    """Store an array with one chunk a volume."""
    chunks = (1, *values.shape[1:]) if dimensions == 4 else values.shape
    names = ("c", "z", "y", "x")[-dimensions:]
    codec = _CT_CODEC if name == "image" else _CODEC
    array = group.create_array(
        name,
        shape=values.shape,
        dtype=values.dtype,
        chunks=chunks,
        compressors=[codec],
        dimension_names=names,
    )
    array[...] = values

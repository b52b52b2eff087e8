"""Volumes as the browser gets them: a nodule's CT, and the overlays in the box that holds them all.

Both are packed as a little-endian uint32 with the length of a JSON header, the header, and the
arrays that it lists, each starting at a multiple of eight bytes. Every array is flipped so that its
axes run towards head, back and left. The CT keeps its HU, so that the browser can apply any window;
voxels that the scanner did not measure have a value of their own. Mattes are rounded to steps of
1/255. Outside the box all mattes are 0 and nothing is marked.
"""

import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, TypeVar

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from matting.geometry.box import Box, box_around
from qc.figures.drawing import upright_flips
from storage.cases.case import Case, read_case
from storage.reviews.studies import MATTE
from storage.store import Store

UNMEASURED_HU = -32768
"""Value of voxels that the scanner did not measure."""
MAX_CASES = 24
"""How many cases are kept in memory, about 5 MB each."""
_GZIP_LEVEL = 1
"""The fastest: packing must not take longer than sending."""

Bytes = NDArray[np.uint8]
T = TypeVar("T")
Key = tuple[str, str]
"""Nodule id and digest."""


@dataclass(frozen=True, slots=True)
class Overlays:
    """Mattes, masks and trimap of a case, cut to the box that holds them all."""

    start: tuple[int, int, int]
    """The box's first voxel (z, y, x)."""
    alphas: Mapping[str, Bytes]
    """Mattes in steps of 1/255 by method."""
    readers: Bytes
    """(readers, z, y, x), 0 or 1."""
    trimap: Bytes
    middle: tuple[float, ...]
    """Centre (z, y, x), in voxels, of the region that most readers marked: the first view."""
    extent: tuple[int, ...]
    """Size (z, y, x), in voxels, of the readers' union."""

    def option(self, name: str, matte: str = "") -> Bytes:
        """Return an option's volume (z, y, x) in 0..255: a matte or a reader's mask."""
        if name in self.alphas:
            return self.alphas[name]
        if name == MATTE:
            return self.alphas[matte]
        mask: Bytes = self.readers[int(name.removeprefix("reader-")) - 1] * np.uint8(255)
        return mask


def pack_ct(case: Case) -> bytes:
    """Return a case's CT, packed and compressed."""
    flips = upright_flips(case.grid)
    image = case.array("image")
    image = np.where(case.array("validity") > 0, image, UNMEASURED_HU).astype("<i2")
    header = {"spacing_mm": list(case.grid.spacing_mm), "unmeasured": UNMEASURED_HU}
    return gzip.compress(_pack(header, {"ct": image[flips]}), _GZIP_LEVEL, mtime=0)


def read_overlays(case: Case) -> Overlays:
    """Read a case's mattes, masks and trimap and cut them to the box that holds them all."""
    flips = upright_flips(case.grid)
    readers = case.array("labels/readers/0")[:, *flips] > 0
    trimap = case.array("labels/trimap/0")[flips]
    mattes = {method: np.nan_to_num(case.alpha(method)[flips]) for method in case.methods}
    marked_by = readers.sum(axis=0, dtype=np.uint8)
    marked = (marked_by > 0) | (trimap > 0)
    for alpha in mattes.values():
        marked |= alpha > 0
    box = _box_around(marked)
    union = _box_around(marked_by > 0)
    agreed = np.argwhere(marked_by[union] == marked_by.max())
    return Overlays(
        start=(box[0].start, box[1].start, box[2].start),
        alphas={
            method: np.rint(alpha[box] * 255).astype(np.uint8) for method, alpha in mattes.items()
        },
        readers=readers[:, *box].astype(np.uint8),
        trimap=trimap[box],
        middle=tuple((agreed.mean(axis=0) + [along.start for along in union]).round(1).tolist()),
        extent=tuple(along.stop - along.start for along in union),
    )


def pack_overlays(
    overlays: Overlays, options: Sequence[str], matte: str, *, with_marks: bool
) -> bytes:
    """Return the options in screen order, packed and compressed, without their names.

    Args:
        overlays: Of the case.
        options: Names of methods or of a study's options.
        matte: The method whose matte a study shows.
        with_marks: Whether to add the readers' masks and the trimap, which a study must not show.
    """
    arrays = {"options": np.stack([overlays.option(name, matte) for name in options])}
    if with_marks:
        bits = np.arange(len(overlays.readers), dtype=np.uint8)[:, None, None, None]
        arrays |= {
            "readers": np.bitwise_or.reduce(overlays.readers << bits),
            "trimap": overlays.trimap,
        }
    places = {"start": overlays.start, "middle": overlays.middle, "extent": overlays.extent}
    header = {**places, "readers": len(overlays.readers) if with_marks else 0}
    return gzip.compress(_pack(header, arrays), _GZIP_LEVEL, mtime=0)


class CasePayloads:
    """Packed volumes of a store's cases; the most recently used ones are kept in memory."""

    def __init__(self, store: Store, max_cases: int = MAX_CASES) -> None:
        self._store = store
        self._cts = LRUCache[Key, bytes](max_cases)
        self._overlays = LRUCache[Key, Overlays](max_cases)
        self._lock = Lock()

    def ct(self, nodule_id: str, digest: str) -> bytes:
        """Return a case's CT, packed and compressed."""
        return self._cached(self._cts, (nodule_id, digest), pack_ct)

    def overlays(self, nodule_id: str, digest: str) -> Overlays:
        """Return a case's overlays."""
        return self._cached(self._overlays, (nodule_id, digest), read_overlays)

    def _cached(self, cache: LRUCache[Key, T], key: Key, make: Callable[[Case], T]) -> T:
        with self._lock:
            if key in cache:
                return cache[key]
        # Made outside the lock: two requests at once make it twice, but none waits for another.
        made = make(read_case(self._store, *key))
        with self._lock:
            cache[key] = made
        return made


def _box_around(mask: NDArray[np.bool_]) -> Box:
    """Return the box around a mask, one voxel larger on each side so that contours close."""
    if not mask.any():
        return slice(0, 1), slice(0, 1), slice(0, 1)
    return box_around(mask, (1, 1, 1))


def _pack(header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> bytes:
    offset = 0
    listing = []
    for name, values in arrays.items():
        listing.append(
            {"name": name, "type": values.dtype.name, "shape": list(values.shape), "offset": offset}
        )
        offset += -(-values.nbytes // 8) * 8
    text = json.dumps({**header, "arrays": listing}).encode()
    # Padded so that the first array starts at a multiple of eight
    text += b" " * (-(4 + len(text)) % 8)
    parts = [len(text).to_bytes(4, "little"), text]
    for values in arrays.values():
        data = np.ascontiguousarray(values).tobytes()
        parts.append(data + b"\0" * (-len(data) % 8))
    return b"".join(parts)

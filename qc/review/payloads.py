"""Volumes on their way to the browser: the CT once per nodule, and the overlays in the box that holds them all.

Both are packed as a little-endian uint32 with the length of a JSON header, the header, and the arrays that it lists,
each beginning at a multiple of eight. Every array is upright: its axes run to the head, the back and the left. The
CT keeps its HU, so that any window can be set; what the scanner did not measure has a value of its own. Mattes go in
steps of 1/255, which the eye cannot tell from the stored ones. Outside the box all mattes are 0 and nothing is marked.
"""

import gzip
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from qc.figures.drawing import upright_flips
from storage.cases.case import Case
from storage.reviews.studies import MATTE

UNMEASURED_HU = -32768
"""Marks voxels that the scanner did not measure."""
KEPT = 24
"""So many nodules are kept in memory, some 5 MB each."""
_GZIP_LEVEL = 1
"""Packing must not take longer than sending."""

Bytes = NDArray[np.uint8]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Overlays:
    """What is drawn over the CT, in the box that holds it all."""

    start: tuple[int, int, int]
    """The box's first voxel (z, y, x)."""
    alphas: Mapping[str, Bytes]
    """Mattes in steps of 1/255 by method."""
    readers: Bytes
    """(readers, z, y, x), 0 or 1."""
    trimap: Bytes
    middle: tuple[float, ...]
    """Centre (z, y, x), in voxels, of what the most readers marked: where to look first."""
    extent: tuple[int, ...]
    """Voxels (z, y, x) that everything spans that any reader marked."""

    def option(self, name: str, matte: str = "") -> Bytes:
        """Give what an option shows: a method's matte, a reader's mask, or a study's matte."""
        if name in self.alphas:
            return self.alphas[name]
        if name == MATTE:
            return self.alphas[matte]
        mask: Bytes = self.readers[int(name.removeprefix("reader-")) - 1] * np.uint8(255)
        return mask


def pack_ct(case: Case) -> bytes:
    """Pack a case's CT, compressed."""
    flips = upright_flips(case.grid)
    image = case.array("image")
    image = np.where(case.array("validity") > 0, image, UNMEASURED_HU).astype("<i2")
    header = {"spacing_mm": list(case.grid.spacing_mm), "unmeasured": UNMEASURED_HU}
    return gzip.compress(_pack(header, {"ct": image[flips]}), _GZIP_LEVEL)


def read_overlays(case: Case) -> Overlays:
    """Read a case's mattes, masks and trimap and cut them to the box that holds them all."""
    flips = upright_flips(case.grid)
    readers = case.array("labels/readers/0")[:, *flips] > 0
    trimap = case.array("labels/trimap/0")[flips]
    mattes = {method: np.nan_to_num(case.alpha(method)[flips]) for method in case.methods}
    votes = readers.sum(axis=0, dtype=np.uint8)
    marked = (votes > 0) | (trimap > 0)
    for alpha in mattes.values():
        marked |= alpha > 0
    box, union = _box_around(marked), _box_around(votes > 0)
    agreed = np.argwhere(votes[union] == votes.max())
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
    """Pack the options in the order in which they are shown, compressed; their names stay here.

    Args:
        overlays: What may be shown.
        options: Methods, or a study's options.
        matte: The method whose matte a study shows.
        with_marks: Whether the readers' outlines and the trimap go along, which would give a study away.
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
    return gzip.compress(_pack(header, arrays), _GZIP_LEVEL)


class Kept(Generic[T]):
    """The last few things that were made, by key."""

    def __init__(self, limit: int = KEPT) -> None:
        self._limit, self._kept, self._lock = limit, OrderedDict[Any, T](), Lock()

    def get(self, key: object, make: Callable[[], T]) -> T:
        """Give what is kept under a key, or make it."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        # Made outside the lock: two who come at once make it twice, and nobody waits for another nodule
        made = make()
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > self._limit:
                self._kept.popitem(last=False)
        return made


def _box_around(marked: NDArray[np.bool_]) -> tuple[slice, slice, slice]:
    """Give the box around what is marked, with one voxel around it so that contours close."""
    if not marked.any():
        return slice(0, 1), slice(0, 1), slice(0, 1)
    slices = []
    for axis, size in enumerate(marked.shape):
        places = np.flatnonzero(marked.any(axis=tuple({0, 1, 2} - {axis})))
        slices.append(slice(max(int(places[0]) - 1, 0), min(int(places[-1]) + 2, size)))
    return slices[0], slices[1], slices[2]


def _pack(header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> bytes:
    offset, listing = 0, []
    for name, values in arrays.items():
        listing.append(
            {"name": name, "type": values.dtype.name, "shape": list(values.shape), "offset": offset}
        )
        offset += -(-values.nbytes // 8) * 8
    text = json.dumps({**header, "arrays": listing}).encode()
    # Spaces at its end put the first array at a multiple of eight
    text += b" " * (-(4 + len(text)) % 8)
    parts = [len(text).to_bytes(4, "little"), text]
    for values in arrays.values():
        data = np.ascontiguousarray(values).tobytes()
        parts.append(data + b"\0" * (-len(data) % 8))
    return b"".join(parts)

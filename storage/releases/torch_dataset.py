"""A release as a PyTorch data set: one crop of one nodule per item.

    from halosign import ReleaseDataset, open_release
    from torch.utils.data import DataLoader

    nodules = ReleaseDataset(open_release("./store", "0.1.0"), "train", seed=1)
    loader = DataLoader(nodules, batch_size=16, shuffle=True, num_workers=4)
    for epoch in range(300):
        nodules.set_epoch(epoch)
        for batch in loader:
            batch["image"]    # (16, 1, 96, 96, 96) float32, HU

The position of a crop depends on seed, epoch and index alone: not on the number of workers, their
order or how they were started. Arrays are returned raw; scaling and augmentation are up to the
training.

No other module of the package imports torch, so commands and workers that do not train need not
wait for it.
"""

import operator
import os
from collections.abc import Callable, Iterable, Sequence
from math import ceil
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from matting.errors import InputError
from matting.geometry.box import Box, box_around
from matting.geometry.grid import Shape
from matting.geometry.patch import AIR_HU
from storage.releases.reader import ReleaseReader, Start, check_shape
from storage.releases.release import Release, open_release
from storage.releases.splits import SPLITS

CROP_ZYX = (96, 96, 96)
"""Size of the paper's input patches (z, y, x)."""


class ReleaseDataset(Dataset[Any]):
    """Crops of a release's nodules.

    An item is a dict, ready for the default collation:

    - ``image``: (1, z, y, x) float32, radiodensity in HU; -1000 (air) where nothing was measured
      and beyond the volume.
    - ``alpha``: (1, z, y, x) float32 in 0..1, the released matte; 0 beyond the volume.
    - ``overlap``: (1, z, y, x) bool, what all readers marked.
    - ``union``: (1, z, y, x) bool, what any reader marked.
    - ``valid``: (1, z, y, x) bool, what the scanner measured; False beyond the volume. Keep the
      rest out of a loss.
    - ``start``: (3,) int64, voxel (z, y, x) of the nodule's volume at which the crop begins;
      negative where it begins before it.
    - ``nodule``: the nodule's id.
    """

    def __init__(
        self,
        release: Release | str | os.PathLike[str],
        split: str | Iterable[str],
        *,
        crop_zyx: int | Sequence[int] = CROP_ZYX,
        seed: int | None = None,
        focus: float = 0.0,
        fitted: int = 0,
        transform: Callable[[dict[str, Any]], Any] | None = None,
        cache: str | os.PathLike[str] | None = None,
    ) -> None:
        """Take crops of an opened release.

        Args:
            release: From `storage.releases.release.open_release`; or the folder or URL of an
                export in the format ``zarr``, which holds one release.
            split: ``train``, ``validation`` or ``test``; or several of them, or the ids of some
                nodules, in the order in which they are numbered.
            crop_zyx: Size of a crop in voxels, or one number for a cube. It is placed in the box
                of the measured voxels; where that is smaller, the crop contains the whole box, at
                a random position too.
            seed: Of the random positions; None takes the middle of each box, every time.
            focus: Fraction of the crops, 0..1, that are placed so that they contain a voxel that a
                reader marked. Small crops at random positions would rarely contain any of the
                nodule.
            fitted: Where the box is smaller than a crop, reduce the crop to the next multiple of
                this many voxels. Crops then differ in size and cannot be collated; 0 gives all of
                them the same size.
            transform: Called with each item; what it returns takes the item's place. With worker
                processes that are spawned it must be picklable.
            cache: A folder for copies of all volumes that are read from a bucket or over HTTP, so
                that each is downloaded once and not in every epoch; it grows to the size of the
                release. Releases in folders need none, and ignore it.

        Raises:
            InputError: There is no such release, split or nodule, or the size, the seed or the
                share is invalid.
        """
        if not 0 <= focus <= 1:
            raise InputError(
                "invalid share of crops that contain a marked voxel",
                got=focus,
                expected="0 to 1",
                remedy="Use for example 0.5.",
            )
        opened = release if isinstance(release, Release) else open_release(release)
        self.reader = ReleaseReader(opened, cache=None if cache is None else Path(cache))
        self.nodules = _choose_nodules(self.reader, split)
        self.crop_zyx = check_shape(crop_zyx)
        self.seed = None if seed is None else _whole("seed", seed)
        self.focus = focus
        self.fitted = _whole("multiple of voxels", fitted)
        self.transform = transform
        self._boxes: dict[str, Box] = {}
        # In shared memory, so that workers that persist from epoch to epoch see it change.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]

    def set_epoch(self, epoch: int) -> None:
        """Use other random positions from now on; call it before iterating over the loader."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        """Return the number of nodules: one crop of each per epoch."""
        return len(self.nodules)

    def __repr__(self) -> str:
        """Name the release and the number of nodules, without arrays."""
        version, size = self.reader.version, "x".join(map(str, self.crop_zyx))
        return f"ReleaseDataset({version}, {len(self)} nodules, crops of {size})"

    def __getitem__(self, index: SupportsIndex) -> Any:
        """Read one crop of nodule number `index`."""
        index = operator.index(index)  # NumPy's and torch's whole numbers too
        if not -len(self) <= index < len(self):
            raise IndexError(f"{index} of {len(self)} nodules")
        index %= len(self)
        nodule_id = self.nodules[index]
        size = self._size(nodule_id)
        start = self._start(nodule_id, index, size)
        readers = self._read(nodule_id, "readers", start, size)
        parts: list[tuple[str, NDArray[Any], type, float]] = [
            ("image", self._read(nodule_id, "image", start, size), np.float32, AIR_HU),
            ("alpha", self._read(nodule_id, "alpha", start, size), np.float32, 0),
            ("overlap", np.bitwise_and.reduce(readers), np.bool_, False),
            ("union", np.bitwise_or.reduce(readers), np.bool_, False),
            ("valid", self._read(nodule_id, "validity", start, size), np.bool_, False),
        ]
        item: dict[str, Any] = {
            name: torch.from_numpy(_pad(part, start, size, dtype, fill))
            for name, part, dtype, fill in parts
        }
        item |= {"start": torch.from_numpy(np.array(start)), "nodule": nodule_id}
        return self.transform(item) if self.transform else item

    def shapes(self, index: int) -> tuple[Shape, Shape]:
        """Return how much of a crop of nodule number `index` can be measured CT, and its size."""
        nodule_id = self.nodules[index]
        size = self._size(nodule_id)
        z, y, x = (
            min(crop, side.stop - side.start)
            for crop, side in zip(size, self._box(nodule_id), strict=True)
        )
        return (z, y, x), size

    def _box(self, nodule_id: str) -> Box:
        """Return the box of the measured voxels, which is all that a prediction uses."""
        if nodule_id not in self._boxes:
            valid = self.reader.read(nodule_id, "validity") > 0
            self._boxes[nodule_id] = box_around(valid, (0, 0, 0))
        return self._boxes[nodule_id]

    def _size(self, nodule_id: str) -> Shape:
        if not self.fitted:
            return self.crop_zyx
        z, y, x = (
            min(crop, ceil((side.stop - side.start) / self.fitted) * self.fitted)
            for crop, side in zip(self.crop_zyx, self._box(nodule_id), strict=True)
        )
        return z, y, x

    def _start(self, nodule_id: str, index: int, size: Shape) -> Start:
        """Return the first voxel of a crop; negative where the crop is larger than the volume."""
        box = self._box(nodule_id)
        room = [side.stop - side.start - crop for side, crop in zip(box, size, strict=True)]
        if self.seed is None:
            z, y, x = (side.start + free // 2 for side, free in zip(box, room, strict=True))
            return z, y, x
        generator = np.random.default_rng([self.seed, int(self._epoch), index])
        low = [side.start + min(free, 0) for side, free in zip(box, room, strict=True)]
        high = [side.start + max(free, 0) for side, free in zip(box, room, strict=True)]
        if generator.random() < self.focus:
            voxel = self._marked_voxel(nodule_id, box, generator)
            # Crops that contain the voxel begin at most `crop - 1` before it and at the latest at
            # it.
            low = [max(a, v - crop + 1) for a, v, crop in zip(low, voxel, size, strict=True)]
            high = [min(b, v) for b, v in zip(high, voxel, strict=True)]
        z, y, x = (
            int(generator.integers(a, b, endpoint=True)) for a, b in zip(low, high, strict=True)
        )
        return z, y, x

    def _marked_voxel(self, nodule_id: str, box: Box, generator: np.random.Generator) -> list[int]:
        """Draw a voxel that a reader marked.

        One that was not measured is moved to the nearest one of the box.
        """
        marked = np.argwhere(self.reader.read(nodule_id, "readers").any(axis=0))
        voxel = marked[generator.integers(len(marked))]
        first = [side.start for side in box]
        last = [side.stop - 1 for side in box]
        return [int(v) for v in np.clip(voxel, first, last)]

    def _read(self, nodule_id: str, name: str, start: Start, size: Shape) -> NDArray[Any]:
        """Read the part of a crop that is inside the volume."""
        z, y, x = (max(first, 0) for first in start)
        depth, rows, columns = (
            crop + min(first, 0) for crop, first in zip(size, start, strict=True)
        )
        return self.reader.read(nodule_id, name, (z, y, x), (depth, rows, columns))


def _pad(part: NDArray[Any], start: Start, size: Shape, dtype: type, fill: float) -> NDArray[Any]:
    """Return the crop (1, z, y, x) with `fill` where it is outside the volume."""
    whole: NDArray[Any] = np.full((1, *size), fill, dtype)
    z, y, x = (
        slice(max(-first, 0), max(-first, 0) + n)
        for first, n in zip(start, part.shape, strict=True)
    )
    whole[0, z, y, x] = part
    return whole


def _choose_nodules(reader: ReleaseReader, split: str | Iterable[str]) -> tuple[str, ...]:
    if isinstance(split, str):
        return reader.nodules(split)
    if not isinstance(split, Iterable):
        raise InputError(
            "invalid choice of nodules",
            got=repr(split),
            expected="a split, several of them, or ids of nodules",
            remedy='Use for example "train".',
        )
    chosen: list[str] = []
    for name in split:
        chosen += reader.nodules(name) if name in SPLITS else (reader.member(name).nodule_id,)
    return tuple(chosen)


def _whole(name: str, number: SupportsIndex) -> int:
    try:
        whole = operator.index(number)
    except TypeError:
        whole = -1
    if whole < 0:
        raise InputError(
            f"invalid {name}",
            got=repr(number),
            expected="a whole number from 0 up",
            remedy="Use for example 1.",
        )
    return whole

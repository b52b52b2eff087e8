"""Crops of CT around points that hold no nodule: what else a network meets in a chest.

A network that learned crops of nodules alone finds a nodule wherever it is asked for one. Crops
without a nodule are cut to the sizes of nodules' crops, so that a size tells the network nothing.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from matting.errors import InputError
from matting.geometry.grid import Shape
from matting.geometry.hounsfield import check_hounsfield
from matting.geometry.patch import AIR_HU
from matting.geometry.resample import resample_image
from matting.parameters import ResampleSettings
from matting.short_repr import short_repr
from storage.recipe import EVERYTHING_ALLOWED
from storage.sources.base import REFUSE_ODD
from storage.sources.ct import CtVolume, read_ct
from storage.sources.points import Point, read_points

_HU_REMEDY = "Convert it to HU, or give the original CT."


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The CT around a point, on the network's voxels."""

    image_hu: NDArray[np.int16]
    """(z, y, x): radiodensity, air where not valid."""
    valid: NDArray[np.bool_]
    """(z, y, x): True where the scanner measured."""
    point: tuple[int, int, int]
    """The voxel of the point."""

    __repr__ = short_repr


def read_negatives(table: Path, spacing_mm: float, crop_zyx: Shape) -> tuple[Surroundings, ...]:
    """Read the surroundings of points that hold no nodule.

    Args:
        table: Columns image, z, y, x; see `storage.sources.points`.
        spacing_mm: Of the network's voxels.
        crop_zyx: Its largest crop in voxels; half of it and a quarter are read on each side.

    Raises:
        InputError: The table or a CT cannot be read, is not in HU, or a point is not in its CT.
    """
    found: list[Surroundings] = []
    # One CT is held at a time: there may be many.
    for image, points in groupby(sorted(read_points(table), key=_image), _image):
        ct = read_ct(image, REFUSE_ODD, EVERYTHING_ALLOWED)
        check_hounsfield(ct.image_hu, ct.valid, remedy=_HU_REMEDY)
        reach_mm = [0.75 * size * spacing_mm for size in crop_zyx]
        found += [_surroundings(ct, point, spacing_mm, reach_mm) for point in points]
    return tuple(found)


def negatives_sha256(negatives: Sequence[Surroundings]) -> str:
    """Return a hash of all that a training sees of them."""
    found = hashlib.sha256()
    for one in negatives:
        found.update(f"{one.image_hu.shape} {one.point}".encode())
        found.update(np.ascontiguousarray(one.image_hu).data)
        found.update(np.packbits(one.valid).data)
    return found.hexdigest()


def cut_negative(
    around: Surroundings, measured: Shape, crop: Shape, generator: np.random.Generator
) -> dict[str, Tensor]:
    """Cut a crop without a nodule.

    Args:
        around: The CT around a point.
        measured: Voxels of CT in the crop (z, y, x); fewer where the CT ends.
        crop: Its size; at least `measured`.
        generator: Draws where.

    Returns:
        Tensors by name as `matting.learned.batches.TENSORS`, each (1, z, y, x): the image, nothing
        in any mask or matte, and what was measured. The point is in its middle half.
    """
    source, target = [], []
    for at, size, wanted, whole in zip(
        around.point, around.image_hu.shape, measured, crop, strict=True
    ):
        count = min(wanted, size)
        start = at - int(generator.integers(count // 4, 3 * count // 4, endpoint=True))
        start = min(max(start, 0), size - count)
        offset = int(generator.integers(0, whole - count, endpoint=True))
        source.append(slice(start, start + count))
        target.append(slice(offset, offset + count))
    image = np.full(crop, AIR_HU, np.float32)
    valid = np.zeros(crop, bool)
    image[tuple(target)] = around.image_hu[tuple(source)]
    valid[tuple(target)] = around.valid[tuple(source)]
    nothing = torch.zeros(1, *crop, dtype=torch.bool)
    return {
        "image": torch.from_numpy(image[None]),
        "alpha": torch.zeros(1, *crop),
        "overlap": nothing,
        "union": nothing.clone(),
        "valid": torch.from_numpy(valid[None]),
    }


def _image(point: Point) -> Path:
    return point.image


def _surroundings(
    ct: CtVolume, point: Point, spacing_mm: float, reach_mm: Sequence[float]
) -> Surroundings:
    if not all(at < size for at, size in zip(point.voxel, ct.grid.shape, strict=True)):
        raise InputError(
            "a point is not in its CT",
            got=f"voxel {point.voxel} of {point.image.name} (line {point.line})",
            expected=f"z, y, x below {ct.grid.shape}",
            remedy="Count voxels from 0 in the order z, y, x: viewers often show x, y, z.",
        )
    reach = [round(mm / spacing) for mm, spacing in zip(reach_mm, ct.grid.spacing_mm, strict=True)]
    first = [max(0, at - r) for at, r in zip(point.voxel, reach, strict=True)]
    ends = zip(first, point.voxel, reach, ct.grid.shape, strict=True)
    z, y, x = (slice(start, min(size, at + r + 1)) for start, at, r, size in ends)
    image_hu, valid = ct.image_hu[z, y, x], ct.valid[z, y, x]
    grid = ct.grid.window((z.start, y.start, x.start), image_hu.shape)
    image_hu, valid, fine = resample_image(
        image_hu, valid, grid, ResampleSettings(spacing_mm=spacing_mm)
    )
    c, b, a = (
        min(round((at - start) * spacing / spacing_mm), size - 1)
        for at, start, spacing, size in zip(
            point.voxel, first, ct.grid.spacing_mm, fine.shape, strict=True
        )
    )
    return Surroundings(image_hu.round().astype(np.int16), valid, (c, b, a))

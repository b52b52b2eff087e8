"""Readers' masks from volume files: one bit-coded volume, or one volume a reader."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matting.errors import InputError
from matting.geometry.grid import Grid
from storage.sources.image_io import LATTICE_TOLERANCE_MM, distance_mm, read_volume

READERS_AT_MOST = 16
"""Readers that one nodule can have."""


def read_masks(files: Sequence[Path], grid: Grid, number: int | None) -> NDArray[np.bool_]:
    """Read the masks of one nodule.

    Args:
        files: One bit-coded file (bit r = reader r), or one mask per reader.
        grid: The CT's, on which the masks must lie.
        number: How many readers a bit-coded file has; None for as many as its highest bit tells.

    Returns:
        The masks (readers, z, y, x), none of them empty.

    Raises:
        InputError: Where a file is missing, unreadable, has another geometry, or holds anything but
            masks.
    """
    volumes = [_whole_numbers(path, grid) for path in files]
    if len(files) > 1:
        masks = np.stack(
            [_plain(path, values) for path, values in zip(files, volumes, strict=True)]
        )
    else:
        masks = _bits(files[0], volumes[0], number)
    for reader, mask in enumerate(masks):
        if not mask.any():
            raise InputError(
                "a reader's mask is empty",
                got=f"no voxel of reader {reader} in {files[reader if len(files) > 1 else 0]}",
                expected="one voxel or more",
                remedy="Correct the mask, or remove the line.",
            )
    return masks


def _whole_numbers(path: Path, grid: Grid) -> NDArray[Any]:
    volume = read_volume(path, "a readers' mask")
    if volume.grid.shape != grid.shape:
        raise InputError(
            "a mask has another shape than the CT",
            got=f"{volume.grid.shape} in {path}",
            expected=f"{grid.shape} (z, y, x)",
            remedy="Give the mask on the CT's own voxels.",
        )
    apart = distance_mm(volume.grid, grid)
    if apart > LATTICE_TOLERANCE_MM:
        raise InputError(
            "a mask has another geometry than the CT",
            got=f"corners up to {apart:.3f} mm apart ({path})",
            expected=f"at most {LATTICE_TOLERANCE_MM} mm",
            remedy="Give the mask with the CT's origin, spacing and direction.",
        )
    values = volume.values
    if not ((values == np.rint(values)) & (values >= 0)).all():
        raise InputError(
            "a mask holds other values than whole numbers from 0",
            got=f"{np.min(values)}..{np.max(values)} in {path}",
            expected="integers",
            remedy="Threshold soft masks first; resample masks with nearest neighbour only.",
        )
    return values


def _plain(path: Path, values: NDArray[Any]) -> NDArray[np.bool_]:
    found = np.unique(values)
    if len(found) > 2 or (len(found) == 2 and found[0] != 0):
        raise InputError(
            "a reader's mask holds several labels",
            got=f"values {', '.join(f'{v:g}' for v in found[:6])} in {path}",
            expected="0 and one other value",
            remedy="Give each reader a file of its own with this nodule only.",
        )
    return np.asarray(values != 0)


def _bits(path: Path, values: NDArray[Any], number: int | None) -> NDArray[np.bool_]:
    used = int(np.max(values)).bit_length()
    if used > (number or READERS_AT_MOST):
        raise InputError(
            "a bit-coded mask has more readers than it may",
            got=f"bit {used - 1} set in {path}",
            expected=f"bits 0 to {(number or READERS_AT_MOST) - 1}",
            remedy="Correct n_readers in the table, or the mask.",
        )
    codes = values.astype(np.int64)
    return np.stack([(codes >> bit) & 1 == 1 for bit in range(number or max(used, 1))])

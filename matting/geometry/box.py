"""Boxes of voxels: three slices along (z, y, x)."""

import numpy as np
from numpy.typing import NDArray

from matting.jit import kernel

Box = tuple[slice, slice, slice]


def box_around(mask: NDArray[np.bool_], reach: tuple[int, int, int]) -> Box:
    """Give the smallest box that holds the mask, grown by `reach` voxels along (z, y, x) within the array."""
    first, last = np.array(mask.shape), np.full(3, -1)
    _bound(np.ascontiguousarray(mask), first, last)
    low, high = (
        np.maximum(first - reach, 0).tolist(),
        np.minimum(last + 1 + reach, mask.shape).tolist(),
    )
    return slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])


@kernel
def _bound(mask: NDArray[np.bool_], first: NDArray[np.int64], last: NDArray[np.int64]) -> None:
    """Put the first and last index along each axis at which the mask holds anything."""
    for z in range(mask.shape[0]):
        for y in range(mask.shape[1]):
            row = mask[z, y]
            if not row.any():
                continue
            left, right = 0, len(row) - 1
            while not row[left]:
                left += 1
            while not row[right]:
                right -= 1
            first[0], first[1], first[2] = min(first[0], z), min(first[1], y), min(first[2], left)
            last[0], last[1], last[2] = max(last[0], z), max(last[1], y), max(last[2], right)

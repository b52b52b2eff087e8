"""Boxes of voxels: three slices along (z, y, x)."""

import numpy as np
from numpy.typing import NDArray

from matting.jit import kernel

Box = tuple[slice, slice, slice]


def box_around(mask: NDArray[np.bool_], reach: tuple[int, int, int]) -> Box:
    """Return the smallest box that holds a mask, grown within the array.

    Args:
        mask: (z, y, x), at least one voxel.
        reach: Voxels by which to grow the box along (z, y, x) at both ends, 0 or more.

    Returns:
        Slices along (z, y, x).
    """
    first = np.array(mask.shape)
    last = np.full(3, -1)
    _find_bounds(np.ascontiguousarray(mask), first, last)
    low = np.maximum(first - reach, 0).tolist()
    high = np.minimum(last + 1 + reach, mask.shape).tolist()
    return slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])


@kernel
def _find_bounds(
    mask: NDArray[np.bool_], first: NDArray[np.int64], last: NDArray[np.int64]
) -> None:
    """Write the first and last index along each axis at which the mask is True.

    One pass over the mask. Reducing it along every pair of axes, as numpy would, takes three.
    """
    for z in range(mask.shape[0]):
        for y in range(mask.shape[1]):
            row = mask[z, y]
            if not row.any():
                continue
            left = 0
            right = len(row) - 1
            while not row[left]:
                left += 1
            while not row[right]:
                right -= 1
            first[0] = min(first[0], z)
            first[1] = min(first[1], y)
            first[2] = min(first[2], left)
            last[0] = max(last[0], z)
            last[1] = max(last[1], y)
            last[2] = max(last[2], right)

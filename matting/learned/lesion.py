"""Which part of a predicted matte is the lesion that was pointed at."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from matting.geometry.grid import Vector

CORE_ALPHA = 0.5
"""Alpha from which a voxel belongs to the core of a lesion."""
REACH_MM = 2.0
"""A point that is at most so far from a core names its lesion: it was set by hand."""


def find_lesion(
    alpha: NDArray[np.floating], point: tuple[int, int, int], spacing_mm: Vector
) -> NDArray[np.bool_] | None:
    """Find the voxels of the lesion at a point.

    A core is a connected set of voxels with alpha of `CORE_ALPHA` or more. The lesion is the core
    nearest to the point with its soft border: all voxels that are nearer to it than to another.

    Args:
        alpha: (z, y, x), 0..1.
        point: Voxel (z, y, x).
        spacing_mm: Along (z, y, x).

    Returns:
        The voxels, of alpha's shape; None where no core is within `REACH_MM` of the point.
    """
    labels, number = ndimage.label(alpha >= CORE_ALPHA)
    if not number:
        return None
    offset = np.moveaxis(np.indices(alpha.shape), 0, -1) - point
    distance_mm = np.where(labels > 0, np.linalg.norm(offset * spacing_mm, axis=-1), np.inf)
    nearest = np.unravel_index(distance_mm.argmin(), alpha.shape)
    if distance_mm[nearest] > REACH_MM:
        return None
    at = ndimage.distance_transform_edt(
        labels == 0, sampling=spacing_mm, return_distances=False, return_indices=True
    )
    lesion: NDArray[np.bool_] = labels[tuple(at)] == labels[nearest]
    return lesion

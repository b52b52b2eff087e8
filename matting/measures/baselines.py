"""Trivial mattes, the baselines of every error table."""

import numpy as np
from numpy.typing import NDArray

from matting.geometry.patch import AIR_HU

TISSUE_HU = 40.0
"""Radiodensity of soft tissue, at which `hu_linear` is 1."""


def readers_mean(readers: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the share of readers that marked each voxel: (readers, z, y, x) to (z, y, x), 0..1."""
    mean: NDArray[np.float64] = readers.mean(axis=0, dtype=np.float64)
    return mean


def hu_linear(image_hu: NDArray[np.floating]) -> NDArray[np.float64]:
    """Scale HU linearly from air, 0, to soft tissue, 1, without any knowledge of the lesion."""
    scaled: NDArray[np.float64] = np.clip(
        (image_hu.astype(np.float64) - AIR_HU) / (TISSUE_HU - AIR_HU), 0, 1
    )
    return scaled

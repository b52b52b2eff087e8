"""A cube around a nodule at another spacing: the input of a classifier of fixed input size."""

import numpy as np
from numpy.typing import NDArray

from matting.geometry.grid import Shape


def cube_around(
    volume: NDArray[np.generic],
    centre: tuple[float, float, float],
    spacing_mm: tuple[float, float, float],
    side_voxels: int,
    cube_spacing_mm: float,
) -> NDArray[np.float64]:
    """Resample a cube around a point; values beyond the volume are 0.

    Every voxel of the cube is a weighted mean of its surroundings, with weights that fall linearly
    to 0 at a distance of one voxel of the cube along each axis (or of the volume, if those are
    larger): linear interpolation that skips no voxel if the cube is coarser.

    Args:
        volume: (z, y, x), in any unit in which 0 is the value beyond the volume.
        centre: Centre of the cube (z, y, x), in voxels of the volume, which may be fractional.
        spacing_mm: Spacing of the volume along (z, y, x).
        side_voxels: Voxels along each side of the cube.
        cube_spacing_mm: Spacing of the cube.

    Returns:
        (side, side, side).
    """
    shape: Shape = (volume.shape[0], volume.shape[1], volume.shape[2])
    (z, z_used), (y, y_used), (x, x_used) = (
        _weights(size, middle, own, side_voxels, cube_spacing_mm)
        for size, middle, own in zip(shape, centre, spacing_mm, strict=True)
    )
    part = volume[z_used, y_used, x_used].astype(np.float64)
    # Axis by axis, the last first: the volume shrinks as early as it can.
    cube: NDArray[np.float64] = np.einsum("az,zbc->abc", z, y @ (part @ x.T), optimize=True)
    return cube


def _weights(
    size: int, centre: float, spacing_mm: float, side: int, cube_spacing_mm: float
) -> tuple[NDArray[np.float64], slice]:
    """Return the weights of the volume's voxels along an axis, (side, used), and the voxels used.

    Rows sum to 1 well inside the volume.
    """
    position = centre + (np.arange(side) - (side - 1) / 2) * cube_spacing_mm / spacing_mm
    reach = max(cube_spacing_mm / spacing_mm, 1.0)
    beyond = int(np.ceil(reach)) + 1
    # Normalised as if the volume continued, so that its edge fades to 0 and is not extended.
    around = np.floor(position)[:, None] + np.arange(-beyond, beyond + 1)
    whole = np.clip(1 - np.abs(around - position[:, None]) / reach, 0, None).sum(axis=1)
    weights: NDArray[np.float64] = np.clip(
        1 - np.abs(np.arange(size) - position[:, None]) / reach, 0, None
    )
    nonzero = np.flatnonzero(weights.any(axis=0))
    used = slice(int(nonzero[0]), int(nonzero[-1]) + 1) if len(nonzero) else slice(0, 0)
    return weights[:, used] / whole[:, None], used

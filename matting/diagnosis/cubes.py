"""A cube of a nodule's surroundings at another spacing: what a classifier of fixed input size sees."""

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
    """Resample a cube around a point; 0 stands beyond the volume.

    Every voxel of the cube is a weighted mean of its surroundings, with weights that fall linearly to 0 at a distance
    of one voxel of the cube along each axis (or of the volume, if those are larger): linear interpolation that leaves
    nothing out where the cube is coarser.

    Args:
        volume: (z, y, x) in any unit in which 0 is what lies beyond.
        centre: Of the cube (z, y, x), in voxels of the volume; may lie between them.
        spacing_mm: The volume's (z, y, x).
        side_voxels: The cube's side.
        cube_spacing_mm: The cube's spacing.

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
    """Give what each voxel along an axis counts for each of the cube (side, used), and which voxels count at all.

    Rows sum to 1 well inside.
    """
    wanted = centre + (np.arange(side) - (side - 1) / 2) * cube_spacing_mm / spacing_mm
    reach = max(cube_spacing_mm / spacing_mm, 1.0)
    beyond = int(np.ceil(reach)) + 1
    # Normalised as if the volume went on, so that the edge fades to 0 and is not stretched.
    around = np.floor(wanted)[:, None] + np.arange(-beyond, beyond + 1)
    whole = np.clip(1 - np.abs(around - wanted[:, None]) / reach, 0, None).sum(axis=1)
    weights: NDArray[np.float64] = np.clip(
        1 - np.abs(np.arange(size) - wanted[:, None]) / reach, 0, None
    )
    counting = np.flatnonzero(weights.any(axis=0))
    used = slice(int(counting[0]), int(counting[-1]) + 1) if len(counting) else slice(0, 0)
    return weights[:, used] / whole[:, None], used

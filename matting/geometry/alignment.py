"""Place a volume on another grid of the same voxels, without interpolation.

Two programs may store the same voxels in another order of axes, mirrored, or within a larger
volume. Such volumes are reordered and cut, which changes no value; all others are refused.
"""

from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matting.errors import InputError
from matting.geometry.grid import Grid

TOLERANCE_MM = 0.01
"""Farthest that a voxel of one grid may lie from its counterpart; float32 headers need 1e-4."""


def place_on_grid(values: NDArray[Any], grid: Grid, target: Grid, what: str) -> NDArray[Any]:
    """Return the voxels of a target grid out of a volume that contains them.

    >>> grid = Grid((2, 3, 4), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    >>> values = np.arange(24).reshape(grid.shape)
    >>> place_on_grid(values, grid, grid.window((1, 0, 2), (1, 2, 2)), "the matte").tolist()
    [[[14, 15], [18, 19]]]

    Args:
        values: (z, y, x) on `grid`.
        grid: Where the values lie.
        target: The grid that is wanted; each of its voxels must be a voxel of `grid`.
        what: What the volume is, for the messages.

    Returns:
        (z, y, x) on `target`.

    Raises:
        InputError: A voxel of the target lies between voxels of the volume, or outside it.
    """
    origin = grid.to_index(target.to_patient((0, 0, 0)))
    steps = grid.to_index(target.to_patient(np.eye(3))) - origin
    axes = np.abs(steps).argmax(axis=1)
    signs = np.sign(steps[np.arange(3), axes]).astype(int)
    first = np.rint(origin).astype(int)
    corners = np.array(list(product(*((0, size - 1) for size in target.shape))))
    on_lattice = np.tile(first, (len(corners), 1))
    on_lattice[:, axes] += corners * signs
    offset = grid.to_index(target.to_patient(corners)) - on_lattice
    farthest_mm = float(np.linalg.norm(offset * grid.spacing_mm, axis=1).max())
    if len(set(axes.tolist())) < 3 or farthest_mm > TOLERANCE_MM:
        raise InputError(
            f"{what} is not on the grid of the nodule",
            got=f"{_describe(grid)}: voxels up to {farthest_mm:.3g} mm off",
            expected=f"{_describe(target)}, or a larger volume with the same voxels",
            remedy="Resample it to that grid; nothing is resampled here, for that changes scores.",
        )
    if (on_lattice < 0).any() or (on_lattice >= grid.shape).any():
        raise InputError(
            f"{what} does not cover the nodule's volume",
            got=_describe(grid),
            expected=f"at least {_describe(target)}",
            remedy="Write the matte of the whole volume, 0 where there is no lesion.",
        )
    cuts = [slice(None)] * 3
    for axis, sign, size in zip(axes, signs, target.shape, strict=True):
        end = int(first[axis] + sign * size)
        cuts[axis] = slice(int(first[axis]), end if end >= 0 else None, int(sign))
    return values[tuple(cuts)].transpose(axes)


def _describe(grid: Grid) -> str:
    sizes = " x ".join(map(str, grid.shape))
    spacing = " x ".join(f"{step:g}" for step in grid.spacing_mm)
    origin = ", ".join(f"{place:.2f}" for place in grid.origin_lps_mm)
    return f"{sizes} voxels (z, y, x) of {spacing} mm from LPS ({origin})"

"""Lay volumes onto the grid of a CT whose voxels they share, in any extent and storage order."""

from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matting.errors import InputError
from matting.geometry.grid import Grid, Vector
from storage.sources.image_io import Volume

LATTICE_TOLERANCE_MM = 0.05
"""Farthest that two lattices held for the same may lie apart at any corner; headers carry 4 to 7
digits."""


def distance_mm(one: Grid, other: Grid) -> float:
    """Return the largest distance between corresponding corners of two lattices, in mm."""
    corners = np.array(list(product(*((0, n - 1) for n in one.shape))))
    return float(np.linalg.norm(one.to_patient(corners) - other.to_patient(corners), axis=1).max())


def in_order_of(volume: Volume, grid: Grid) -> Volume:
    """Return a volume with its axes in the order and direction of another grid's, where it can.

    The voxels stay where they are in the patient; only their order in the array changes.

    Args:
        volume: In any order.
        grid: The order that is wanted.

    Returns:
        The volume itself where its axes are oblique to the grid's.
    """
    cosines = np.asarray(grid.axes_lps) @ np.asarray(volume.grid.axes_lps).T
    order = np.abs(cosines).argmax(axis=1)
    if sorted(order.tolist()) != [0, 1, 2]:
        return volume
    flipped = [bool(cosines[axis, source] < 0) for axis, source in enumerate(order)]
    first = np.zeros(3)
    for axis, source in enumerate(order):
        first[source] = volume.grid.shape[source] - 1 if flipped[axis] else 0
    z, y, x = order.tolist()
    signs = [-1.0 if flip else 1.0 for flip in flipped]
    axes = [
        _vector(sign * np.asarray(volume.grid.axes_lps[source]))
        for sign, source in zip(signs, order, strict=True)
    ]
    shape, spacing = volume.grid.shape, volume.grid.spacing_mm
    values = volume.values.transpose(order)
    return Volume(
        Grid(
            (shape[z], shape[y], shape[x]),
            (spacing[z], spacing[y], spacing[x]),
            _vector(volume.grid.to_patient(first)),
            (axes[0], axes[1], axes[2]),
        ),
        np.flip(values, tuple(axis for axis, flip in enumerate(flipped) if flip)),
    )


def offset_on(volume: Volume, grid: Grid, what: str, remedy: str) -> tuple[int, int, int]:
    """Return the voxel (z, y, x) of a grid at which a box of the same lattice begins.

    Args:
        volume: The box; it may lie anywhere, also beyond the grid.
        grid: The whole.
        what: What the box is, for the message.
        remedy: What to do if the lattices differ.

    Raises:
        InputError: The lattices differ by more than LATTICE_TOLERANCE_MM at a corner of the box.
    """
    z, y, x = np.rint(grid.to_index(volume.grid.origin_lps_mm)).astype(int).tolist()
    apart = distance_mm(volume.grid, grid.window((z, y, x), volume.grid.shape))
    if apart > LATTICE_TOLERANCE_MM:
        raise InputError(
            f"{what} has another geometry than the CT",
            got=f"corners up to {apart:.3f} mm apart",
            expected=f"at most {LATTICE_TOLERANCE_MM} mm",
            remedy=remedy,
        )
    return z, y, x


def place_box(volume: Volume, grid: Grid, start: tuple[int, int, int]) -> NDArray[Any]:
    """Return the values of a box on a grid of which voxel `start` is the box's first; 0 elsewhere.

    What lies beyond the grid is cut off.
    """
    placed = np.zeros(grid.shape, volume.values.dtype)
    stop = np.add(start, volume.values.shape)
    first, last = np.clip(start, 0, grid.shape), np.clip(stop, 0, grid.shape)
    inside = tuple(slice(a - s, b - s) for a, b, s in zip(first, last, start, strict=True))
    placed[tuple(slice(a, b) for a, b in zip(first, last, strict=True))] = volume.values[inside]
    return placed


def place_alpha(alpha: Volume, grid: Grid, what: str) -> NDArray[np.float32]:
    """Lay a matte known in a box onto a grid whose voxels it shares; 0 outside the box.

    Args:
        alpha: The matte; its box may lie anywhere on the grid's lattice, also beyond the grid.
        grid: Where it is wanted.
        what: What it is, for the messages.

    Returns:
        The matte on the grid.

    Raises:
        InputError: Where it has another lattice, or holds anything but 0..1.
    """
    start = offset_on(alpha, grid, what, "Give it on the CT's own voxels.")
    low, high = np.min(alpha.values), np.max(alpha.values)
    if low < 0 or high > 1:
        raise InputError(
            f"{what} is no matte",
            got=f"values {low}..{high}",
            expected="0..1",
            remedy="Write it again.",
        )
    placed: NDArray[np.float32] = place_box(alpha, grid, start).astype(np.float32)
    return placed


def _vector(values: NDArray[np.float64]) -> Vector:
    x, y, z = (values + 0.0).tolist()  # no negative zeros
    return x, y, z

"""The window around one nodule.

Paper   Wang et al., 3D Matting, arXiv 2210.05104, section 3.2: 128 x 128 in plane, centred on the
        nodule, and three slices of padding at both ends. Where the window extends beyond the scan
        it is padded with air, never shrunk.
"""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from matting.errors import InputError
from matting.geometry.box import box_around
from matting.geometry.grid import Shape
from matting.geometry.patch import AIR_HU, Patch
from matting.parameters import CropSettings

T = TypeVar("T", bound=np.generic)


def crop_to_nodule(patch: Patch, parameters: CropSettings) -> Patch:
    """Cut out the window around the readers' union.

    Args:
        patch: Any part of the scan that holds the whole union.
        parameters: Side of the window in voxels, padding in slices.

    Returns:
        A patch of ``(extent + 2 padding, side, side)`` voxels at the same spacing; voxels outside
        the scan are air and not valid.

    Raises:
        InputError: No reader marked anything, or the union is wider than the window.
    """
    marked = np.asarray(patch.readers.any(axis=0))
    _check_marked(marked)
    z, y, x = box_around(marked, (0, 0, 0))
    side = parameters.in_plane_voxels
    height = y.stop - y.start
    width = x.stop - x.start
    if max(height, width) > side:
        raise InputError(
            "the nodule is wider than the crop",
            got=f"{height} x {width} voxels",
            expected=f"at most {side} x {side}",
            remedy="Raise crop.in_plane_voxels in the recipe, or check the masks for stray marks.",
        )
    start = (
        z.start - parameters.padding_slices,
        (y.start + y.stop) // 2 - side // 2,
        (x.start + x.stop) // 2 - side // 2,
    )
    shape = (z.stop - z.start + 2 * parameters.padding_slices, side, side)
    return Patch(
        grid=patch.grid.window(start, shape),
        image_hu=_window(patch.image_hu, start, shape, AIR_HU),
        valid=_window(patch.valid, start, shape, False),
        readers=np.stack([_window(mask, start, shape, False) for mask in patch.readers]),
        known_alpha=None
        if patch.known_alpha is None
        else _window(patch.known_alpha, start, shape, 0.0),
    )


def _check_marked(mask: NDArray[np.bool_]) -> None:
    if not mask.any():
        raise InputError(
            "no reader marked anything",
            got="empty masks",
            expected="a marked nodule",
            remedy="Check the masks' files.",
        )


def _window(volume: NDArray[T], start: Shape, shape: Shape, fill: float) -> NDArray[T]:
    """Return a box of a volume; voxels of the box outside the volume are `fill`."""
    out = np.full(shape, fill, volume.dtype)
    inside = [
        (max(s, 0), min(s + n, size)) for s, n, size in zip(start, shape, volume.shape, strict=True)
    ]
    if all(lo < hi for lo, hi in inside):
        source = tuple(slice(lo, hi) for lo, hi in inside)
        target = tuple(slice(lo - s, hi - s) for (lo, hi), s in zip(inside, start, strict=True))
        out[target] = volume[source]
    return out

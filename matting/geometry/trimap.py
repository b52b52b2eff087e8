"""Known foreground, known background and the unknown band between them, from the readers' masks.

Paper   Wang et al., 3D Matting, arXiv 2210.05104, section 3.2: the intersection of the masks is
        foreground, the complement of their union is background, the rest is unknown and is dilated.
Ours    The band is dilated by a Euclidean ball in mm, outward from the union and inward into the
        intersection, also where all readers agree. The inward radius is reduced where it would
        remove the foreground: the largest radius up to the recipe's that leaves a connected core.
        Voxels that the scanner did not measure are background.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from matting.array_input import read_array, read_masks, read_spacing
from matting.errors import InputError
from matting.geometry.grid import Vector
from matting.parameters import TrimapSettings
from matting.short_repr import short_repr

BACKGROUND = 0
UNKNOWN = 128
FOREGROUND = 255


@dataclass(frozen=True, slots=True)
class Trimap:
    """The labels, and what determined them."""

    labels: NDArray[np.uint8]
    """(z, y, x): BACKGROUND, UNKNOWN or FOREGROUND."""
    inward_mm: float
    """Inward radius of the unknown band; less than the recipe's where the core is small."""
    core_voxels: int
    """Size of the largest 6-connected component of the foreground."""

    __repr__ = short_repr


def build_trimap(
    readers: ArrayLike,
    valid: ArrayLike | None = None,
    *,
    spacing_mm: float | Sequence[float],
    parameters: TrimapSettings | None = None,
) -> Trimap:
    """Label every voxel of a patch.

    Args:
        readers: (readers, z, y, x), what each reader marked: truth values, or 0 and 1.
        valid: (z, y, x), False where nothing was measured; None where everything was.
        spacing_mm: Voxel spacing along (z, y, x), above 0, or one number for cubic voxels.
        parameters: Radius of the band and size of the core; None for the paper's.

    Returns:
        Labels of the readers' shape (z, y, x), the inward radius and the core's size.

    Raises:
        InputError: A reader marked nothing, the readers share no voxel, no background is left, or
            an argument is of another kind or shape.
    """
    masks = read_masks(readers)
    spacing = read_spacing(spacing_mm)
    parameters = TrimapSettings() if parameters is None else parameters
    shape = masks.shape[1:]
    measured = np.ones(shape, bool) if valid is None else _read_valid(valid, shape)
    _check_marks(masks)
    union = masks.any(axis=0) & measured
    core = masks.all(axis=0) & measured
    if not core.any():
        raise InputError(
            "the readers share no voxel",
            got="an empty intersection",
            expected="at least one voxel that every reader marked",
            remedy="Look at the masks: the readers may have marked different lesions. "
            "Exclude this nodule.",
        )
    depth_mm = _distance_inside(core, spacing)
    inward_mm = _largest_inward_radius(depth_mm, parameters)
    labels = np.full(union.shape, UNKNOWN, np.uint8)
    labels[depth_mm > inward_mm] = FOREGROUND
    labels[~measured | (_distance_inside(~union, spacing) > parameters.dilation_mm)] = BACKGROUND
    if not (labels == BACKGROUND).any():
        raise InputError(
            "the patch holds no background",
            got="a lesion that fills it",
            expected=f"voxels more than {parameters.dilation_mm} mm outside the readers' union",
            remedy="Use a wider crop or a smaller dilation.",
        )
    return Trimap(labels, inward_mm, _largest_component(labels == FOREGROUND))


def _read_valid(valid: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    given = np.expand_dims(read_array("validity", valid, "Mark masked voxels False."), 0)
    measured: NDArray[np.bool_] = read_masks(given, shape, "validity")[0]
    return measured


def _check_marks(readers: NDArray[np.bool_]) -> None:
    empty = [r for r, mask in enumerate(readers) if not mask.any()]
    if empty:
        raise InputError(
            "a reader's mask is empty",
            got=f"nothing marked by reader {', '.join(map(str, empty))}",
            expected="at least one voxel a reader",
            remedy="Check the mask's file or contours; a mark thinner than a voxel vanishes.",
        )


def _distance_inside(mask: NDArray[np.bool_], spacing_mm: Vector) -> NDArray[np.float64]:
    """Return the distance in mm of each voxel of a mask to the nearest voxel outside; 0 outside."""
    distance_mm: NDArray[np.float64] = ndimage.distance_transform_edt(mask, sampling=spacing_mm)
    return distance_mm


def _largest_inward_radius(depth_mm: NDArray[np.float64], parameters: TrimapSettings) -> float:
    """Return the largest radius up to the recipe's that leaves a core of the size required.

    The core only changes at distances that occur, so those are the radii to try. 0 if none will do.
    """
    radii_mm = np.unique(depth_mm[(depth_mm > 0) & (depth_mm < parameters.dilation_mm)])
    for radius_mm in [parameters.dilation_mm, *radii_mm[::-1].tolist()]:
        if _largest_component(depth_mm > radius_mm) >= parameters.min_core_voxels:
            return float(radius_mm)
    return 0.0


def _largest_component(mask: NDArray[np.bool_]) -> int:
    components, count = ndimage.label(mask)
    return int(np.bincount(components.ravel())[1:].max()) if count else 0

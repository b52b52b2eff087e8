"""Known foreground, known background and the unknown band between them, from the readers' masks.

Paper   Wang et al., 3D Matting, arXiv 2210.05104, section 3.2: the intersection of the masks is foreground, the
        complement of their union is background, the rest is unknown and is dilated.
Ours    The band grows by a Euclidean ball in mm, outward from the union and inward into the intersection, also where
        all readers agree. Inward it stops early where it would eat the foreground: the largest radius up to the
        recipe's that leaves a connected core. What the scanner did not measure is background.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from matting.errors import InputError
from matting.geometry.grid import Vector
from matting.parameters import TrimapSettings

BACKGROUND = 0
UNKNOWN = 128
FOREGROUND = 255


@dataclass(frozen=True, slots=True)
class Trimap:
    """The labels and how they came about."""

    labels: NDArray[np.uint8]
    """(z, y, x): BACKGROUND, UNKNOWN or FOREGROUND."""
    inward_mm: float
    """How far the unknown band grew into the readers' intersection; less than asked where the core was small."""
    core_voxels: int
    """Size of the largest 6-connected piece of foreground."""


def build_trimap(
    readers: NDArray[np.bool_],
    valid: NDArray[np.bool_],
    *,
    spacing_mm: Vector,
    parameters: TrimapSettings,
) -> Trimap:
    """Label every voxel of a patch.

    Args:
        readers: (readers, z, y, x), what each reader marked.
        valid: (z, y, x), False where nothing was measured.
        spacing_mm: Voxel spacing along (z, y, x).
        parameters: Radius of the band and size of the core.

    Raises:
        InputError: A reader marked nothing, the readers share no voxel, or no background is left.
    """
    _check_marks(readers)
    union = readers.any(axis=0) & valid
    core = readers.all(axis=0) & valid
    if not core.any():
        raise InputError(
            "the readers share no voxel",
            got="an empty intersection",
            expected="at least one voxel that every reader marked",
            remedy="Look at the masks: the readers may have marked different lesions; exclude this nodule.",
        )
    depth_mm = _distance_inside(core, spacing_mm)
    inward_mm = _largest_inward_radius(depth_mm, parameters)
    labels = np.full(union.shape, UNKNOWN, np.uint8)
    labels[depth_mm > inward_mm] = FOREGROUND
    labels[~valid | (_distance_inside(~union, spacing_mm) > parameters.dilation_mm)] = BACKGROUND
    if not (labels == BACKGROUND).any():
        raise InputError(
            "the patch holds no background",
            got="a lesion that fills it",
            expected=f"voxels more than {parameters.dilation_mm} mm outside the readers' union",
            remedy="Use a wider crop or a smaller dilation.",
        )
    return Trimap(labels, inward_mm, _largest_piece(labels == FOREGROUND))


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
    """Give each voxel of a mask its distance to the nearest voxel outside, mm; 0 outside."""
    distance_mm: NDArray[np.float64] = ndimage.distance_transform_edt(mask, sampling=spacing_mm)
    return distance_mm


def _largest_inward_radius(depth_mm: NDArray[np.float64], parameters: TrimapSettings) -> float:
    """Find the largest radius up to the recipe's that leaves a connected core of the wanted size; 0 if none does."""
    radii_mm = np.unique(depth_mm[(depth_mm > 0) & (depth_mm < parameters.dilation_mm)])
    for radius_mm in [parameters.dilation_mm, *radii_mm[::-1].tolist()]:
        if _largest_piece(depth_mm > radius_mm) >= parameters.min_core_voxels:
            return float(radius_mm)
    return 0.0


def _largest_piece(mask: NDArray[np.bool_]) -> int:
    pieces, count = ndimage.label(mask)
    return int(np.bincount(pieces.ravel())[1:].max()) if count else 0

"""What outlines and radiodensity suggest for a voxel of the unknown band: the readers' prior.

A trimap keeps of the readers' outlines only where all agree. Within the band their votes, and how
dense a voxel is between the lung and the core of its own lesion, still say how probable it is that
another reader would mark it:

    t = s(1/2 + d / width_mm + density_weight (h - 1/2)),   s(u) = u^2 (3 - 2 u) for u in 0..1

Symbols  s  the smooth step from 0 to 1; 0 below and 1 above. A logistic function gives the same
            errors, but exponentials differ between processors
         d  mean over the readers of the signed distance to their outline, mm, positive inside
         h  clip((HU - B) / (F - B), 0, 1), with F the median HU of known foreground and B that of
            the known background within LUNG_MM of the band

A method with a strength in `PriorSettings` has the data term strength (alpha - t S)^2 at each
unknown voxel, S the mean known value of the foreground. The Laplacians weigh windows of large
variance little, so the term matters most there: at edges, where lesion, vessel and lung meet.

Source   Ours; docs/truth.md has the measurements.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from matting.geometry.box import box_around
from matting.geometry.grid import Vector
from matting.geometry.patch import AIR_HU
from matting.geometry.resample import signed_distance_mm
from matting.geometry.trimap import BACKGROUND, FOREGROUND, UNKNOWN
from matting.parameters import PriorSettings
from matting.solvers.conjugate_gradient import DataTerm, LinearSystem

Floats = NDArray[np.float64]
LUNG_MM = 5.0
"""Distance from the band within which the surrounding lung is taken."""
ONE_VOXEL = (1, 1, 1)
"""Margin around the unknown voxels: every outline runs within it, as readers agree beyond."""
MIN_CONTRAST_HU = 50.0
"""Lesion and lung that differ by less than this do not make a scale of their own."""


def reader_prior(
    volume_hu: NDArray[np.floating],
    trimap: NDArray[np.uint8],
    readers: NDArray[np.bool_],
    *,
    spacing_mm: Vector,
    settings: PriorSettings,
) -> Floats:
    """Return t of the unknown voxels.

    Args:
        volume_hu: (z, y, x), radiodensity in HU.
        trimap: (z, y, x), BACKGROUND, UNKNOWN or FOREGROUND; each label occurs.
        readers: (readers, z, y, x), what each reader marked.
        spacing_mm: Voxel spacing along (z, y, x).
        settings: Its width and the weight of density.

    Returns:
        (unknown,), in raster order, 0..1.
    """
    unknown = trimap == UNKNOWN
    box = box_around(unknown, ONE_VOXEL)
    inside = unknown[box]
    distances_mm = [signed_distance_mm(mask[box], spacing_mm)[inside] for mask in readers]
    distance_mm = np.mean(distances_mm, axis=0, dtype=np.float64)
    density = _local_density(volume_hu, trimap, unknown, spacing_mm)
    step = 0.5 + distance_mm / settings.width_mm + settings.density_weight * (density - 0.5)
    u = np.clip(step, 0.0, 1.0)
    suggested: Floats = u * u * (3.0 - 2.0 * u)
    return suggested


def with_prior(
    system: LinearSystem, prior: Floats, strength: float, foreground: Floats
) -> LinearSystem:
    """Return a system with the prior's data term.

    Args:
        system: A method's system.
        prior: (unknown,), t.
        strength: Its weight, above 0.
        foreground: (columns,), mean known value of the foreground, which t = 1 stands for.

    Returns:
        The system; its own data term, if it has one, stays.
    """
    term = DataTerm(np.full(len(prior), strength), prior[:, None] * foreground)
    own = system.data_term
    return replace(system, data_term=term if own is None else own + term)


def _local_density(
    volume_hu: NDArray[np.floating],
    trimap: NDArray[np.uint8],
    unknown: NDArray[np.bool_],
    spacing_mm: Vector,
) -> Floats:
    """Return h of the unknown voxels, in raster order."""
    core_hu = float(np.median(volume_hu[trimap == FOREGROUND]))
    lung_hu = _surrounding_hu(volume_hu, trimap, unknown, spacing_mm)
    contrast_hu = max(core_hu - lung_hu, MIN_CONTRAST_HU)
    scaled = (volume_hu[unknown].astype(np.float64) - lung_hu) / contrast_hu
    return np.clip(scaled, 0.0, 1.0)


def _surrounding_hu(
    volume_hu: NDArray[np.floating],
    trimap: NDArray[np.uint8],
    unknown: NDArray[np.bool_],
    spacing_mm: Vector,
) -> float:
    """Return the median HU of the known background around the band."""
    # Spacing is at least 0.001 mm, and a box never leaves the volume.
    z, y, x = (int(LUNG_MM / spacing) + 1 for spacing in spacing_mm)
    box = box_around(unknown, (z, y, x))
    near = ndimage.distance_transform_edt(~unknown[box], spacing_mm) <= LUNG_MM
    hu = volume_hu[box]
    around = near & (trimap[box] == BACKGROUND)
    # What was not measured is AIR_HU to the digit, and says nothing about this lung.
    measured = around & (hu != AIR_HU)
    chosen = hu[measured if measured.any() else around]
    return float(np.median(chosen)) if chosen.size else AIR_HU

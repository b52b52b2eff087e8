"""Whether values can be the radiodensity of a CT in Hounsfield units (HU).

A volume in other values is matted like any other, and the result is wrong without a sign of it. So
the values are held against what every chest CT has. The bounds are wide: among 528 tight crops of
LIDC-IDRI's nodules, 18 % or more of the voxels lie below AIR_HU, 23 % or more between air and
tissue, 6 % or less above BONE_HU, and the medians of what readers marked reach from -800 to 455.
"""

import numpy as np
from numpy.typing import NDArray

from matting.errors import InputError
from matting.geometry.patch import AIR_HU

HIGHEST_HU = 31743.0
"""Of 16-bit CT in its extended scale (32767 - 1024); metal reaches it. Negative numbers that are
read as unsigned lie above."""
LOW_HU = -300.0
"""Lung and air lie below."""
LEAST_LOW_SHARE = 0.01
"""Of the measured voxels, that lie below LOW_HU."""
LUNG_HU = (-950.0, -150.0)
"""Lung, and voxels of air and tissue in part."""
LEAST_LUNG_SHARE = 5e-4
DENSE_HU = 700.0
"""Bone, contrast agent and metal lie above."""
MOST_DENSE_SHARE = 0.1
"""Of the measured voxels above LOW_HU, that lie above DENSE_HU where nothing lies in LUNG_HU."""
MARKED_HU = (-950.0, 2000.0)
"""Where the median of what the readers marked lies: tissue, from the faintest opacity to chalk."""

_RANGE = "HU, where air is -1000, lung about -850, water 0 and bone up to 2000"


def check_hounsfield(
    image_hu: NDArray[np.float32],
    valid: NDArray[np.bool_],
    marked: NDArray[np.bool_] | None = None,
    *,
    remedy: str,
) -> None:
    """Refuse values that are no HU, or readers' masks that lie on air.

    Args:
        image_hu: (z, y, x), a nodule and its surroundings, or a whole CT.
        valid: (z, y, x): True where the scanner measured.
        marked: (z, y, x): what any reader marked; None where there are no readers.
        remedy: How to convert the values, or to accept them.

    Raises:
        InputError: The values cannot be HU; the message has their range and what they may be.
    """
    measured = image_hu[valid]
    cause = _implausible(measured)
    if cause:
        seen = f"{measured.min():g} to {measured.max():g}" if measured.size else "nothing measured"
        raise InputError(
            "the CT is not in HU", got=f"{seen}: {cause}", expected=_RANGE, remedy=remedy
        )
    if marked is not None:
        median = float(np.median(np.where(valid, image_hu, np.float32(AIR_HU))[marked]))
        if not MARKED_HU[0] <= median <= MARKED_HU[1]:
            raise InputError(
                "the readers marked no tissue",
                got=f"a median of {median:g} HU where they marked",
                expected=f"{MARKED_HU[0]:g} to {MARKED_HU[1]:g} HU",
                remedy="Check that masks and CT belong together. " + remedy,
            )


def _implausible(measured: NDArray[np.float32]) -> str:
    """Return what speaks against HU; empty where nothing does."""
    if not measured.size or measured.min() == measured.max():
        return "no contrast at all"
    low, high = float(measured.min()), float(measured.max())
    if high > HIGHEST_HU:
        return (
            f"CT holds at most {HIGHEST_HU:g}; the highest may be negative numbers that are read "
            "as unsigned (PixelRepresentation)"
        )
    if np.mean(measured < LOW_HU) < LEAST_LOW_SHARE:
        return f"hardly any voxel below {LOW_HU:g}; {_likely_scale(low, high)}"
    lung = np.mean((measured > LUNG_HU[0]) & (measured < LUNG_HU[1]))
    dense = float(np.mean(measured > DENSE_HU)) / max(float(np.mean(measured > LOW_HU)), 1e-9)
    if lung < LEAST_LUNG_SHARE and dense > MOST_DENSE_SHARE:
        return (
            f"nothing between air and tissue, and {dense:.0%} of the rest above {DENSE_HU:g}; "
            "perhaps HU + 1024 with padding below"
        )
    return ""


def _likely_scale(low: float, high: float) -> str:
    if low >= -1.5 and high <= 1.5:
        return "perhaps intensities scaled to 0..1"
    if low >= 0 and high <= 255:
        return "perhaps a picture of 8 bits, from which HU cannot be had back"
    if low >= 0 and high <= 5000:
        return "perhaps HU + 1024, or no CT at all"
    return "perhaps another scale, or no CT"

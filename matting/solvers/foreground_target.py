"""The radiodensity target of the four optimised methods.

Paper   Wang et al., 3D Matting, arXiv 2210.05104, section 4.2, Eq. 28. A ground-glass lesion lets
        air through: its core is not "all lesion" as a photograph's foreground is, so the known
        value of foreground follows its radiodensity instead of being 1.

            S_i = q(HU_i)   below l_low
                  1         within [l_low, l_high]
                  p(HU_i)   above l_high

Symbols q       rises linearly from 0 to 1 over the observation window [lo, hi]
        l_low   hi, as in the paper
        l_high  `high_hu`; None as in the paper: no fall
        p       falls linearly from 1 to 0 over `fall_hu`
Ours    The paper leaves p open; a linear fall, off by default, keeps the target continuous.
"""

import numpy as np
from numpy.typing import NDArray

from matting.parameters import DensitySettings


def foreground_target(
    volume_hu: NDArray[np.floating], density: DensitySettings
) -> NDArray[np.float64]:
    """Return S of Eq. 28 for voxels of known foreground.

    Args:
        volume_hu: Radiodensities in HU, any shape.
        density: Observation window and fall.

    Returns:
        The same shape, 0..1.
    """
    hu = np.asarray(volume_hu, np.float64)
    low = density.level_hu - density.width_hu / 2.0
    target = np.clip((hu - low) / density.width_hu, 0.0, 1.0)
    if density.high_hu is not None:
        falling = np.clip(1.0 - (hu - density.high_hu) / density.fall_hu, 0.0, 1.0)
        target = np.where(hu > density.high_hu, falling, target)
    return target

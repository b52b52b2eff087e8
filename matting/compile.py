"""Compile the kernels of all methods, so that the first nodule need not wait for it.

    python -m matting.compile

An image does this when it is built.
"""

import numpy as np

from matting.estimate import estimate_alphas
from matting.geometry.trimap import BACKGROUND, FOREGROUND, UNKNOWN
from matting.parameters import Parameters

_SIDE = 16
_HALF = 3
"""Voxels: of the volume, and of half the dense cube in its middle."""


def compile_kernels() -> None:
    """Estimate all mattes of a small volume, in the paper form and in the improved form."""
    volume_hu = np.full((_SIDE, _SIDE, _SIDE), -800.0)
    volume_hu += np.random.default_rng(0).normal(0, 20, volume_hu.shape)
    middle = slice(_SIDE // 2 - _HALF, _SIDE // 2 + _HALF)
    volume_hu[middle, middle, middle] += 800
    trimap = np.full(volume_hu.shape, BACKGROUND)
    trimap[1:-1, 1:-1, 1:-1] = UNKNOWN
    trimap[_SIDE // 2, _SIDE // 2 - 1 : _SIDE // 2 + 1, _SIDE // 2] = FOREGROUND
    for parameters in (Parameters(), Parameters.improved()):
        estimate_alphas(volume_hu, trimap, spacing_mm=0.5, parameters=parameters)


if __name__ == "__main__":
    compile_kernels()

"""How far a matte is from the truth.

Paper   Wang et al., 3D Matting, arXiv 2210.05104, Eq. 31-33; C. Rhemann et al., A Perceptually Motivated Online
        Benchmark for Image Matting, CVPR 2009, doi:10.1109/CVPR.2009.5206503.

        figure               formula                              unit                       range
        absolute_difference  SAD = sum |a^ - a|                   voxels of full opacity     0 .. voxels
        squared_error        MSE = mean (a^ - a)^2                opacity squared            0 .. 1
        mean_absolute_error  mean |a^ - a|                        opacity                    0 .. 1
        gradient_error       Grad = sum (|grad a^| - |grad a|)^2  opacity squared per voxel  0 ..
        connectivity_error   Conn = sum |phi(a^) - phi(a)|        voxels of full opacity     0 .. voxels

a^ is the prediction, a the truth; sum and mean run over a region. Nothing is rescaled or rounded before. Tables in the
literature print MSE times 1e3 and the sums divided by 10.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from matting.errors import InputError
from matting.geometry.box import Box, box_around

GradientMode = Literal["clean", "dim", "vector"]
GRADIENT_SIGMA = 1.4
"""Standard deviation in voxels of the Gaussian under which gradients are taken."""
GRADIENT_REACH = 4
"""Half-width in voxels of its kernel."""
CONNECTIVITY_STEPS = 10
"""Thresholds at which connectivity is looked at: 1/10, 2/10, ... 10/10."""
CONNECTIVITY_SLACK = 0.15
"""Opacity by which a voxel may exceed its connected level without counting as unconnected."""


def sad(
    alpha: NDArray[np.floating], truth: NDArray[np.floating], region: NDArray[np.bool_]
) -> float:
    """Give SAD over a region, in voxels of full opacity (Eq. 31).

    Args:
        alpha: (z, y, x), the prediction, 0..1.
        truth: (z, y, x), 0..1.
        region: (z, y, x), where to measure.

    Raises:
        InputError: The arrays' shapes differ.
    """
    return float(np.abs(_differences(alpha, truth, region)).sum())


def mse(
    alpha: NDArray[np.floating], truth: NDArray[np.floating], region: NDArray[np.bool_]
) -> float:
    """Give MSE over a region (Eq. 32).

    Args:
        alpha: (z, y, x), the prediction, 0..1.
        truth: (z, y, x), 0..1.
        region: (z, y, x), where to measure; at least one voxel.

    Raises:
        InputError: The arrays' shapes differ or the region is empty.
    """
    return float((_differences(alpha, truth, _filled(region)) ** 2).mean())


def mean_absolute_error(
    alpha: NDArray[np.floating], truth: NDArray[np.floating], region: NDArray[np.bool_]
) -> float:
    """Give the mean absolute difference over a region: SAD for each voxel.

    Args:
        alpha: (z, y, x), the prediction, 0..1.
        truth: (z, y, x), 0..1.
        region: (z, y, x), where to measure; at least one voxel.

    Raises:
        InputError: The arrays' shapes differ or the region is empty.
    """
    return float(np.abs(_differences(alpha, truth, _filled(region))).mean())


def gradient_error(
    alpha: NDArray[np.floating],
    truth: NDArray[np.floating],
    region: NDArray[np.bool_],
    *,
    mode: GradientMode = "clean",
) -> float:
    """Give Grad over a region: the squared difference of the gradients' lengths (Rhemann et al.).

    Args:
        alpha: (z, y, x), the prediction, 0..1.
        truth: (z, y, x), 0..1.
        region: (z, y, x), where to sum.
        mode: "clean": a ramp of 1 per voxel has gradient 1. "dim": the kernel has unit norm, as in widely used
            evaluation code. "vector": the difference of the gradients themselves, as Eq. 33 prints it, with the clean
            kernel.

    Raises:
        InputError: The arrays' shapes differ.
    """
    _check_shapes(alpha.shape, truth.shape, region.shape)
    if not region.any():
        return 0.0
    box = box_around(region, (GRADIENT_REACH,) * 3)
    predicted, true = _gradient(alpha[box], mode), _gradient(truth[box], mode)
    apart = predicted - true
    squares = (
        (apart**2).sum(axis=0) if mode == "vector" else (_length(predicted) - _length(true)) ** 2
    )
    return float(squares[region[box]].sum())


def connectivity_error(
    alpha: NDArray[np.floating], truth: NDArray[np.floating], region: NDArray[np.bool_]
) -> float:
    """Give Conn over a region: how differently the two mattes hang together with their common body (Rhemann et al.).

    For thresholds k/10 the body is the largest 6-connected piece where both mattes reach k/10. A voxel's level l is the
    last threshold up to which it has belonged to every body; phi(a) = 1 - (a - l) where a - l is at least
    CONNECTIVITY_SLACK, else 1.

    Args:
        alpha: (z, y, x), the prediction, 0..1.
        truth: (z, y, x), 0..1.
        region: (z, y, x), where to sum.

    Raises:
        InputError: The arrays' shapes differ.
    """
    _check_shapes(alpha.shape, truth.shape, region.shape)
    return float(connectivity_errors(alpha, truth)[region].sum())


def connectivity_errors(
    alpha: NDArray[np.floating], truth: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Give what every voxel adds to `connectivity_error`: (z, y, x), 0..1."""
    level = _connected_level(np.minimum(alpha, truth).astype(np.float64))
    predicted, true = (_connectedness(matte.astype(np.float64) - level) for matte in (alpha, truth))
    errors: NDArray[np.float64] = np.abs(predicted - true)
    return errors


def gradient_length(matte: NDArray[np.floating]) -> NDArray[np.float64]:
    """Give the length of a matte's gradient, in the mode "clean", at every voxel (z, y, x).

    Where a matte is 0 as far as the kernel reaches nothing is computed, so a small matte in a large volume is quick.
    """
    length = np.zeros(matte.shape)
    inked = matte != 0
    if inked.any():
        # Replicating a border of zeros is what lies there, so the box knows all that it needs.
        box = box_around(inked, (GRADIENT_REACH,) * 3)
        length[box] = _length(_gradient(matte[box], "clean"))
    return length


def _length(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the lengths of vectors (3, z, y, x), summed in the order of the axes."""
    z, y, x = vectors
    length: NDArray[np.float64] = np.sqrt(z * z + y * y + x * x)
    return length


def _gradient(matte: NDArray[np.floating], mode: GradientMode) -> NDArray[np.float64]:
    """Give (3, z, y, x), the derivatives along each axis under a Gaussian, with replicated borders."""
    place = np.arange(-GRADIENT_REACH, GRADIENT_REACH + 1, dtype=np.float64)
    smooth = np.exp(-0.5 * (place / GRADIENT_SIGMA) ** 2)
    slope = place * smooth
    if mode == "dim":
        smooth, slope = smooth / np.linalg.norm(smooth), slope / np.linalg.norm(slope)
    else:
        smooth, slope = smooth / smooth.sum(), slope / (place * slope).sum()
    derivatives = np.empty((3, *matte.shape))
    # Two of the three begin with the same smoothing along z.
    smoothed = _along(matte.astype(np.float64), smooth, 0)
    _along(_along(smoothed, slope, 1), smooth, 2, derivatives[1])
    _along(_along(smoothed, smooth, 1), slope, 2, derivatives[2])
    _along(_along(_along(matte.astype(np.float64), slope, 0), smooth, 1), smooth, 2, derivatives[0])
    return derivatives


def _along(
    volume: NDArray[np.float64],
    weights: NDArray[np.float64],
    axis: int,
    out: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    filtered: NDArray[np.float64] = ndimage.correlate1d(volume, weights, axis, out, mode="nearest")
    return filtered


def _connected_level(common: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give each voxel's level l from the lower of both mattes."""
    level = np.zeros(common.shape)
    belongs = np.ones(common.shape, bool)
    for k in range(1, CONNECTIVITY_STEPS + 1):
        belongs &= _largest_piece(common >= k / CONNECTIVITY_STEPS)
        level[belongs] = k / CONNECTIVITY_STEPS
    return level


def _largest_piece(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Give the largest 6-connected piece of a mask, the first of equals; nothing where there is none."""
    if not mask.any():
        return mask
    piece = np.zeros_like(mask)
    box: Box = box_around(mask, (0, 0, 0))
    labels, _ = ndimage.label(mask[box])
    sizes = np.bincount(labels.ravel())
    piece[box] = labels == 1 + int(sizes[1:].argmax())
    return piece


def _connectedness(excess: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(excess >= CONNECTIVITY_SLACK, 1.0 - excess, 1.0)


def _differences(
    alpha: NDArray[np.floating], truth: NDArray[np.floating], region: NDArray[np.bool_]
) -> NDArray[np.float64]:
    _check_shapes(alpha.shape, truth.shape, region.shape)
    return alpha[region].astype(np.float64) - truth[region].astype(np.float64)


def _check_shapes(alpha: tuple[int, ...], truth: tuple[int, ...], region: tuple[int, ...]) -> None:
    if not alpha == truth == region:
        raise InputError(
            "prediction, truth and region do not fit each other",
            got=f"{alpha}, {truth} and {region}",
            expected="one shape",
            remedy="Give all three on one lattice.",
        )


def _filled(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    if not region.any():
        raise InputError(
            "a mean needs voxels",
            got="an empty region",
            expected="at least one voxel",
            remedy="Widen the region.",
        )
    return region

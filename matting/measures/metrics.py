"""Metrics of the difference between a matte and the truth.

Paper   Wang et al., 3D Matting, arXiv 2210.05104, Eq. 31-33; C. Rhemann et al., A Perceptually
        Motivated Online Benchmark for Image Matting, CVPR 2009, doi:10.1109/CVPR.2009.5206503.

::

        metric               formula                              unit
        sad                  SAD = sum |a^ - a|                   voxels of full opacity
        mse                  MSE = mean (a^ - a)^2                opacity squared
        mean_absolute_error  mean |a^ - a|                        opacity
        gradient_error       Grad = sum (|grad a^| - |grad a|)^2  opacity squared per voxel
        connectivity_error   Conn = sum |phi(a^) - phi(a)|        voxels of full opacity

a^ is the prediction, a the truth; sum and mean run over a region. All are 0 or more, and 0 for the
truth itself. Nothing is rescaled or rounded before. Tables in the literature print MSE times 1e3
and the sums divided by 10.

`matte_errors` computes SAD, MSE, Grad and Conn over several regions at once. What each voxel adds
to a metric is defined once, in `_absolute_errors`, `_squared_errors`, `_gradient_errors` and
`_connectivity_errors`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from matting.array_input import read_array
from matting.errors import InputError
from matting.geometry.box import box_around
from matting.short_repr import short_repr

GradientMode = Literal["clean", "dim", "vector"]
GRADIENT_SIGMA = 1.4
"""Standard deviation in voxels of the Gaussian under which gradients are taken."""
GRADIENT_REACH = 4
"""Half-width in voxels of its kernel."""
PAPER_CROP_MM3 = 170_000.0
"""Volume of the paper's crops of 128 x 128 pixels: on average 1.36 million voxels of 0.5 mm."""
CONNECTIVITY_STEPS = 10
"""Number of thresholds of the connectivity error: 1/10, 2/10, ... 10/10."""
CONNECTIVITY_SLACK = 0.15
"""Opacity by which a voxel may exceed its connected level without counting as unconnected."""


def sad(
    alpha: NDArray[np.floating], truth: NDArray[np.floating], region: NDArray[np.bool_]
) -> float:
    """Return SAD over a region, in voxels of full opacity (Eq. 31).

    Args:
        alpha: (z, y, x), the prediction, 0..1.
        truth: (z, y, x), 0..1.
        region: (z, y, x), where to measure.

    Raises:
        InputError: The arrays' shapes differ, or the region holds no truth values.
    """
    alpha, truth, region = _read(alpha, truth, region)
    return float(_absolute_errors(alpha[region], truth[region]).sum())


def mse(
    alpha: NDArray[np.floating], truth: NDArray[np.floating], region: NDArray[np.bool_]
) -> float:
    """Return MSE over a region (Eq. 32).

    Args:
        alpha: (z, y, x), the prediction, 0..1.
        truth: (z, y, x), 0..1.
        region: (z, y, x), where to measure; at least one voxel.

    Raises:
        InputError: The arrays' shapes differ, or the region is empty or holds no truth values.
    """
    alpha, truth, region = _read(alpha, truth, region)
    _check_not_empty(region)
    return float(_squared_errors(alpha[region], truth[region]).mean())


def mean_absolute_error(
    alpha: NDArray[np.floating], truth: NDArray[np.floating], region: NDArray[np.bool_]
) -> float:
    """Return the mean absolute difference over a region: SAD per voxel.

    Args:
        alpha: (z, y, x), the prediction, 0..1.
        truth: (z, y, x), 0..1.
        region: (z, y, x), where to measure; at least one voxel.

    Raises:
        InputError: The arrays' shapes differ, or the region is empty or holds no truth values.
    """
    alpha, truth, region = _read(alpha, truth, region)
    _check_not_empty(region)
    return float(_absolute_errors(alpha[region], truth[region]).mean())


def gradient_error(
    alpha: NDArray[np.floating],
    truth: NDArray[np.floating],
    region: NDArray[np.bool_],
    *,
    mode: GradientMode = "clean",
) -> float:
    """Return Grad over a region: squared differences of the gradients' lengths (Rhemann et al.).

    Args:
        alpha: (z, y, x), the prediction, 0..1.
        truth: (z, y, x), 0..1.
        region: (z, y, x), where to sum.
        mode: "clean": a ramp of 1 per voxel has gradient 1. "dim": the kernel has unit norm, as in
            widely used evaluation code. "vector": the difference of the gradients themselves, as
            Eq. 33 prints it, with the clean kernel.

    Raises:
        InputError: The arrays' shapes differ, or the region holds no truth values.
    """
    alpha, truth, region = _read(alpha, truth, region)
    if not region.any():
        return 0.0
    box = box_around(region, (GRADIENT_REACH,) * 3)
    predicted = _gradient(alpha[box], mode)
    true = _gradient(truth[box], mode)
    if mode == "vector":
        errors = ((predicted - true) ** 2).sum(axis=0)
    else:
        errors = _gradient_errors(_length(predicted), _length(true))
    return float(errors[region[box]].sum())


def connectivity_error(
    alpha: NDArray[np.floating], truth: NDArray[np.floating], region: NDArray[np.bool_]
) -> float:
    """Return Conn over a region: differences in connectivity to a common body (Rhemann et al.).

    At each threshold k/10 the body is the largest 6-connected component where both mattes reach
    k/10. A voxel's level l is the last threshold up to which it belonged to every body;
    phi(a) = 1 - (a - l) if a - l is at least CONNECTIVITY_SLACK, else 1.

    Args:
        alpha: (z, y, x), the prediction, 0..1.
        truth: (z, y, x), 0..1.
        region: (z, y, x), where to sum.

    Raises:
        InputError: The arrays' shapes differ, or the region holds no truth values.
    """
    alpha, truth, region = _read(alpha, truth, region)
    return float(_connectivity_errors(alpha, truth)[region].sum())


def paper_sized_mse(mse: float, voxels: int, spacing_mm: tuple[float, float, float]) -> float:
    """Return the MSE as if the patch had the size of the paper's crops, with 0 errors around it.

    MSE is a mean over a patch, so a tighter crop of the same lesion has a larger one.

    Args:
        mse: Over the whole patch.
        voxels: Of the patch.
        spacing_mm: Of the voxels.
    """
    return mse * voxels * float(np.prod(spacing_mm)) / PAPER_CROP_MM3


class MatteErrors(NamedTuple):
    """The four metrics of the paper's tables over one region."""

    sad: float
    mse: float
    grad: float
    conn: float


@dataclass(frozen=True, slots=True)
class MatteWithGradient:
    """A matte with the length of its gradient, which is computed once for all comparisons."""

    matte: NDArray[np.floating]
    """(z, y, x), 0..1."""
    gradient_length: NDArray[np.float64]
    """(z, y, x), in the mode "clean"."""

    __repr__ = short_repr

    @classmethod
    def of(cls, matte: NDArray[np.floating]) -> "MatteWithGradient":
        """Compute the gradient of a matte."""
        return cls(matte, _gradient_length(matte))


def matte_errors(
    alpha: MatteWithGradient, truth: MatteWithGradient, regions: Mapping[str, NDArray[np.bool_]]
) -> dict[str, MatteErrors]:
    """Compute SAD, MSE, Grad (in the mode "clean") and Conn over several regions.

    Where both mattes are 0 every error is 0, so only the box around the other voxels is computed.

    Args:
        alpha: The prediction.
        truth: The truth, of the same shape.
        regions: (z, y, x) each, by name; an empty region has errors of 0.

    Returns:
        The metrics by name of the region.

    Raises:
        InputError: The arrays' shapes differ, or the region holds no truth values.
    """
    for region in regions.values():
        _check_shapes(alpha.matte.shape, truth.matte.shape, region.shape)
    nonzero = (alpha.matte != 0) | (truth.matte != 0)
    box = box_around(nonzero, (GRADIENT_REACH,) * 3) if nonzero.any() else (slice(0, 0),) * 3
    maps = (
        _absolute_errors(alpha.matte[box], truth.matte[box]),
        _squared_errors(alpha.matte[box], truth.matte[box]),
        _gradient_errors(alpha.gradient_length[box], truth.gradient_length[box]),
        _connectivity_errors(alpha.matte[box], truth.matte[box]),
    )
    errors = {}
    for name, region in regions.items():
        inside = region[box]
        absolute, squared, grad, conn = (float(values[inside].sum()) for values in maps)
        # The mean is over the whole region, also where it extends beyond the box.
        errors[name] = MatteErrors(absolute, squared / max(int(region.sum()), 1), grad, conn)
    return errors


def _absolute_errors(
    alpha: NDArray[np.floating], truth: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return |a^ - a| of each voxel, in double precision."""
    errors: NDArray[np.float64] = np.abs(alpha.astype(np.float64) - truth.astype(np.float64))
    return errors


def _squared_errors(
    alpha: NDArray[np.floating], truth: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return (a^ - a)^2 of each voxel, in double precision."""
    errors: NDArray[np.float64] = (alpha.astype(np.float64) - truth.astype(np.float64)) ** 2
    return errors


def _gradient_errors(
    predicted: NDArray[np.float64], true: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return (|grad a^| - |grad a|)^2 of each voxel from the lengths of the gradients."""
    errors: NDArray[np.float64] = (predicted - true) ** 2
    return errors


def _connectivity_errors(
    alpha: NDArray[np.floating], truth: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return |phi(a^) - phi(a)| of each voxel (z, y, x), 0..1."""
    level = _connected_level(np.minimum(alpha, truth).astype(np.float64))
    predicted = _phi(alpha.astype(np.float64) - level)
    true = _phi(truth.astype(np.float64) - level)
    errors: NDArray[np.float64] = np.abs(predicted - true)
    return errors


def _gradient_length(matte: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the length of a matte's gradient at every voxel (z, y, x), in the mode "clean".

    Nothing is computed where the matte is 0 as far as the kernel reaches: a small matte in a large
    volume takes little time.
    """
    length = np.zeros(matte.shape)
    nonzero = matte != 0
    if nonzero.any():
        # The border of the box is 0, and so is what lies beyond it: replicating it is exact.
        box = box_around(nonzero, (GRADIENT_REACH,) * 3)
        length[box] = _length(_gradient(matte[box], "clean"))
    return length


def _length(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the lengths of vectors (3, z, y, x), summed in the order of the axes."""
    z, y, x = vectors
    length: NDArray[np.float64] = np.sqrt(z * z + y * y + x * x)
    return length


def _gradient(matte: NDArray[np.floating], mode: GradientMode) -> NDArray[np.float64]:
    """Return (3, z, y, x), the derivatives along each axis under a Gaussian, borders replicated."""
    place = np.arange(-GRADIENT_REACH, GRADIENT_REACH + 1, dtype=np.float64)
    smooth = np.exp(-0.5 * (place / GRADIENT_SIGMA) ** 2)
    slope = place * smooth
    if mode == "dim":
        smooth = smooth / np.linalg.norm(smooth)
        slope = slope / np.linalg.norm(slope)
    else:
        smooth = smooth / smooth.sum()
        slope = slope / (place * slope).sum()
    derivatives = np.empty((3, *matte.shape))
    # The derivatives along y and x begin with the same smoothing along z.
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
    """Return each voxel's level l from the lower of both mattes."""
    level = np.zeros(common.shape)
    belongs = np.ones(common.shape, bool)
    for k in range(1, CONNECTIVITY_STEPS + 1):
        belongs &= _largest_component(common >= k / CONNECTIVITY_STEPS)
        level[belongs] = k / CONNECTIVITY_STEPS
    return level


def _largest_component(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the largest 6-connected component of a mask, the first of equals.

    Empty if there is none.
    """
    if not mask.any():
        return mask
    component = np.zeros_like(mask)
    box = box_around(mask, (0, 0, 0))
    labels, _ = ndimage.label(mask[box])
    sizes = np.bincount(labels.ravel())
    component[box] = labels == 1 + int(sizes[1:].argmax())
    return component


def _phi(excess: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(excess >= CONNECTIVITY_SLACK, 1.0 - excess, 1.0)


def _read(
    alpha: NDArray[np.floating], truth: NDArray[np.floating], region: NDArray[np.bool_]
) -> tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.bool_]]:
    """Return the arrays as floats and truth values of one shape."""
    mattes = [read_array("matte", given, "Fill masked voxels.") for given in (alpha, truth)]
    inside = read_array("region", region, "Leave masked voxels out of the region.")
    _check_shapes(mattes[0].shape, mattes[1].shape, inside.shape)
    if inside.dtype.kind != "b":
        # Whole numbers would select slices.
        raise InputError(
            "the region holds no truth values",
            got=inside.dtype,
            expected="a mask of truth values",
            remedy="Pass region > 0.",
        )
    first, second = (one if one.dtype.kind == "f" else one.astype(np.float64) for one in mattes)
    return first, second, inside


def _check_shapes(alpha: tuple[int, ...], truth: tuple[int, ...], region: tuple[int, ...]) -> None:
    if not alpha == truth == region:
        raise InputError(
            "prediction, truth and region do not fit each other",
            got=f"{alpha}, {truth} and {region}",
            expected="one shape",
            remedy="Resample all three to one grid.",
        )


def _check_not_empty(region: NDArray[np.bool_]) -> None:
    if not region.any():
        raise InputError(
            "a mean needs voxels",
            got="an empty region",
            expected="at least one voxel",
            remedy="Widen the region.",
        )

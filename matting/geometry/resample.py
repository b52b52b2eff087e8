"""Resampling from the scanner's grid to an isotropic one.

Paper   Wang et al., 3D Matting, arXiv 2210.05104, section 3.2: 0.5 mm in each dimension.
Ours    The image linearly (or by B-splines); each reader's mask through its signed distance, so
        that the outline is smooth across slices. The distance is edt(inside) - edt(outside): zero
        is midway between voxels, where the outline is. A voxel is valid only if every sample that
        contributed to it was.
"""

from typing import Literal

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from matting.geometry.grid import Grid, Vector
from matting.geometry.patch import AIR_HU, Patch
from matting.parameters import ResampleSettings

_INTERPOLATORS = {
    "linear": sitk.sitkLinear,
    "bspline": sitk.sitkBSpline,
    "nearest": sitk.sitkNearestNeighbor,
}

ALL_SAMPLES_VALID = 0.999
"""Interpolated validity above which no sample with weight was invalid; below 1 for rounding."""


def resample_patch(patch: Patch, parameters: ResampleSettings) -> Patch:
    """Resample a patch to isotropic voxels.

    Args:
        patch: A patch at native spacing, air where it is not valid.
        parameters: Spacing in mm, interpolation of image and masks.

    Returns:
        A patch with the same first voxel. HU are rounded to whole numbers, so that the stored int16
        image is exactly what is solved.
    """
    spacing_mm = (parameters.spacing_mm,) * 3
    grid = patch.grid.with_spacing(spacing_mm)

    def resampled(
        values: NDArray[np.float32], how: Literal["linear", "bspline", "nearest"]
    ) -> NDArray[np.float32]:
        return _resample(values, patch.grid.spacing_mm, grid, how)

    valid = resampled(patch.valid.astype(np.float32), "linear") > ALL_SAMPLES_VALID
    image_hu = np.where(
        valid, np.rint(resampled(patch.image_hu, parameters.image)), np.float32(AIR_HU)
    )
    if parameters.readers == "nearest":
        readers = [resampled(mask.astype(np.float32), "nearest") > 0 for mask in patch.readers]
    else:
        readers = [
            resampled(signed_distance_mm(mask, patch.grid.spacing_mm), "linear") > 0
            for mask in patch.readers
        ]
    alpha = None
    if patch.known_alpha is not None:
        alpha = np.clip(resampled(patch.known_alpha, "linear"), 0, 1)
    return Patch(grid, image_hu, valid, np.stack(readers), alpha)


def resample_image(
    image_hu: NDArray[np.floating],
    valid: NDArray[np.bool_],
    grid: Grid,
    parameters: ResampleSettings,
) -> tuple[NDArray[np.float32], NDArray[np.bool_], Grid]:
    """Resample a CT without readers to isotropic voxels, as `resample_patch` does with readers.

    Args:
        image_hu: (z, y, x) on `grid`, air where not valid.
        valid: (z, y, x): True where the scanner measured.
        grid: The CT's grid.
        parameters: Spacing in mm, interpolation of the image.

    Returns:
        The image in whole HU, its validity, and its grid, which shares the first voxel with `grid`.
    """
    no_readers = np.zeros((1, *grid.shape), bool)
    patch = resample_patch(Patch(grid, image_hu.astype(np.float32), valid, no_readers), parameters)
    return patch.image_hu, patch.valid, patch.grid


def resample_back(
    values: NDArray[np.floating], spacing_mm: Vector, grid: Grid
) -> NDArray[np.float32]:
    """Resample values on isotropic voxels linearly to the grid that these were made from.

    Args:
        values: (z, y, x) at `spacing_mm`, sharing the first voxel with `grid`.
        spacing_mm: Spacing of the values along (z, y, x).
        grid: The grid to resample to. Its outermost voxels may be up to a voxel beyond the values,
            whose edge they repeat.

    Returns:
        Values of the grid's shape.
    """
    return _resample(values.astype(np.float32), spacing_mm, grid, "linear", beyond="edge")


def signed_distance_mm(mask: NDArray[np.bool_], spacing_mm: Vector) -> NDArray[np.float32]:
    """Return the distance of each voxel to the border of a mask, in mm; positive inside."""
    if not mask.any():
        return np.full(mask.shape, -np.inf, np.float32)
    inside = ndimage.distance_transform_edt(mask, sampling=spacing_mm)
    outside = ndimage.distance_transform_edt(~mask, sampling=spacing_mm)
    distance_mm: NDArray[np.float32] = (inside - outside).astype(np.float32)
    return distance_mm


def _resample(
    values: NDArray[np.float32],
    spacing_mm: Vector,
    grid: Grid,
    how: Literal["linear", "bspline", "nearest"],
    beyond: Literal["zero", "edge"] = "zero",
) -> NDArray[np.float32]:
    # Both grids share their first voxel and axes, so position and orientation cancel out.
    image = sitk.GetImageFromArray(values.astype(np.float32))
    image.SetSpacing(spacing_mm[::-1])
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize(grid.shape[::-1])
    resampler.SetOutputSpacing(grid.spacing_mm[::-1])
    resampler.SetInterpolator(_INTERPOLATORS[how])
    resampler.SetNumberOfThreads(1)
    resampler.SetUseNearestNeighborExtrapolator(beyond == "edge")
    result: NDArray[np.float32] = sitk.GetArrayFromImage(resampler.Execute(image))
    return result

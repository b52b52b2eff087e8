"""Read one CT for a network and write its predictions with the CT's geometry."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from matting.errors import InputError
from matting.geometry.grid import Grid
from storage.sources.dicom_series import find_series, folders_with_files
from storage.sources.dicom_volume import read_slice_stack
from storage.sources.image_io import read_volume, without_padding


@dataclass(frozen=True, slots=True)
class CtVolume:
    """A whole CT."""

    grid: Grid
    image_hu: NDArray[np.float32]
    """(z, y, x): radiodensity, air where not valid."""
    valid: NDArray[np.bool_]
    """(z, y, x): True where the scanner measured."""


def read_ct(path: Path) -> CtVolume:
    """Read a CT from a volume file (NIfTI, NRRD, MHA) or from a folder with one DICOM series.

    Raises:
        InputError: It is not there or cannot be read, or the folder holds another number of series
            than one.
    """
    if not path.is_dir():
        volume = read_volume(path, "the CT")
        return CtVolume(volume.grid, *without_padding(volume.values.astype(np.float32)))
    found = find_series(folders_with_files(path))
    if len(found) != 1:
        raise InputError(
            "the folder does not hold one CT series",
            got=f"{len(found)} series in {path}",
            expected="one",
            remedy="Give the folder of the series itself.",
        )
    series = next(iter(found.values()))
    slab = read_slice_stack(series, 0, len(series.slices))
    return CtVolume(slab.grid, slab.image_hu, slab.valid)


def write_volume(path: Path, values: NDArray[Any], grid: Grid) -> None:
    """Write a volume (z, y, x) with its place in the patient.

    The suffix (.nii.gz, .nrrd, .mha) is the format.
    """
    image = sitk.GetImageFromArray(values)
    image.SetSpacing(grid.spacing_mm[::-1])
    image.SetOrigin(grid.origin_lps_mm)
    image.SetDirection(np.asarray(grid.axes_lps)[::-1].T.ravel().tolist())
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        sitk.WriteImage(image, str(path), useCompression=True)
    except RuntimeError as error:
        raise InputError(
            "the result cannot be written",
            got=f"{path}: {str(error).strip().splitlines()[-1]}",
            expected="a folder with room and permission",
            remedy="Give another --out.",
        ) from error

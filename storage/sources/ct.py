"""Read one CT for a network and write its predictions with the CT's geometry."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from matting.errors import InputError
from matting.geometry.grid import Grid
from matting.parameters import ResampleSettings
from storage.output import produce_output
from storage.recipe import NOTHING_ALLOWED, SourceSettings
from storage.sources.base import REFUSE_ODD
from storage.sources.dicom_file import is_dicom
from storage.sources.dicom_headers import count_reasons
from storage.sources.dicom_series import Survey, survey_file, survey_tree
from storage.sources.dicom_volume import read_slice_stack
from storage.sources.image_io import read_volume, without_padding
from storage.sources.zip_folders import is_archive


@dataclass(frozen=True, slots=True)
class CtVolume:
    """A whole CT."""

    grid: Grid
    image_hu: NDArray[np.float32]
    """(z, y, x): radiodensity, air where not valid."""
    valid: NDArray[np.bool_]
    """(z, y, x): True where the scanner measured."""
    image_set: str = ""
    """Which of a series' image sets it is; empty where the series is one set."""
    frame_of_reference: str = ""
    """Of its patient coordinates; empty where it does not say."""


def read_ct(
    path: Path,
    settings: ResampleSettings = REFUSE_ODD,
    allowed: SourceSettings = NOTHING_ALLOWED,
) -> CtVolume:
    """Read a CT from a volume file (NIfTI, NRRD, MHA), or from DICOM.

    Args:
        path: A volume file, a multi-frame DICOM file, or a folder or zip archive with one DICOM
            series, at any depth.
        settings: Whether slices at changing distances, or slices that lean, are interpolated.
        allowed: Whether slices of DICOM may show text or drawings.

    Raises:
        InputError: It is not there or cannot be read, is no CT, or the folder holds another number
            of series than one.
    """
    if path.is_dir() or is_archive(path):
        return _read_series(survey_tree(path), path, settings, allowed)
    if path.is_file() and is_dicom(path):
        return _read_series(survey_file(path), path, settings, allowed)
    volume = read_volume(path, "the CT")
    return CtVolume(volume.grid, *without_padding(volume.values.astype(np.float32)))


def _read_series(
    survey: Survey, path: Path, settings: ResampleSettings, allowed: SourceSettings
) -> CtVolume:
    if not survey.series:
        raise InputError(
            "there is no CT",
            got=f"{path} with {'; '.join(count_reasons(survey.ignored)) or 'no files'}",
            expected="one CT series",
            remedy="Give the folder of a CT series in DICOM, or a volume in HU.",
        )
    if len(survey.series) > 1:
        titles = sorted(f"{series.folder}: {series.title}" for series in survey.series.values())
        raise InputError(
            "the folder holds several CT series",
            got=f"{len(titles)} in {path}:" + "".join(f"\n  {title}" for title in titles) + "\n",
            expected="one",
            remedy="Give the folder of one series; where they share a folder, move the files of "
            "one to a folder of its own.",
        )
    (series,) = survey.series.values()
    slab = read_slice_stack(series, 0, len(series.slices), settings, allowed)
    frame = slab.slices[0].frame_of_reference
    return CtVolume(slab.grid, slab.image_hu, slab.valid, slab.image_set, frame)


def write_volume(path: Path, values: NDArray[Any], grid: Grid) -> None:
    """Write a volume (z, y, x) with its place in the patient.

    The suffix (.nii.gz, .nrrd, .mha) is the format.
    """
    image = sitk.GetImageFromArray(values)
    image.SetSpacing(grid.spacing_mm[::-1])
    image.SetOrigin(grid.origin_lps_mm)
    image.SetDirection(np.asarray(grid.axes_lps)[::-1].T.ravel().tolist())
    try:
        produce_output(path, lambda part: sitk.WriteImage(image, str(part), useCompression=True))
    except (RuntimeError, OSError) as error:
        raise InputError(
            "the result cannot be written",
            got=f"{path}: {str(error).strip().splitlines()[-1]}",
            expected="a folder with room and permission",
            remedy="Give another --out.",
        ) from error

"""One nodule as people store it: a soft ball in lung, its CT and its readers' masks in any form.

The truth is known in closed form, so that whatever is read can be held against it.
"""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset

from tests.dicom import slice_dataset, write_slice

SHAPE = (10, 32, 30)
"""Voxels (z, y, x)."""
SPACING_MM = (2.5, 0.7, 0.7)
ORIGIN_LPS_MM = (-120.3, -80.2, -210.5)
CENTRE_VOXEL = (4.6, 15.2, 13.1)
RADII_MM = (4.5, 4.9, 5.3, 5.7)
"""One per reader."""


def _distance_mm() -> Any:
    offset = (np.moveaxis(np.indices(SHAPE), 0, -1) - CENTRE_VOXEL) * SPACING_MM
    return np.sqrt((offset**2).sum(axis=-1))


def ct_hu() -> Any:
    """Lung with noise, a ball of tissue, and a chest wall; int16 HU (z, y, x)."""
    inside = 1 / (1 + np.exp((_distance_mm() - 5) / 0.5))
    inside[:, 28:] = 1
    noise = np.random.default_rng(3).normal(0, 15, SHAPE)
    return np.rint(inside * 40 + (1 - inside) * -860 + noise).astype(np.int16)


def masks() -> Any:
    """What the four readers marked, bool (reader, z, y, x)."""
    return np.stack([_distance_mm() <= radius for radius in RADII_MM])


def to_lps(index_zyx: Any) -> Any:
    """Return the patient coordinates (x, y, z) of voxel indices, in mm."""
    return np.asarray(ORIGIN_LPS_MM) + (np.asarray(index_zyx) * SPACING_MM)[..., ::-1]


def centroid_lps(mask: Any) -> Any:
    """Return where a mask on the CT's own voxels lies in the patient, in mm."""
    return to_lps(np.argwhere(mask).mean(axis=0))


def affine_ras() -> Any:
    """Return the CT's affine as NIfTI has it: (x, y, z) in voxels to RAS."""
    z, y, x = SPACING_MM
    affine = np.diag([-x, -y, z, 1.0])
    affine[:3, 3] = np.array(ORIGIN_LPS_MM) * (-1, -1, 1)
    return affine


def write_image(path: Path, values: Any, **geometry: Any) -> Path:
    """Write a volume by SimpleITK, which compresses where the format can."""
    image = sitk.GetImageFromArray(np.asarray(values))
    axes = image.GetDimension()
    image.SetSpacing(geometry.get("spacing", SPACING_MM[::-1])[:axes])
    image.SetOrigin(tuple(geometry.get("origin", ORIGIN_LPS_MM))[:axes])
    if "direction" in geometry:
        image.SetDirection(geometry["direction"])
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path), useCompression=True)
    return path


def write_nifti(
    path: Path,
    values: Any,
    *,
    sform: Any = None,
    qform: Any = None,
    sform_code: int = 0,
    qform_code: int = 0,
    spacing: Any = None,
) -> Path:
    """Write a NIfTI file with exactly these geometries, consistent or not."""
    data = np.asarray(values).T
    header = nibabel.Nifti1Header()
    header.set_data_dtype(data.dtype)
    header.set_data_shape(data.shape)
    header.set_xyzt_units("mm")
    if qform is not None:
        header.set_qform(qform, qform_code)
    if spacing is not None:
        header["pixdim"][1:4] = spacing
    if sform is not None:
        header.set_sform(sform, sform_code)
    header["sform_code"], header["qform_code"] = sform_code, qform_code
    header["vox_offset"], header["magic"] = 352, b"n+1"
    path.write_bytes(header.binaryblock + bytes(4) + data.tobytes(order="F"))
    return path


def write_files(folder: Path, **image: Any) -> Path:
    """Write the CT, four masks and the table that names them."""
    folder.mkdir(parents=True, exist_ok=True)
    write_image(folder / "ct.nii.gz", image.get("values", ct_hu()))
    for number, mask in enumerate(masks(), 1):
        write_image(folder / f"r{number}.nii.gz", mask.astype(np.uint8))
    return write_table(folder)


def write_table(folder: Path, image: str = "ct.nii.gz", readers: str = "", more: str = "") -> Path:
    """Write a table of one nodule; `more` is `,column=value` for further columns."""
    readers = readers or ";".join(f"r{number}.nii.gz" for number in range(1, 5))
    names, values = "", ""
    for pair in filter(None, more.split(",")):
        name, _, value = pair.partition("=")
        names, values = f"{names},{name}", f"{values},{value}"
    table = folder / "table.csv"
    table.write_text(f"nodule,patient,image,readers{names}\nn1,p1,{image},{readers}{values}\n")
    return table


def write_dicom(folder: Path, **how: Any) -> Path:
    """Write the CT as a series; `how` as `tests.dicom.slice_dataset` has it."""
    for k in range(SHAPE[0]):
        write_slice(
            folder / f"{k:02d}.dcm", ORIGIN_LPS_MM[2] + k * SPACING_MM[0], **slice_of(k, how)
        )
    return folder


def slice_of(k: int, how: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the arguments of `tests.dicom.slice_dataset` for slice `k` of the CT."""
    return {
        "number": k + 1,
        "hu": ct_hu()[k],
        "shape": SHAPE[1:],
        "xy": ORIGIN_LPS_MM[:2],
        "PixelSpacing": [*SPACING_MM[1:]],
        "Modality": "CT",
        **(how or {}),
    }


def slice_with(k: int, **how: Any) -> Dataset:
    """Return slice `k` of the CT as a data set."""
    return slice_dataset(ORIGIN_LPS_MM[2] + k * SPACING_MM[0], **slice_of(k, how))

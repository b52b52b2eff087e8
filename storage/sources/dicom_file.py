"""Open DICOM files as they occur, and say of any other file what it is.

Also read: data sets without the 128 bytes of preamble, without meta information, or without a
transfer syntax; what is missing is guessed from the data set itself.
"""

from io import BytesIO
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    LegacyConvertedEnhancedCTImageStorage,
)

from storage.sources.zip_folders import open_file

PREAMBLE_BYTES = 128
ENHANCED_CT = (EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
"""Storage classes that hold a whole series as the frames of one object."""
CT_CLASSES = (CTImageStorage, *ENHANCED_CT)

_DATA_SET_STARTS = (b"\x02\x00", b"\x08\x00", b"\x00\x08")
"""Groups 0002 and 0008, with which a data set without preamble begins; the last is big-endian."""

_OTHER_FORMATS = {
    b"\x1f\x8b": "compressed with gzip: unpack it",
    b"PK\x03\x04": "a zip archive that is damaged or has another suffix",
    b"version https://git-lfs": "a Git LFS pointer: run `git lfs pull`",
}
"""What some files are that take the place of others, by their first bytes."""


def read_dicom(source: Path | bytes, *, tags: list[str] | None = None) -> Dataset:
    """Read a data set.

    Args:
        source: The file, or its content.
        tags: Keywords of the elements that are wanted, without the pixels; None for everything.

    Raises:
        InvalidDicomError: It is something else; the message says what.
        OSError: It cannot be opened.
        Exception: Whatever pydicom stumbles over in a file that is cut short or holds nonsense.
    """
    headers_only = tags is not None
    stream = BytesIO(source) if isinstance(source, bytes) else open_file(source)
    with stream:
        start = stream.read(PREAMBLE_BYTES + 4)
        if not _begins_as_dicom(start):
            raise InvalidDicomError(_describe(start))
        stream.seek(0)
        dataset = dcmread(stream, stop_before_pixels=headers_only, specific_tags=tags, force=True)
    _complete_meta(dataset)
    return dataset


def is_dicom(path: Path) -> bool:
    """Return whether a file begins as a DICOM data set does.

    Raises:
        OSError: It cannot be opened.
    """
    with path.open("rb") as stream:
        return _begins_as_dicom(stream.read(PREAMBLE_BYTES + 4))


def describe_other_object(dataset: Dataset) -> str:
    """Return what a data set holds where it is no axial CT; empty where it is one."""
    storage_class = dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID")
    modality = str(dataset.get("Modality") or "").strip()
    named = storage_class.name if storage_class else "object without SOPClassUID"
    if (storage_class and storage_class not in CT_CLASSES) or (modality and modality != "CT"):
        return f"{named}, Modality {modality or 'not given'}"
    if "LOCALIZER" in (dataset.get("ImageType") or ()):
        return "CT localizer (scout)"
    return ""


def _begins_as_dicom(start: bytes) -> bool:
    return start[PREAMBLE_BYTES:] == b"DICM" or start[:2] in _DATA_SET_STARTS


def _describe(start: bytes) -> str:
    if not start:
        return "empty file"
    for magic, meaning in _OTHER_FORMATS.items():
        if start.startswith(magic):
            return meaning
    return "not DICOM"


def _complete_meta(dataset: Dataset) -> None:
    """Set the transfer syntax that a file does not state, as pydicom found it in the data set."""
    if not hasattr(dataset, "file_meta"):
        dataset.file_meta = FileMetaDataset()
    if "TransferSyntaxUID" in dataset.file_meta:
        return
    is_implicit, is_little_endian = dataset.original_encoding
    if is_implicit:
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    elif is_little_endian:
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    else:
        dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian

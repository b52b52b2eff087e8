"""The pixels of one CT slice in HU, and which of them the scanner measured."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.pixels.utils import pixel_array

from matting.errors import InputError
from storage.recipe import EVERYTHING_ALLOWED, SourceSettings
from storage.sources.burned_in import check_burned_in
from storage.sources.cache import cache_get, cache_set
from storage.sources.dicom_file import read_dicom
from storage.sources.dicom_headers import SliceHeader, frame_attributes
from storage.sources.image_io import without_padding
from storage.sources.zip_folders import open_file, split_path

DENSEST_PADDING_HU = -900.0
"""Padding that the header declares is air or below; a denser value is that of tissue, too."""

_UNDECODABLE = (
    RuntimeError,
    NotImplementedError,
    ValueError,
    AttributeError,
    KeyError,
    OSError,
    TypeError,
)
"""What pydicom raises where no decoder is at hand, or the stream is broken."""


@dataclass(frozen=True, slots=True)
class SlicePixels:
    """One slice."""

    image_hu: NDArray[np.float32]
    """(y, x): radiodensity by the slice's own slope and intercept; air where not valid."""
    valid: NDArray[np.bool_]
    """(y, x): False on padding."""


class SliceReader:
    """Reads slices, and each multi-frame file once for all of its frames that follow each other."""

    def __init__(self, settings: SourceSettings) -> None:
        self._settings = settings
        self._path: Path | None = None
        self._dataset = Dataset()
        self._sha256 = ""

    def read(self, header: SliceHeader) -> tuple[SlicePixels, str]:
        """Return the pixels of a slice, and a SHA-256 of its file (and frame, if it has several).

        Raises:
            InputError: The file cannot be read or decoded, is no CT in HU, or may show what the
                settings do not allow.
        """
        try:
            if self._path != header.path:
                self._open(header)
            pixels = _radiodensity(header, self._dataset)
        except InputError:
            raise
        except Exception as error:  # a file that ends early raises whatever pydicom stumbles over
            raise InputError(
                "a slice is broken",
                got=f"{header.path}, which ends early or holds nonsense",
                expected="a whole DICOM file",
                remedy="Fetch it again.",
            ) from error
        if header.frame is None:
            return pixels, self._sha256
        return pixels, hashlib.sha256(f"{self._sha256} {header.frame}".encode()).hexdigest()

    def _open(self, header: SliceHeader) -> None:
        self._path = None
        content = _content(header)
        self._dataset = read_dicom(content)
        check_burned_in(header.path, self._dataset, self._settings)
        self._sha256 = hashlib.sha256(content).hexdigest()
        self._path = header.path


def pixel_key(header: SliceHeader) -> str:
    """Return a text that is equal for slices with equal pixels in HU, whatever their encoding.

    A slice that cannot be read or decoded equals itself only.
    """
    there = split_path(header.path)[0].stat()
    name = f"{header.path.resolve()} {there.st_size} {there.st_mtime_ns} {header.frame}"
    known = cache_get("pixels", name)
    if isinstance(known, str):
        return known
    try:
        pixels, _ = SliceReader(EVERYTHING_ALLOWED).read(header)
    except InputError:
        return name
    key = hashlib.sha256(pixels.image_hu.tobytes() + pixels.valid.tobytes()).hexdigest()
    cache_set("pixels", name, key)
    return key


def _content(header: SliceHeader) -> bytes:
    try:
        with open_file(header.path) as stream:
            return stream.read()
    except OSError as error:
        raise InputError(
            "a slice cannot be read",
            got=f"{header.path}: {error.strerror}",
            expected="a readable file",
            remedy="Check the archive's disk and permissions.",
        ) from error


def _radiodensity(header: SliceHeader, dataset: Dataset) -> SlicePixels:
    stored = _stored_values(header, dataset)
    image = dataset if header.frame is None else frame_attributes(dataset, header.frame)
    slope, intercept = image.get("RescaleSlope"), image.get("RescaleIntercept")
    if slope in (None, "") or intercept in (None, "") or float(slope) == 0:
        raise InputError(
            "a slice does not say how to turn its values into HU",
            got=f"RescaleSlope {slope}, RescaleIntercept {intercept} in {header.path}",
            expected="both numbers, and a slope other than 0",
            remedy="Fetch the series again; only CT in HU can be worked on.",
        )
    image_hu = (stored * float(slope) + float(intercept)).astype(np.float32)
    padding = _tagged_padding(header, dataset, stored)
    _check_padding(header, image_hu, padding)
    return SlicePixels(*without_padding(image_hu, padding))


def _stored_values(header: SliceHeader, dataset: Dataset) -> NDArray[np.int64]:
    _check_length(header, dataset)
    try:
        if header.frame is None:
            stored = dataset.pixel_array
        else:
            stored = pixel_array(dataset, index=header.frame)
    except _UNDECODABLE as error:
        syntax = dataset.file_meta.TransferSyntaxUID
        raise InputError(
            "the pixels of a slice cannot be decoded",
            got=f"{syntax.name} in {header.path}",
            expected="uncompressed pixels, or a whole stream of a compression of DICOM",
            remedy="Fetch the file again if it was cut short, or decompress the series (e.g. "
            "gdcmconv --raw).",
        ) from error
    if stored.shape != header.shape:
        raise InputError(
            "a slice is no single grey image",
            got=f"pixels of shape {stored.shape} in {header.path}",
            expected=header.shape,
            remedy="Only grey CT can be worked on; fetch the original series.",
        )
    return np.asarray(stored, np.int64)


def _check_length(header: SliceHeader, dataset: Dataset) -> None:
    """Raise InputError for a file that ends before its pixels do."""
    got = len(dataset.get("PixelData") or b"")
    frames = 1 if header.frame is None else int(dataset.NumberOfFrames)
    expected = frames * dataset.Rows * dataset.Columns * dataset.get("BitsAllocated", 16) // 8
    if got == 0 or (got < expected and not dataset.file_meta.TransferSyntaxUID.is_compressed):
        raise InputError(
            "the pixels of a slice are cut short",
            got=f"{got} bytes in {header.path}",
            expected=f"{expected} bytes",
            remedy="The file was not copied whole; fetch it again.",
        )


def _tagged_padding(
    header: SliceHeader, dataset: Dataset, stored: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return the stored values, one or a range, that the header declares to be padding."""
    value, limit = dataset.get("PixelPaddingValue"), dataset.get("PixelPaddingRangeLimit")
    if value in (None, ""):
        return np.zeros(stored.shape, np.bool_)
    ends = []
    for end in (value, limit):
        if isinstance(end, MultiValue | list):
            raise InputError(
                "a slice declares several padding values",
                got=f"{list(end)} in {header.path}",
                expected="one PixelPaddingValue, and one PixelPaddingRangeLimit for a range",
                remedy="Correct the header, or leave the nodule out.",
            )
        if end not in (None, ""):
            ends.append(_as_stored(dataset, int(end)))
    return (stored >= min(ends)) & (stored <= max(ends))


def _as_stored(dataset: Dataset, value: int) -> int:
    # Some writers give the tag as unsigned beside signed pixels (63536 stands for -2000), or as
    # signed beside pixels that are declared unsigned.
    if dataset.PixelRepresentation == 1 and value >= 2**15:
        return value - 2**16
    return value + 2**16 if dataset.PixelRepresentation == 0 and value < 0 else value


def _check_padding(
    header: SliceHeader, image_hu: NDArray[np.float32], padding: NDArray[np.bool_]
) -> None:
    """Raise InputError where voxels that may be tissue would be taken for padding."""
    inside = image_hu[padding]
    tissue = inside[(inside > DENSEST_PADDING_HU) & (inside <= -DENSEST_PADDING_HU)]
    if tissue.size:
        raise InputError(
            "the padding value of a slice is one that tissue has",
            got=f"padding from {tissue.min():g} to {tissue.max():g} HU at {tissue.size} of "
            f"{image_hu.size} voxels in {header.path}",
            expected=f"padding of at most {DENSEST_PADDING_HU:g} HU, or none",
            remedy="Remove PixelPaddingValue where it is wrong, or replace the padding by -2000 "
            "HU, or leave the nodule out.",
        )

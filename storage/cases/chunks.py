"""Decode one chunk of a stored array in the calling thread, without zarr's event loop.

zarr can read any array, but for a single small box most of the time goes into its asynchronous
machinery. A case has one chunk per volume and two codecs, so reading it is: get the bytes, unpack
them, cut out the box. This also works in a forked process. Arrays with other chunks or codecs are
left to zarr.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import zarr
import zarr.codecs
from numcodecs import blosc, zstd
from numpy.typing import NDArray
from zarr.core.metadata import ArrayV3Metadata

_BLOSC_PACKED_BYTES = slice(12, 16)
"""The bytes of a Blosc header that hold the packed size."""


def _unblosc(data: bytes) -> Any:
    # Blosc trusts its header, even where the file was cut short
    if int.from_bytes(data[_BLOSC_PACKED_BYTES], "little") != len(data) or not data:
        raise ValueError(f"{len(data)} bytes, but the header has another size")
    return blosc.decompress(data)


_UNPACK: dict[type, Callable[[bytes], Any]] = {
    zarr.codecs.ZstdCodec: zstd.decompress,
    zarr.codecs.BloscCodec: _unblosc,
}


def is_single_chunk(array: zarr.Array[Any]) -> bool:
    """Return whether an array has one chunk per volume, packed by a codec that is known here."""
    volume = array.shape[-3:]
    return (
        array.chunks in ((*(1,) * (array.ndim - 3), *volume), array.shape)
        and array.shards is None
        and not array.filters
        and len(array.compressors) == 1
        and type(array.compressors[0]) in _UNPACK
        and isinstance(array.serializer, zarr.codecs.BytesCodec)
        and array.dtype.byteorder in "<=|"
    )


def chunk_key(name: str, array: zarr.Array[Any], *lead: int) -> str:
    """Return the path of a volume's chunk, below its case.

    Args:
        name: Of the array.
        array: Opened.
        *lead: Index of the volume on the axes before (z, y, x).
    """
    metadata = array.metadata
    if not isinstance(metadata, ArrayV3Metadata):
        raise TypeError(f"{array.path} is Zarr {metadata.zarr_format}; cases are Zarr 3")
    return f"{name}/{metadata.chunk_key_encoding.encode_chunk_key((*lead, 0, 0, 0))}"


def decode_chunk(array: zarr.Array[Any], data: bytes | None) -> NDArray[Any]:
    """Decode the chunk of a volume.

    Args:
        array: Opened.
        data: The chunk's bytes; None where it was not stored because it holds the fill value
            throughout.

    Returns:
        (z, y, x).

    Raises:
        ValueError: The bytes are damaged.
    """
    volume = array.shape[-3:]
    if data is None:
        return np.full(volume, array.fill_value, array.dtype)
    try:
        flat = np.frombuffer(_UNPACK[type(array.compressors[0])](data), array.dtype)
    except RuntimeError as error:
        raise ValueError(str(error)) from error
    return flat.reshape(volume)

"""One chunk of a stored array, decoded where it is read: no event loop, no threads.

zarr reads any array anywhere, and for a single small box most of the time goes into its asynchronous machinery. A case
has one chunk a volume and two codecs, so reading it is: get the bytes, unpack them, cut the box out. It also works in a
forked process. Arrays of another make are left to zarr.
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
"""Where a Blosc header says how long it all is."""


def _unblosc(data: bytes) -> Any:
    # Blosc believes its header, also where the file was cut short
    if int.from_bytes(data[_BLOSC_PACKED_BYTES], "little") != len(data) or not data:
        raise ValueError(f"{len(data)} bytes, not what the header says")
    return blosc.decompress(data)


_UNPACK: dict[type, Callable[[bytes], Any]] = {
    zarr.codecs.ZstdCodec: zstd.decompress,
    zarr.codecs.BloscCodec: _unblosc,
}


def is_plain(array: zarr.Array[Any]) -> bool:
    """Tell whether an array has one chunk a volume, packed as bytes and by one codec that is known here."""
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
    """Give the path below a case of a volume of the array `name`; `lead` is its place on the axes before (z, y, x)."""
    metadata = array.metadata
    if not isinstance(metadata, ArrayV3Metadata):
        raise TypeError(f"{array.path} is Zarr {metadata.zarr_format}; cases are Zarr 3")
    return f"{name}/{metadata.chunk_key_encoding.encode_chunk_key((*lead, 0, 0, 0))}"


def unpacked(array: zarr.Array[Any], data: bytes | None) -> NDArray[Any]:
    """Decode a volume's chunk (z, y, x); None, a chunk that was not stored, is the fill value throughout.

    Raises:
        ValueError: The bytes are not what was packed.
    """
    volume = array.shape[-3:]
    if data is None:
        return np.full(volume, array.fill_value, array.dtype)
    try:
        flat = np.frombuffer(_UNPACK[type(array.compressors[0])](data), array.dtype)
    except RuntimeError as error:
        raise ValueError(str(error)) from error
    return flat.reshape(volume)

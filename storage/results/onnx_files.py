"""Networks as ONNX files, which say themselves all that a prediction must know.

An ONNX file is a message of protocol buffers. In such a message fields may come in any order, so
what the file says of itself is appended to it, as two properties (`metadata_props`):

    halosign_config   the checkpoint's config.json: spacing, intensities, pooling, crops, release
    halosign_sha256   of all bytes before this property

Both are read without any library of ONNX.
"""

import hashlib
from collections.abc import Iterator

from storage.errors import CorruptionError
from storage.records import CheckpointConfig, encode, parse_record

ONNX_SUFFIX = ".onnx"
_CONFIG = b"halosign_config"
_SHA256 = b"halosign_sha256"
_PROPERTY = 14
"""Number of the field `metadata_props` of a model."""
_KEY = 1
_VALUE = 2
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5
"""Wire types: how a field's value is stored."""
_LONGEST_VARINT = 10


def seal_onnx(model: bytes, config: CheckpointConfig) -> bytes:
    """Append a network's configuration to its ONNX file, and a checksum to both.

    Args:
        model: The ONNX file.
        config: Of the checkpoint that it was made from.
    """
    content = model + _property(_CONFIG, encode(config))
    return content + _property(_SHA256, hashlib.sha256(content).hexdigest().encode())


def read_onnx_config(data: bytes, place: str) -> CheckpointConfig:
    """Read the configuration from an ONNX file that `seal_onnx` made.

    Args:
        data: The file.
        place: Where it was read, for the error.

    Raises:
        CorruptionError: It is another file, or not as it was written.
    """
    try:
        properties = {
            _text(entry, _KEY): (start, _text(entry, _VALUE))
            for number, start, entry in _fields(data)
            if number == _PROPERTY and isinstance(entry, bytes)
        }
        start, sha256 = properties[_SHA256]
        _, config = properties[_CONFIG]
    except (ValueError, KeyError, IndexError) as error:
        raise CorruptionError(
            f"{place} is not an ONNX file of a published network: {_SHA256.decode()} is not in it. "
            f"{CheckpointConfig.remedy}",
            key=place,
        ) from error
    if hashlib.sha256(data[:start]).hexdigest().encode() != sha256:
        raise CorruptionError(
            f"{place}: the content is not what was written. {CheckpointConfig.remedy}", key=place
        )
    return parse_record(config, CheckpointConfig, place)


def _property(key: bytes, value: bytes) -> bytes:
    """Encode one entry of `metadata_props`."""
    return _field(_PROPERTY, _field(_KEY, key) + _field(_VALUE, value))


def _field(number: int, value: bytes) -> bytes:
    return _encode_varint(number << 3 | _LENGTH) + _encode_varint(len(value)) + value


def _encode_varint(value: int) -> bytes:
    """Encode a number in groups of seven bits, the lowest first; all but the last have bit 7."""
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])


def _text(message: bytes, wanted: int) -> bytes:
    """Return a field of bytes of a message; empty where it has none."""
    found = (value for number, _, value in _fields(message) if number == wanted)
    value = next(found, b"")
    return value if isinstance(value, bytes) else b""


def _fields(message: bytes) -> Iterator[tuple[int, int, bytes | None]]:
    """Yield number, place and bytes of each field of a message; None for numbers, which we skip.

    Raises ValueError or IndexError where the bytes are no message.
    """
    place = 0
    while place < len(message):
        start = place
        tag, place = _read_varint(message, place)
        kind = tag & 7
        value = None
        if kind == _VARINT:
            _, place = _read_varint(message, place)
        elif kind == _LENGTH:
            length, place = _read_varint(message, place)
            value = message[place : place + length]
            place += length
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            place += 8 if kind == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"wire type {kind}")
        if place > len(message):
            raise ValueError("a field is longer than the message")
        yield tag >> 3, start, value


def _read_varint(message: bytes, place: int) -> tuple[int, int]:
    """Return a number and the place after it."""
    value = 0
    for group in range(_LONGEST_VARINT):
        byte = message[place + group]
        value |= (byte & 0x7F) << (7 * group)
        if byte < 0x80:
            return value, place + group + 1
    raise ValueError("a number has no end")

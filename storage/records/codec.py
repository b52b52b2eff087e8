"""JSON to a record and back: checked where it is read, sealed where it is written."""

import hashlib
import json
import re
from typing import Any, Protocol, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from storage.errors import CorruptionError

JsonObject = dict[str, Any]
"""A JSON object whose names are not fixed by this program."""

STRICT = ConfigDict(extra="forbid", strict=True)
UNLESS_NONE = Field(exclude_if=lambda value: value is None)
"""Marks a field that is left out of the JSON where it is None."""
UNLESS_EMPTY = Field(exclude_if=lambda value: not value)
"""The same for an empty text and 0."""
_SEAL = re.compile(rb',\s*"([^"]{6})":\s*"([^"]{64})"\s*\}\s*\Z')
"""How the bytes of a record end: a name and a SHA-256. Neither is spelled out, so that a damaged
end is not taken for a record of an earlier version, none of which ends like this."""
RESTORE = "Restore it from a backup."
FIRST_EDITION = "first edition"
"""Names mattes made before forms had names, up to algorithm 7: they are neither form."""


class Readable(Protocol):
    """What `read_record` needs of a store."""

    url: str

    def get(self, key: str) -> bytes:
        """Read one key."""
        ...


Kind = TypeVar("Kind")


def read_record(store: Readable, key: str, kind: type[Kind]) -> Kind:
    """Read one key as a record.

    Args:
        store: Where to read.
        key: What to read.
        kind: One of the classes of this module.

    Raises:
        NotFoundError: There is no such key.
        CorruptionError: The key holds something else.
    """
    return parse_record(store.get(key), kind, key, f"{store.url}/{key}")


def parse_record(data: bytes, kind: type[Kind], key: str, place: str = "") -> Kind:
    """Check the bytes of a record.

    Args:
        data: JSON.
        kind: One of the classes of this module.
        key: Where it was read, for the error.
        place: The same with the store's address, for the message; `key` where it is left out.

    Raises:
        CorruptionError: It is not such a record.
    """
    try:
        record: Kind = _adapter(kind).validate_json(_unseal(data))
    except ValueError as error:
        noun: str = getattr(kind, "noun", kind.__name__)
        remedy: str = getattr(kind, "remedy", RESTORE)
        raise CorruptionError(
            f"{place or key} is not {noun}: {_reason(error)}. {remedy}", key=key
        ) from error
    return record


def is_sealed(data: bytes) -> bool:
    """Return whether the bytes of a record end in their SHA-256, be it the right one or not."""
    return _SEAL.search(data) is not None


def _seal(data: bytes) -> bytes:
    """Add the SHA-256 of a JSON object to it, as its last field."""
    content = data.removesuffix(b"}").rstrip()
    sha256 = hashlib.sha256(content).hexdigest().encode()
    form = b'%s,\n "sha256": "%s"\n}' if b"\n" in content else b'%s,"sha256":"%s"}'
    return form % (content, sha256)


def _unseal(data: bytes) -> bytes:
    """Return a JSON object without its SHA-256; raises ValueError where that is another one."""
    match = _SEAL.search(data)
    if match is None:
        return data
    whole = data[: match.start()] + b"}"
    if _seal(whole) != data:
        raise ValueError("the SHA-256 that it ends in is not the one of its content")
    return whole


def to_json(record: object) -> Any:
    """Return a record as JSON, under the names and in the order in which it is stored."""
    return _adapter(type(record)).dump_python(record, mode="json", by_alias=True)


def encode(record: object, *, indent: int | None = None) -> bytes:
    """Return a record's bytes; equal records have equal bytes.

    Args:
        record: An instance of one of the classes of this module.
        indent: Spaces of each level, for people to read; None for a single line.
    """
    value = to_json(record)
    if indent is None:
        return _seal(canonical_json(value))
    return _seal(json.dumps(value, indent=indent, sort_keys=True).encode())


def canonical_json(value: object) -> bytes:
    """Encode JSON so that equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


_adapters: dict[type, TypeAdapter[Any]] = {}


def _adapter(kind: type) -> TypeAdapter[Any]:
    """Return what checks and encodes a class; made once, for that takes milliseconds."""
    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    return _adapters[kind]


def _reason(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]

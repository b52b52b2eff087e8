"""The marker of a store, and lists of its files."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import AfterValidator, ConfigDict, Field

from storage.records.codec import STRICT


@dataclass(frozen=True, slots=True)
class StoreMarker:
    """`store.json`: marks a folder or bucket as a store."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="ignore", strict=True)
    noun: ClassVar[str] = "the marker of a store"
    remedy: ClassVar[str] = 'Restore it, or write {"layout":1} into it.'

    layout: int
    made_by: str = "halosign"


def _check_key(key: str) -> str:
    """Refuse a key that leads out of the store: a record may have been written by anybody."""
    if not key or "\\" in key or "\0" in key or {"", ".", ".."} & {*key.split("/")}:
        raise ValueError(f"{key!r} is no relative path")
    return key


FileKey = Annotated[str, AfterValidator(_check_key)]
"""A relative path with forward slashes, without `.` and `..`."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """Size and SHA-256 of a stored file."""

    sha256: str
    size_bytes: Annotated[int, Field(alias="bytes", ge=0)]


@dataclass(frozen=True, slots=True)
class FileList:
    """`files.json`: what a folder of files that have no other checksum holds."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    noun: ClassVar[str] = "a list of files"
    remedy: ClassVar[str] = "Remove it and run the same command again."

    files: dict[FileKey, FileEntry]
    """By path below the folder."""

"""Bytes by key, in a folder or a bucket.

Three promises are what everything else relies on: `put` is atomic (a key holds all of its bytes or
does not exist), `create` writes a key only once, and what either has written outlasts a loss of
power (`storage.folder` does so for a folder).
"""

import errno
import itertools
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import obstore
from obstore.exceptions import AlreadyExistsError as KeyExistsError
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import LocalStore, MemoryStore

from matting.errors import InputError
from storage.addresses import check_writable, local_folder, open_objects
from storage.errors import (
    AlreadyExistsError,
    NotFoundError,
    ReadError,
    StoreError,
    UnavailableError,
    WriteError,
)
from storage.folder import Disk, Folder
from storage.output import write_output
from storage.records import StoreMarker, encode, read_record

if TYPE_CHECKING:
    from obstore.store import RetryConfig

STORE_MARKER = "store.json"
CLOCK = "clock"
"""An empty file that garbage collection writes to learn the store's time."""
LAYOUT_VERSION = 1
"""Raised whenever a store written before can no longer be read as it is."""

RETRY_S = 120.0
"""For how long requests to a bucket are repeated, with growing waits, before `UnavailableError` is
raised."""

RETRIES: "RetryConfig" = {
    "max_retries": 20,
    "backoff": {
        "init_backoff": timedelta(milliseconds=200),
        "max_backoff": timedelta(seconds=10),
        "base": 2,
    },
    "retry_timeout": timedelta(seconds=RETRY_S),
}

_NO_PERMISSION = {errno.EPERM, errno.EACCES}
_NOT_WRITABLE = _NO_PERMISSION | {errno.ENOSPC, errno.EROFS, errno.EDQUOT}
_ERROR_NUMBER = re.compile(r"os error (\d+)\)")
"""The local store reports the system's error only in its message."""

_FORBIDDEN = re.compile(r"status code: 40[13]\b|\(code: AccessDenied\)")
"""What the library says of a list or a removal that is forbidden, for which it has no error of its
own. A bucket answers a removal with 200 and one code for each key."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """What a listing tells of one key."""

    key: str
    size_bytes: int
    modified: datetime
    """When it was written, by the store's clock."""


class Store:
    """Bytes by key; keys are relative paths with forward slashes.

    Every method raises UnavailableError where the store does not answer, ReadError where it may not
    be read, and WriteError where it may not be written.

    Args:
        url: Of the store.
        objects: What reads, and writes where there is no folder.
        folder: What writes, where the store is a local folder.
    """

    def __init__(self, url: str, objects: Any, folder: Folder | None = None) -> None:
        self.url = url
        self.objects = objects
        self._folder = folder

    @property
    def link(self) -> str:
        """The store's address as a URL."""
        return self.url if "://" in self.url else Path(self.url).as_uri()

    def get(self, key: str) -> bytes:
        """Read one key; raises NotFoundError."""
        with reading(self.url, key):
            return bytes(obstore.get(self.objects, key).bytes())

    def put(self, key: str, data: bytes) -> None:
        """Write one key atomically and durably, replacing what is there."""
        self.put_all({key: data})

    def put_all(self, files: Mapping[str, bytes]) -> None:
        """Write several keys, each atomically; all are durable when it returns."""
        if self._folder:
            with _writing(self.url, min(files, default="")):
                self._folder.write(files)
            return
        for key, data in files.items():
            with _writing(self.url, key):
                obstore.put(self.objects, key, data)

    def create(self, key: str, data: bytes) -> None:
        """Write one key atomically and durably that must not exist.

        Raises AlreadyExistsError where it holds other bytes.
        """
        until = time.monotonic() + RETRY_S
        for attempt in itertools.count():
            try:
                self._create_once(key, data)
                return
            except AlreadyExistsError as error:
                try:
                    stored = self.get(key)
                except NotFoundError:
                    # A bucket answers 409 while another writer is at it, who may yet give up.
                    problem: StoreError = UnavailableError(
                        f"{self.url}/{key} is being written by another process. Try again.", key=key
                    )
                else:
                    # An earlier attempt may have been written although its answer was lost: then
                    # these are our own bytes.
                    if stored != data:
                        raise error
                    return
            except UnavailableError as error:
                if self._folder:
                    raise
                # The library retries all requests except a conditional write whose connection
                # broke.
                problem = error
            if time.monotonic() > until:
                raise problem
            time.sleep(min(0.2 * 2**attempt, 10.0))

    def _create_once(self, key: str, data: bytes) -> None:
        with _writing(self.url, key):
            if self._folder:
                self._folder.create(key, data)
            else:
                obstore.put(self.objects, key, data, mode="create")

    def exists(self, key: str) -> bool:
        """Return whether a key exists."""
        return self.size(key) is not None

    def size(self, key: str) -> int | None:
        """Return the size of a key in bytes, or None where it does not exist."""
        try:
            with reading(self.url, key):
                return int(obstore.head(self.objects, key)["size"])
        except NotFoundError:
            return None

    def etag(self, key: str) -> str | None:
        """Return a tag that changes whenever a key is written, or None where it does not exist."""
        try:
            with reading(self.url, key):
                return _etag(obstore.head(self.objects, key))
        except NotFoundError:
            return None

    def list_prefix(self, prefix: str) -> Iterator[str]:
        """List every key below a prefix, sorted within the batches that the store returns."""
        with reading(self.url, prefix):
            for batch in obstore.list(self.objects, prefix or None):
                yield from sorted(str(entry["path"]) for entry in batch)

    def list_dir(self, prefix: str) -> tuple[list[str], list[str]]:
        """List the names directly below a prefix: folders, then files, each sorted."""
        with reading(self.url, prefix):
            found = obstore.list_with_delimiter(self.objects, prefix)
        folders = sorted(Path(path).name for path in found["common_prefixes"])
        return folders, sorted(Path(str(entry["path"])).name for entry in found["objects"])

    def etags(self, prefix: str) -> dict[str, str]:
        """Return the tag of each file directly below a prefix, by name; see `etag`."""
        with reading(self.url, prefix):
            found = obstore.list_with_delimiter(self.objects, prefix)["objects"]
        return {Path(str(entry["path"])).name: _etag(entry) for entry in found}

    def entries(self, prefix: str) -> Iterator[StoredFile]:
        """List every key below a prefix with its size and time, in no particular order."""
        with reading(self.url, prefix):
            for batch in obstore.list(self.objects, prefix or None):
                yield from map(_stored_file, batch)

    def files(self, prefix: str) -> list[StoredFile]:
        """List the files directly below a prefix with their size and time."""
        with reading(self.url, prefix):
            found = obstore.list_with_delimiter(self.objects, prefix)["objects"]
        return [_stored_file(entry) for entry in found]

    def clock(self) -> datetime:
        """Return the store's own time, by writing a file and asking when it was written.

        It is this machine's time where nothing can be written, for example on a full disk.
        """
        try:
            self.put(CLOCK, b"")
        except WriteError:
            return datetime.now(UTC)
        with reading(self.url, CLOCK):
            return _stored_file(obstore.head(self.objects, CLOCK)).modified

    def delete(self, keys: list[str]) -> None:
        """Remove keys, durably; one that does not exist is ignored."""
        if self._folder:
            with _writing(self.url, min(keys, default="")):
                self._folder.remove(keys)
            return
        for key in keys:
            with _writing(self.url, key), suppress(FileNotFoundError):
                obstore.delete(self.objects, key)


def open_folder(url: str) -> Store:
    """Open any folder or URL for reading; one that does not exist has no keys."""
    local = local_folder(url)
    if local is None:
        return _open_bucket(url)
    return Store(str(local), LocalStore(local) if local.is_dir() else MemoryStore())


def copy_folder(url: str, to: Path) -> int:
    """Copy everything below a folder or URL into a local folder, replacing what is there.

    Returns the number of files.
    """
    source = open_folder(url)
    keys = list(source.list_prefix(""))
    for key in keys:
        write_output(to / key, source.get(key))
    return len(keys)


def open_store(url: str, *, create: bool = False) -> Store:
    """Open a store.

    Args:
        url: A folder, or a URL such as ``s3://bucket/prefix`` (credentials from the environment).
            On a web server (``https://...``) it can only be read.
        create: Create the store where there is none.

    Raises:
        InputError: There is no store (and none is to be created), it was written with another
            layout, or the URL is none of a kind of storage that is known.
        WriteError: The store cannot be created.
        UnavailableError: The store does not answer.
    """
    local = local_folder(url)
    if local is not None and not create and not local.is_dir():
        raise _no_store(url)
    if create:
        check_writable(url)
    with _writing(url, ""):
        store = _open_bucket(url) if local is None else _open_local(local)
    _check_marker(store, create)
    return store


def store_exists(url: str) -> bool:
    """Return whether there is a store at a URL or folder."""
    try:
        open_store(url)
    except InputError:
        return False
    return True


def _open_bucket(url: str) -> Store:
    return Store(url.rstrip("/"), open_objects(url, RETRIES))


def _open_local(path: Path) -> Store:
    missing = [folder for folder in (path, *path.parents) if not folder.is_dir()]
    objects = LocalStore(path, mkdir=True)
    Disk().sync_folders([folder.parent for folder in missing])
    return Store(str(path), objects, Folder(path))


def _stored_file(entry: Any) -> StoredFile:
    return StoredFile(str(entry["path"]), int(entry["size"]), entry["last_modified"])


def _etag(entry: Any) -> str:
    return f"{entry['e_tag']} {entry['last_modified']} {entry['size']}"


def _check_marker(store: Store, create: bool) -> None:
    try:
        layout = read_record(store, STORE_MARKER, StoreMarker).layout
    except NotFoundError:
        if not create:
            raise _no_store(store.url) from None
        store.put(STORE_MARKER, encode(StoreMarker(LAYOUT_VERSION)))
        return
    if layout != LAYOUT_VERSION:
        raise InputError(
            f"the store {store.url} has another layout",
            got=layout,
            expected=LAYOUT_VERSION,
            remedy="Use the Halosign version that wrote it, or curate into a new store.",
        )


def _no_store(url: str) -> InputError:
    return InputError(
        "there is no store here",
        got=url,
        expected=f"a folder or bucket with a {STORE_MARKER}",
        remedy="Check the --store argument; `halosign curate` creates a store.",
    )


@contextmanager
def reading(url: str, key: str) -> Iterator[None]:
    """Replace the errors of the library and the system by those of `storage.errors`."""
    path = f"{url}/{key}".rstrip("/")
    try:
        yield
    except FileNotFoundError as error:
        raise NotFoundError(f"{path} does not exist.", key=key) from error
    except (BaseError, OSError) as error:
        if _number(error) in _NO_PERMISSION:
            raise ReadError(
                f"{path} cannot be read: {_reason(error)}. Give read permission, on a bucket also "
                "permission to list: without it, a key that does not exist is forbidden too.",
                key=key,
            ) from error
        raise _unavailable(path, key, error) from error


@contextmanager
def _writing(url: str, key: str) -> Iterator[None]:
    """Do the same for what writes."""
    path = f"{url}/{key}".rstrip("/")
    try:
        yield
    except (KeyExistsError, FileExistsError) as error:
        raise AlreadyExistsError(
            f"{path} exists already and is written only once.", key=key
        ) from error
    except (BaseError, OSError) as error:
        if _number(error) in _NOT_WRITABLE:
            raise WriteError(
                f"{path} cannot be written: {_reason(error)}. Make room or give write permission, "
                "then run the same command again; nothing that is stored is lost.",
                key=key,
            ) from error
        raise _unavailable(path, key, error) from error


def _unavailable(path: str, key: str, error: Exception) -> UnavailableError:
    return UnavailableError(f"{path} cannot be reached: {_reason(error)}. Try again.", key=key)


def _number(error: Exception) -> int | None:
    """Return the system's number of an error, also of one that a bucket forbids."""
    if isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return errno.EACCES
    if _FORBIDDEN.search(str(error)):
        return errno.EACCES
    found = _ERROR_NUMBER.search(f"{_reason(error)})")
    return getattr(error, "errno", None) or (int(found[1]) if found else None)


def _reason(error: Exception) -> str:
    strerror: str | None = getattr(error, "strerror", None)
    return strerror or str(error).split("\n", 1)[0]

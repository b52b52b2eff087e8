"""One door to a store, be it a folder or a bucket: whole keys in, whole keys out.

A put is atomic (a key holds all of its bytes or none), and `create` refuses a key that exists. Everything else the
project promises about its store is built on these two.
"""

import itertools
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import obstore
from obstore.exceptions import AlreadyExistsError as KeyExistsError
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import LocalStore, MemoryStore, from_url

from matting.errors import InputError
from storage.errors import (
    AlreadyExistsError,
    CorruptionError,
    NotFoundError,
    UnavailableError,
    WriteError,
)

if TYPE_CHECKING:
    from obstore.store import RetryConfig

STORE_MARKER = "store.json"
LAYOUT_VERSION = 1
"""Raised whenever a store written before can no longer be read as it is."""

RETRY_S = 120.0
"""How long a bucket's 5xx answers, resets and time-outs are borne, with growing waits, before it is `UnavailableError`."""

RETRIES: "RetryConfig" = {
    "max_retries": 20,
    "backoff": {
        "init_backoff": timedelta(milliseconds=200),
        "max_backoff": timedelta(seconds=10),
        "base": 2,
    },
    "retry_timeout": timedelta(seconds=RETRY_S),
}

_UNWRITABLE = re.compile(r"os error (1|13|28|30|122)\)")
"""EPERM, EACCES, ENOSPC, EROFS and EDQUOT, which the local store reports in its text only."""


class Store:
    """Bytes by key; keys are relative paths with forward slashes."""

    def __init__(self, url: str, objects: Any) -> None:
        self.url = url
        self.objects = objects

    @property
    def link(self) -> str:
        """The store's place as a URL."""
        return self.url if "://" in self.url else Path(self.url).as_uri()

    def get(self, key: str) -> bytes:
        """Read one key; raises NotFoundError."""
        with _translated(self.url, key):
            return bytes(obstore.get(self.objects, key).bytes())

    def put(self, key: str, data: bytes) -> None:
        """Write one key, over whatever is there."""
        with _translated(self.url, key):
            obstore.put(self.objects, key, data)

    def create(self, key: str, data: bytes) -> None:
        """Write one key that must not exist; raises AlreadyExistsError where other bytes are there."""
        until = time.monotonic() + RETRY_S
        for attempt in itertools.count():
            try:
                with _translated(self.url, key):
                    obstore.put(self.objects, key, data, mode="create")
                return
            except AlreadyExistsError:
                # The answer to an earlier attempt may have been lost after the write: then these are our own bytes.
                if self.get(key) != data:
                    raise
                return
            except UnavailableError:
                # The library tries everything again by itself but a conditional write whose connection broke.
                if time.monotonic() > until:
                    raise
                time.sleep(min(0.2 * 2**attempt, 10.0))

    def size(self, key: str) -> int | None:
        """Give the size of a key in bytes, or None where there is none."""
        try:
            with _translated(self.url, key):
                return int(obstore.head(self.objects, key)["size"])
        except NotFoundError:
            return None

    def keys(self, prefix: str) -> Iterator[str]:
        """List every key below a prefix, sorted within the batches that the store hands out."""
        with _translated(self.url, prefix):
            for batch in obstore.list(self.objects, prefix or None):
                yield from sorted(str(entry["path"]) for entry in batch)

    def children(self, prefix: str) -> tuple[list[str], list[str]]:
        """List what lies directly below a prefix: sorted names of folders, sorted names of files."""
        with _translated(self.url, prefix):
            found = obstore.list_with_delimiter(self.objects, prefix)
        folders = sorted(Path(path).name for path in found["common_prefixes"])
        return folders, sorted(Path(str(entry["path"])).name for entry in found["objects"])

    def stamps(self, prefix: str) -> dict[str, str]:
        """Give each file directly below a prefix, by name, with what is another one whenever it was written."""
        with _translated(self.url, prefix):
            found = obstore.list_with_delimiter(self.objects, prefix)["objects"]
        return {
            Path(str(one["path"])).name: f"{one['e_tag']} {one['last_modified']} {one['size']}"
            for one in found
        }

    def delete(self, keys: list[str]) -> None:
        """Remove keys; one that is not there is no error."""
        for key in keys:
            try:
                with _translated(self.url, key):
                    obstore.delete(self.objects, key)
            except NotFoundError:
                continue

    def get_json(self, key: str) -> Any:
        """Read one key as JSON; raises NotFoundError or CorruptionError."""
        try:
            return json.loads(self.get(key))
        except ValueError as error:
            raise CorruptionError(
                f"{self.url}/{key} is no JSON: {error}. Restore it from a backup or recompute it."
            ) from error


def open_place(url: str) -> Store:
    """Open a folder or URL that need not be a store, to read a few keys of; one that is not there has none."""
    local = _local_folder(url)
    with _translated(url, ""):
        objects = (
            from_url(url)
            if local is None
            else LocalStore(local)
            if local.is_dir()
            else MemoryStore()
        )
    return Store(str(local) if local is not None else url.rstrip("/"), objects)


def copy_folder(url: str, to: Path) -> int:
    """Copy all that lies below a folder or URL into a folder, over what is there; gives the number of files."""
    shelf = open_place(url)
    keys = list(shelf.keys(""))
    for key in keys:
        place = to / key
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(shelf.get(key))
    return len(keys)


def open_store(url: str, *, create: bool = False) -> Store:
    """Open a store by URL or folder.

    Args:
        url: A folder, or a URL such as ``s3://bucket/prefix`` (credentials from the environment).
        create: Make the store where there is none.

    Raises:
        InputError: There is no store there (and none is to be made), or its layout is newer than this program.
        WriteError: The place cannot be written.
        UnavailableError: The place does not answer.
    """
    local = _local_folder(url)
    if local is not None and not create and not local.is_dir():
        raise _no_store(url)
    with _translated(url, ""):
        objects = (
            from_url(url, retry_config=RETRIES) if local is None else LocalStore(local, mkdir=True)
        )
    store = Store(str(local) if local is not None else url.rstrip("/"), objects)
    _check_marker(store, create)
    return store


def store_exists(url: str) -> bool:
    """Tell whether there is a store at a URL or folder."""
    try:
        open_store(url)
    except InputError:
        return False
    return True


def canonical_json(value: object) -> bytes:
    """Write JSON that is the same, byte for byte, whenever the value is."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _check_marker(store: Store, create: bool) -> None:
    try:
        layout = store.get_json(STORE_MARKER).get("layout")
    except NotFoundError:
        if not create:
            raise _no_store(store.url) from None
        store.put(STORE_MARKER, canonical_json({"layout": LAYOUT_VERSION, "made_by": "halosign"}))
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
        remedy="Check the --store argument; `halosign curate` makes a store.",
    )


def _local_folder(url: str) -> Path | None:
    """Give the folder that a URL means, or None where it is no local one."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return Path(url).expanduser().resolve()
    return Path(rest) if scheme == "file" else None


@contextmanager
def _translated(url: str, key: str) -> Iterator[None]:
    """Turn the library's exceptions into ours, which say what the handler can do."""
    place = f"{url}/{key}".rstrip("/")
    try:
        yield
    except FileNotFoundError as error:
        raise NotFoundError(f"{place} does not exist.") from error
    except KeyExistsError as error:
        raise AlreadyExistsError(f"{place} exists already and is written only once.") from error
    except (BaseError, OSError) as error:
        reason = str(error).split("\n", 1)[0]
        if isinstance(error, PermissionDeniedError | UnauthenticatedError) or _UNWRITABLE.search(
            f"{reason})"
        ):
            raise WriteError(
                f"{place} cannot be written: {reason}. Make room or give write permission, then run the same command "
                "again; what is stored stays."
            ) from error
        raise UnavailableError(f"{place} cannot be reached: {reason}. Try again.") from error

"""Files that have no checksum of their own, such as pictures, listed with their SHA-256.

The list, `files.json`, is in the folder of the files and is written after them. Where an
interruption came in between, it names files as changed until the same command has run again.
"""

import hashlib
from collections.abc import Mapping

from storage.cases.case import verify_files
from storage.errors import CorruptionError, NotFoundError
from storage.records import FileEntry, FileList, encode, read_record
from storage.store import Store

FILE_LIST = "files.json"


def write_listed_files(store: Store, prefix: str, files: Mapping[str, bytes]) -> None:
    """Store files by their path below a prefix, and list them with those that are listed already.

    Args:
        store: Where to.
        prefix: Of the folder.
        files: By path below it.
    """
    try:
        known = dict(read_record(store, _list_key(prefix), FileList).files)
    except (NotFoundError, CorruptionError):
        known = {}
    known |= {
        name: FileEntry(hashlib.sha256(data).hexdigest(), len(data)) for name, data in files.items()
    }
    store.put_all({f"{prefix}/{name}": data for name, data in sorted(files.items())})
    store.put(_list_key(prefix), encode(FileList(known)))


def verify_listed_files(store: Store, prefix: str) -> list[str]:
    """Compare files with their list; returns a complaint for each that is missing or changed.

    Raises NotFoundError where there is no list, or CorruptionError.
    """
    listed = read_record(store, _list_key(prefix), FileList).files
    return verify_files(store, {f"{prefix}/{name}": entry for name, entry in listed.items()})


def forget_listed_file(store: Store, prefix: str, name: str) -> None:
    """Take a file that is not there any more off its list; raises NotFoundError or CorruptionError.

    Args:
        store: Where it was.
        prefix: Of the folder.
        name: Path below it.
    """
    listed = dict(read_record(store, _list_key(prefix), FileList).files)
    listed.pop(name, None)
    store.put(_list_key(prefix), encode(FileList(listed)))


def _list_key(prefix: str) -> str:
    return f"{prefix}/{FILE_LIST}"

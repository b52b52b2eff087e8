"""Pseudonyms: keyed hashes in place of a table's ids.

The same key gives the same pseudonyms on every run and machine; without it nobody can compute them.
The map from ids to pseudonyms is kept beside the key and never in a store.
"""

import csv
import hmac
import io
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from matting.errors import InputError

KEY_BYTES = 32
_DIGITS = 20
"""Of a pseudonym: 80 bits, so that no two of a million patients get the same one."""
_KEY = re.compile(rf"[0-9a-f]{{{2 * KEY_BYTES}}}")
_COLUMNS = ("nodule", "patient", "pseudonym of nodule", "pseudonym of patient")


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """The pseudonyms of one key."""

    key: bytes

    def patient(self, patient: str) -> str:
        """Return the pseudonym of a patient."""
        return f"P-{self._digits('patient', patient)}"

    def nodule(self, patient: str, nodule: str) -> str:
        """Return the pseudonym of a nodule, which begins with its patient's."""
        return f"{self.patient(patient)}-n{self._digits('nodule', nodule)}"

    def _digits(self, kind: str, name: str) -> str:
        return hmac.new(self.key, f"{kind}:{name}".encode(), "sha256").hexdigest()[:_DIGITS]


def create_key(path: Path, store_url: str) -> bool:
    """Write a new key, readable by this user only; return False where the file exists.

    Raises:
        InputError: The file would be in the store, or cannot be written.
    """
    if "://" not in store_url and path.resolve().is_relative_to(Path(store_url).resolve()):
        raise _bad(path, "a file within the store", "Keep it elsewhere: whoever has it knows ids.")
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    except OSError as error:
        raise _bad(path, error, "Check the folder and its permissions.") from error
    with open(handle, "w") as file:
        file.write(secrets.token_hex(KEY_BYTES) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return True


def open_pseudonyms(path: Path) -> Pseudonyms:
    """Read a key; raises InputError where it is none, or others may read it."""
    try:
        status = path.stat()
        if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise _bad(path, "a file that others may read", f"Run: chmod 600 {path}")
        text = path.read_text().strip() if status.st_size <= 4 * KEY_BYTES else ""
    except (OSError, UnicodeDecodeError) as error:
        raise _bad(path, error, "Give the file that --pseudonymize made.") from error
    if not _KEY.fullmatch(text):
        raise _bad(path, "something else", "Give the file that --pseudonymize made.")
    return Pseudonyms(bytes.fromhex(text))


def map_file(key: Path) -> Path:
    """Return the file with the map of a key."""
    return key.with_name(f"{key.name}.map.csv")


def add_to_map(key: Path, pseudonyms: Pseudonyms, ids: Iterable[tuple[str, str]]) -> None:
    """Add ids to the map, which this user only may read; those of other tables stay in it.

    Args:
        key: The file of the key.
        pseudonyms: Of that key.
        ids: Nodule and patient.

    Raises:
        InputError: The map cannot be read or written.
    """
    path = map_file(key)
    try:
        known = path.read_bytes().decode() if path.exists() else ""
        rows = {tuple(row) for row in csv.reader(io.StringIO(known))} - {_COLUMNS}
        rows |= {
            (nodule, patient, pseudonyms.nodule(patient, nodule), pseudonyms.patient(patient))
            for nodule, patient in ids
        }
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([_COLUMNS, *sorted(rows)])
        if text.getvalue() != known:
            _replace(path, text.getvalue())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _bad(path, error, "Check the folder and its permissions.") from error


def _replace(path: Path, text: str) -> None:
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with open(handle, "w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def _bad(path: Path, got: object, remedy: str) -> InputError:
    return InputError(
        f"{path} cannot be used for pseudonyms",
        got=got,
        expected="a file of mode 600 outside the store",
        remedy=remedy,
    )

"""Releases whose claim or manifest is lost, damaged, or not the one that was published."""

import hashlib
from dataclasses import dataclass

from storage.errors import CorruptionError, NotFoundError
from storage.layout import RELEASES, claim_key, manifest_key
from storage.records import Claim, Manifest, parse_record, read_record
from storage.releases.release import find_withdrawal, version_order
from storage.store import Store


@dataclass(frozen=True, slots=True)
class ReleaseFault:
    """What is wrong with the records of a release, and what repairs it."""

    version: str
    key: str
    """Of the record that is lost, damaged or foreign."""
    wrong: str
    remedy: str
    is_lost: bool
    """True where the record is not there; it may also be a publication that was interrupted."""
    is_foreign: bool = False
    """True where the manifest is a whole one, of another publication."""

    def __str__(self) -> str:
        """Write it as one line."""
        return f"{self.version}: {self.wrong}. {self.remedy}"


_LOST_MANIFEST = (
    "Restore it from a backup. If its publication was interrupted, nothing is lost: withdraw the "
    "version with `halosign release withdraw`."
)
_RESTORE = "Restore both files from a backup."


def find_release_faults(store: Store) -> list[ReleaseFault]:
    """Check the claim and the manifest of every version, oldest first; no case is read."""
    versions = sorted(store.list_dir(RELEASES)[0], key=version_order)
    faults = (_find_fault(store, version) for version in versions)
    return [fault for fault in faults if fault]


def _find_fault(store: Store, version: str) -> ReleaseFault | None:
    manifest, claim = manifest_key(version), claim_key(version)
    try:
        claimed = read_record(store, claim, Claim).manifest_sha256
        data = store.get(manifest)
        parse_record(data, Manifest, manifest)
    except NotFoundError as error:
        if error.key == claim:
            if not store.files(f"{RELEASES}/{version}"):
                return None  # an empty folder is no release
            return ReleaseFault(version, claim, f"{claim} is missing", _RESTORE, is_lost=True)
        if find_withdrawal(store, version):
            return None
        wrong = f"{manifest} is missing beside its claim"
        return ReleaseFault(version, manifest, wrong, _LOST_MANIFEST, is_lost=True)
    except CorruptionError as error:
        wrong, _, remedy = str(error).rpartition(". ")
        return ReleaseFault(version, error.key, wrong, remedy, is_lost=False)
    sha256 = hashlib.sha256(data).hexdigest()
    if claimed == sha256:
        return None
    wrong = f"{manifest} is not the one that was published: got SHA-256 {sha256}, "
    wrong += f"expected {claimed} ({claim})"
    return ReleaseFault(version, manifest, wrong, _RESTORE, is_lost=False, is_foreign=True)

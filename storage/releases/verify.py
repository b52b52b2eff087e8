"""Verify a release: every file against its SHA-256, and what the files say against each other."""

import hashlib
from collections.abc import Callable

from storage.cases.case import verify_files
from storage.errors import CorruptionError, NotFoundError
from storage.layout import RELEASES, claim_key, manifest_key
from storage.records import Claim, Manifest, parse_record, read_record
from storage.releases.consistency import find_contradictions
from storage.releases.release import check_version
from storage.store import Store


def verify_release(
    store: Store, version: str, on_file: Callable[[int, int], None] = lambda _, __: None
) -> list[str]:
    """Read every file of a release.

    Args:
        store: Where it is.
        version: Of the release.
        on_file: Called with the number of files read, and of all.

    Returns:
        A complaint for each file that is missing or changed, and for each contradiction.

    Raises:
        InputError: The version is invalid.
    """
    check_version(version)
    prefix = f"{RELEASES}/{version}"
    try:
        claim = read_record(store, claim_key(version), Claim)
        data = store.get(manifest_key(version))
        if claim.manifest_sha256 != hashlib.sha256(data).hexdigest():
            return [
                f"{manifest_key(version)} or {claim_key(version)}: "
                "the content is not what was written"
            ]
        manifest = parse_record(data, Manifest, manifest_key(version))
    except (NotFoundError, CorruptionError) as error:
        return [str(error)]
    own = {f"{prefix}/{name}": entry for name, entry in manifest.own_files.items()}
    complaints = verify_files(store, {**own, **manifest.case_files}, on_file)
    damaged = {complaint.rpartition(": ")[0] for complaint in complaints}
    return complaints + find_contradictions(store, version, manifest, damaged)

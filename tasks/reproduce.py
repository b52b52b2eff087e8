"""Comparison of a release with the same nodules computed again by its recipe."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from storage.cases.case import ALGORITHM_VERSION, case_files, read_case
from storage.cases.outcomes import read_outcome
from storage.errors import StoreError
from storage.layout import case_prefix
from storage.releases.diff import case_changes
from storage.store import Store


@dataclass(frozen=True, slots=True)
class Reproduction:
    """The result of recomputing one released nodule."""

    nodule_id: str
    difference: str
    """How it differs from what was released; empty where every byte is equal."""


def find_unreproducible(store: Store, manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return the nodules that another version of the algorithm computed, with the reason, by id."""
    unreproducible = {}
    for nodule_id, member in manifest["nodules"].items():
        try:
            algorithm = read_case(store, nodule_id, member["digest"]).facts["algorithm"]
        except StoreError:
            continue  # A lost case is compared by the checksums in the manifest.
        if algorithm != ALGORITHM_VERSION:
            unreproducible[nodule_id] = (
                f"algorithm {algorithm} -> {ALGORITHM_VERSION}; use the Halosign that published it"
            )
    return unreproducible


def compare_with_release(
    store: Store, manifest: Mapping[str, Any], recomputed: Store
) -> Iterator[Reproduction]:
    """Compare every nodule of a release with the one recomputed into another store.

    Args:
        store: The store of the release.
        manifest: The manifest of the release.
        recomputed: The other store.

    Yields:
        One result per nodule, sorted by id.
    """
    unreproducible = find_unreproducible(store, manifest)
    for nodule_id in sorted(manifest["nodules"]):
        difference = unreproducible.get(nodule_id)
        if difference is None:
            difference = _difference(store, manifest, recomputed, nodule_id)
        yield Reproduction(nodule_id, difference)


def _difference(
    store: Store, manifest: Mapping[str, Any], recomputed: Store, nodule_id: str
) -> str:
    digest = manifest["nodules"][nodule_id]["digest"]
    outcome = read_outcome(recomputed, nodule_id)
    if outcome is None:
        return "not in the source"
    if outcome.state != "done":
        return f"{outcome.state} at {outcome.stage}: {outcome.reason}"
    if outcome.digest != digest:
        return "; ".join(
            case_changes(nodule_id, (store, digest), (recomputed, str(outcome.digest)))
        )
    prefix = f"{case_prefix(nodule_id, digest)}/"
    before = {
        key: facts["sha256"]
        for key, facts in manifest["case_files"].items()
        if key.startswith(prefix)
    }
    after = {
        key: facts["sha256"] for key, facts in case_files(recomputed, nodule_id, digest).items()
    }
    different = sorted(
        key for key in before.keys() | after.keys() if before.get(key) != after.get(key)
    )
    if not different:
        return ""
    files = different[0]
    if len(different) > 1:
        files += f" and {len(different) - 1} more"
    libraries = _changed_libraries(store, nodule_id, digest, outcome.versions)
    return f"same digest, different bytes in {files}{libraries}"


def _changed_libraries(
    store: Store, nodule_id: str, digest: str, current: Mapping[str, str]
) -> str:
    """Return the libraries whose version changed since the case was computed, in parentheses."""
    computed = read_outcome(store, nodule_id)
    if computed is None or computed.digest != digest:
        return ""
    changed = [
        f"{name} {computed.versions.get(name)} -> {version}"
        for name, version in sorted(current.items())
        if computed.versions.get(name) != version
    ]
    return f" ({', '.join(changed)})" if changed else ""

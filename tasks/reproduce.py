"""Comparison of a release with the same nodules computed again by its recipe."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from storage.cases.case import ALGORITHM_VERSION, read_case, read_case_files
from storage.cases.outcomes import find_outcome
from storage.errors import StoreError
from storage.layout import case_prefix
from storage.recipe import Recipe
from storage.records import TableFacts
from storage.releases.diff import case_changes
from storage.releases.release import Release
from storage.store import Store


@dataclass(frozen=True, slots=True)
class Reproduction:
    """The result of recomputing one released nodule."""

    nodule_id: str
    difference: str
    """How it differs from what was released; empty where every byte is equal."""


def find_unreproducible(release: Release) -> dict[str, str]:
    """Return the nodules that another version of the algorithm computed, with the reason, by id."""
    unreproducible = {}
    for nodule_id, member in release.members.items():
        try:
            algorithm = read_case(release.store, nodule_id, member.digest).facts.algorithm
        except StoreError:
            continue  # A lost case is compared by the checksums in the manifest.
        if algorithm != ALGORITHM_VERSION:
            unreproducible[nodule_id] = (
                f"algorithm {algorithm} -> {ALGORITHM_VERSION}; use the Halosign that published it"
            )
    return unreproducible


def keep_published_columns(recipe: Recipe, release: Release) -> Recipe:
    """Return a release's recipe, keeping the columns of a table that its cases hold.

    Earlier versions kept every column and had no setting for it.
    """
    kept: set[str] = set()
    for nodule_id, member in release.members.items():
        try:
            source = read_case(release.store, nodule_id, member.digest).facts.source
        except StoreError:
            continue  # A lost case is compared by the checksums in the manifest.
        kept |= set(source.columns) if isinstance(source, TableFacts) else set()
    settings = recipe.source.model_copy(update={"keep": tuple(sorted(kept))})
    return recipe.model_copy(update={"source": settings})


def compare_with_release(release: Release, recomputed: Store) -> Iterator[Reproduction]:
    """Compare every nodule of a release with the one recomputed into another store.

    Args:
        release: The release.
        recomputed: The other store.

    Yields:
        One result per nodule, sorted by id.
    """
    unreproducible = find_unreproducible(release)
    for nodule_id in sorted(release.members):
        difference = unreproducible.get(nodule_id)
        if difference is None:
            difference = _difference(release, recomputed, nodule_id)
        yield Reproduction(nodule_id, difference)


def _difference(release: Release, recomputed: Store, nodule_id: str) -> str:
    store = release.store
    digest = release.members[nodule_id].digest
    outcome = find_outcome(recomputed, nodule_id)
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
        key: entry.sha256
        for key, entry in release.manifest.case_files.items()
        if key.startswith(prefix)
    }
    files = read_case_files(recomputed, nodule_id, digest)
    after = {key: entry.sha256 for key, entry in files.items()}
    different = sorted(
        key for key in before.keys() | after.keys() if before.get(key) != after.get(key)
    )
    if not different:
        return ""
    names = different[0]
    if len(different) > 1:
        names += f" and {len(different) - 1} more"
    libraries = _changed_libraries(store, nodule_id, digest, outcome.versions)
    return f"same digest, different bytes in {names}{libraries}"


def _changed_libraries(
    store: Store, nodule_id: str, digest: str, current: Mapping[str, str]
) -> str:
    """Return the libraries whose version changed since the case was computed, in parentheses."""
    computed = find_outcome(store, nodule_id)
    if computed is None or computed.digest != digest:
        return ""
    changed = [
        f"{name} {computed.versions.get(name)} -> {version}"
        for name, version in sorted(current.items())
        if computed.versions.get(name) != version
    ]
    return f" ({', '.join(changed)})" if changed else ""

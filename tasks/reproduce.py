"""Whether a release's recipe still gives its bytes: what was computed anew, held against the manifest."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from storage.cases.case import ALGORITHM_VERSION, read_case, read_case_files
from storage.cases.outcomes import find_outcome
from storage.errors import StoreError
from storage.layout import case_prefix
from storage.releases.diff import case_changes
from storage.releases.release import Release
from storage.store import Store


@dataclass(frozen=True, slots=True)
class Reproduction:
    """What became of one released nodule when it was computed anew."""

    nodule_id: str
    difference: str
    """Why it is not what was released; empty where every byte is."""


def out_of_reach(release: Release) -> dict[str, str]:
    """Name the nodules that this program cannot reproduce, with the reason: another algorithm made them."""
    found = {}
    for nodule_id, member in release.members.items():
        try:
            algorithm = read_case(release.store, nodule_id, member.digest).facts.algorithm
        except StoreError:
            continue  # the manifest alone knows what it was; that is enough to compare with
        if algorithm != ALGORITHM_VERSION:
            found[nodule_id] = (
                f"algorithm {algorithm} -> {ALGORITHM_VERSION}; use the Halosign that published it"
            )
    return found


def compare_with_release(release: Release, anew: Store) -> Iterator[Reproduction]:
    """Hold every nodule of a release against the one that was computed into another store."""
    known = out_of_reach(release)
    for nodule_id in sorted(release.members):
        difference = known.get(nodule_id) or _difference(release, anew, nodule_id)
        yield Reproduction(nodule_id, difference)


def _difference(release: Release, anew: Store, nodule_id: str) -> str:
    store = release.store
    digest = release.members[nodule_id].digest
    outcome = find_outcome(anew, nodule_id)
    if outcome is None:
        return "the source does not hold it"
    if outcome.state != "done":
        return f"{outcome.state} at {outcome.stage}: {outcome.reason}"
    if outcome.digest != digest:
        return "; ".join(case_changes(nodule_id, (store, digest), (anew, str(outcome.digest))))
    prefix = f"{case_prefix(nodule_id, digest)}/"
    before = {
        key: entry.sha256
        for key, entry in release.manifest.case_files.items()
        if key.startswith(prefix)
    }
    files = read_case_files(anew, nodule_id, digest)
    after = {key: entry.sha256 for key, entry in files.items()}
    other = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
    if not other:
        return ""
    first = f"{other[0]} and {len(other) - 1} more" if len(other) > 1 else other[0]
    return f"same digest, other bytes in {first}{_libraries(store, nodule_id, digest, outcome.versions)}"


def _libraries(store: Store, nodule_id: str, digest: str, now: Mapping[str, str]) -> str:
    """Name the libraries that have another version than when the case was made, as far as the store knows."""
    made = find_outcome(store, nodule_id)
    if made is None or made.digest != digest:
        return ""
    changed = [f"{name} {made.versions.get(name)} -> {number}" for name, number in sorted(now.items())
               if made.versions.get(name) != number]  # fmt: skip
    return f" ({', '.join(changed)})" if changed else ""

"""What changed from one release to another: nodules that came, went or differ, and why they differ.

A case's digest hides its causes, so its recipe, algorithm and source are read from the attributes of both cases.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from storage.cases.case import read_case
from storage.errors import StoreError
from storage.releases.release import list_releases, version_order, withdrawal
from storage.store import Store

LISTED_AT_MOST = 200
"""So many nodules are named one by one in a text; `halosign release diff` lists them all."""

_JUDGED = {"method": "matte", "reviewer": "reviewer", "split": "split"}
"""What people and the recipe decide of a nodule, beside its case."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a release holds, published or not yet."""

    version: str
    nodules: Mapping[str, Mapping[str, Any]]
    """Members by nodule id, as in the manifest."""

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> "Contents":
        """Take them from a manifest."""
        return cls(manifest["version"], manifest["nodules"])


@dataclass(frozen=True, slots=True)
class ReleaseDiff:
    """The way from one release to another."""

    before: str
    after: str
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Reasons by nodule id."""
    unchanged: int = 0


def diff_releases(store: Store, before: Contents, after: Contents) -> ReleaseDiff:
    """Compare two releases nodule by nodule."""
    old, new = before.nodules, after.nodules
    both = sorted(old.keys() & new.keys())
    reasons = {
        nodule_id: tuple(_reasons(store, old[nodule_id], new[nodule_id])) for nodule_id in both
    }
    changed = {nodule_id: why for nodule_id, why in reasons.items() if why}
    added, removed = sorted(new.keys() - old.keys()), sorted(old.keys() - new.keys())
    return ReleaseDiff(
        before.version,
        after.version,
        tuple(added),
        tuple(removed),
        changed,
        len(both) - len(changed),
    )


def find_predecessor(store: Store, version: str) -> dict[str, Any] | None:
    """Give the manifest of the newest version below this one that is published and not withdrawn."""
    earlier = [
        m for m in list_releases(store) if version_order(m["version"]) < version_order(version)
    ]
    return next((m for m in reversed(earlier) if withdrawal(store, m["version"]) is None), None)


def describe(changes: ReleaseDiff) -> Iterator[str]:
    """Write changes as lines for people."""
    yield (
        f"{changes.before} -> {changes.after}: {len(changes.added)} added, {len(changes.removed)} removed, "
        f"{len(changes.changed)} changed, {changes.unchanged} unchanged"
    )
    yield from (f"+ {nodule_id}" for nodule_id in changes.added)
    yield from (f"- {nodule_id}" for nodule_id in changes.removed)
    yield from (f"~ {nodule_id}: {'; '.join(why)}" for nodule_id, why in changes.changed.items())


def changes_page(version: str, changes: ReleaseDiff | None) -> bytes:
    """Write a release's CHANGES.md; None means that no version came before it."""
    if changes is None:
        return f"# Changes in {version}\n\nThis is the first release.\n".encode()
    summary, *lines = describe(changes)
    listed = [f"- `{line[0]}` {line[2:]}" for line in lines[:LISTED_AT_MOST]]
    if len(lines) > LISTED_AT_MOST:
        rest = len(lines) - LISTED_AT_MOST
        listed.append(
            f"- and {rest} more: `halosign release diff {changes.before} {version} --store STORE`"
        )
    return "\n".join(
        [f"# Changes in {version}", "", f"{summary}.", *([""] if listed else []), *listed, ""]
    ).encode()


def case_changes(
    nodule_id: str, before: tuple[Store, str], after: tuple[Store, str]
) -> Iterator[str]:
    """Say why two cases of a nodule, each given by its store and digest, have different digests."""
    try:
        yield from _case_reasons(_facts(nodule_id, *before), _facts(nodule_id, *after))
    except StoreError as error:
        yield f"another case; why cannot be told: {error}"


def _reasons(store: Store, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Say why one nodule is not what it was; nothing where it is."""
    if old["digest"] != new["digest"]:
        yield from case_changes(old["nodule_id"], (store, old["digest"]), (store, new["digest"]))
    for name, word in _JUDGED.items():
        if old[name] != new[name]:
            yield f"{word} {old[name]} -> {new[name]}"


def _case_reasons(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    before, after = _leaves(old["recipe"]), _leaves(new["recipe"])
    names = sorted(
        name for name in before.keys() | after.keys() if before.get(name) != after.get(name)
    )
    yield from (f"recipe {name} {before.get(name)} -> {after.get(name)}" for name in names)
    same_algorithm = old["algorithm"] == new["algorithm"]
    if not same_algorithm:
        yield f"algorithm {old['algorithm']} -> {new['algorithm']}"
    facts = sorted(
        n
        for n in old["source"].keys() | new["source"].keys()
        if old["source"].get(n) != new["source"].get(n)
    )
    if facts:
        yield f"source ({', '.join(facts)})"
    elif same_algorithm and not names:
        # The digest covers source, recipe and algorithm: with two of them equal, it is the third
        yield "source (voxels, masks or contours)"


def _facts(nodule_id: str, store: Store, digest: str) -> dict[str, Any]:
    return {"recipe": {}, "source": {}, **read_case(store, nodule_id, digest).facts}


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten a recipe to values by dotted name."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= (
            _leaves(value, f"{prefix}{name}.")
            if isinstance(value, Mapping)
            else {f"{prefix}{name}": value}
        )
    return flat

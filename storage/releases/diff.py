"""Differences between two releases, nodule by nodule.

A case's digest does not tell why it changed, so recipe, algorithm and source are read from the
metadata of both cases.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from matting.targets import Target, target_of
from storage.cases.case import read_case
from storage.errors import StoreError
from storage.records import CaseFacts, JsonObject, Manifest, Member
from storage.releases.release import find_withdrawal, read_manifests, version_order
from storage.store import Store

MOST_LISTED = 200
"""How many nodules CHANGES.md names one by one; `halosign release diff` lists all of them."""

_CHOICES = {"method": "matte", "reviewer": "reviewer", "split": "split"}
"""What verdicts and the recipe's splits determine of a nodule, beside its case; with the word for
it."""


class HasMembers(Protocol):
    """A version and its nodules; a `Manifest` is one."""

    @property
    def version(self) -> str:
        """MAJOR.MINOR.PATCH."""
        ...

    @property
    def members(self) -> Mapping[str, Member]:
        """By nodule id."""
        ...

    @property
    def target(self) -> Target | None:
        """The question that its picks answer; None in the first edition."""
        ...


@dataclass(frozen=True, slots=True)
class Members:
    """The nodules of a version that is not published yet."""

    version: str
    members: Mapping[str, Member]
    target: Target | None


@dataclass(frozen=True, slots=True)
class ReleaseDiff:
    """Differences between two releases."""

    before: str
    after: str
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Reasons by nodule id."""
    unchanged: int = 0
    targets: tuple[str, str] | None = None
    """The questions that the picks of both answer, in words; None where they are the same."""
    retargeted: tuple[str, ...] = ()
    """Nodules whose pick changed because the question did: the old one does not answer it, the new
    one does."""


def diff_releases(store: Store, before: HasMembers, after: HasMembers) -> ReleaseDiff:
    """Compare two releases nodule by nodule.

    Args:
        store: Where the cases of both are.
        before: The older release.
        after: The newer one, published or not.
    """
    common = sorted(before.members.keys() & after.members.keys())
    reasons = {
        name: tuple(_reasons(store, before.members[name], after.members[name])) for name in common
    }
    changed = {name: why for name, why in reasons.items() if why}
    is_retargeted = before.target != after.target
    return ReleaseDiff(
        before.version,
        after.version,
        added=tuple(sorted(after.members.keys() - before.members.keys())),
        removed=tuple(sorted(before.members.keys() - after.members.keys())),
        changed=changed,
        unchanged=len(common) - len(changed),
        targets=(_question(before.target), _question(after.target)) if is_retargeted else None,
        retargeted=tuple(
            name
            for name in common
            if is_retargeted
            and target_of(before.members[name].method) != after.target
            and target_of(after.members[name].method) == after.target
        ),
    )


def find_predecessor(store: Store, version: str) -> Manifest | None:
    """Return the manifest of the newest release before a version that is not withdrawn.

    None where there is none.
    """
    for manifest in reversed(read_manifests(store)):
        is_earlier = version_order(manifest.version) < version_order(version)
        if is_earlier and find_withdrawal(store, manifest.version) is None:
            return manifest
    return None


def describe(diff: ReleaseDiff) -> Iterator[str]:
    """Write differences as lines of text, the counts first."""
    yield (
        f"{diff.before} -> {diff.after}: {len(diff.added)} added, {len(diff.removed)} removed, "
        f"{len(diff.changed)} changed, {diff.unchanged} unchanged"
    )
    if diff.targets:
        yield (
            f"target: {' -> '.join(diff.targets)}; the picks of {len(diff.retargeted)} nodules "
            "changed for that reason"
        )
    yield from (f"+ {nodule_id}" for nodule_id in diff.added)
    yield from (f"- {nodule_id}" for nodule_id in diff.removed)
    yield from (f"~ {nodule_id}: {'; '.join(why)}" for nodule_id, why in diff.changed.items())


def changes_page(version: str, diff: ReleaseDiff | None) -> bytes:
    """Write a release's CHANGES.md; None means that there is no earlier version."""
    if diff is None:
        return f"# Changes in {version}\n\nThis is the first release.\n".encode()
    summary, *lines = describe(diff)
    if diff.targets:
        summary += f". {lines.pop(0).capitalize()}"
    items = [f"- `{line[0]}` {line[2:]}" for line in lines[:MOST_LISTED]]
    if len(lines) > MOST_LISTED:
        items.append(
            f"- and {len(lines) - MOST_LISTED} more: "
            f"`halosign release diff {diff.before} {version} --store STORE`"
        )
    if items:
        items.insert(0, "")
    return "\n".join([f"# Changes in {version}", "", f"{summary}.", *items, ""]).encode()


def case_changes(
    nodule_id: str, before: tuple[Store, str], after: tuple[Store, str]
) -> Iterator[str]:
    """Explain why two cases of a nodule have different digests.

    Args:
        nodule_id: Whose cases.
        before: Store and digest of the one.
        after: Store and digest of the other.
    """
    try:
        old = read_case(before[0], nodule_id, before[1]).facts
        new = read_case(after[0], nodule_id, after[1]).facts
    except StoreError as error:
        yield f"another case; the reason is unknown: {error}"
        return
    yield from _case_reasons(old, new)


def _reasons(store: Store, old: Member, new: Member) -> Iterator[str]:
    """Explain why one nodule changed; nothing where it did not."""
    if old.digest != new.digest:
        yield from case_changes(old.nodule_id, (store, old.digest), (store, new.digest))
    for name, word in _CHOICES.items():
        if getattr(old, name) != getattr(new, name):
            yield f"{word} {getattr(old, name)} -> {getattr(new, name)}"


def _question(target: Target | None) -> str:
    return target or "none (all eight were ranked together)"


def _case_reasons(old: CaseFacts, new: CaseFacts) -> Iterator[str]:
    if old.form != new.form:
        yield f"{old.form_name} -> {new.form_name}"
    before = _flatten(old.recipe)
    after = _flatten(new.recipe)
    settings = _differing(before, after)
    yield from (f"recipe {name} {before.get(name)} -> {after.get(name)}" for name in settings)
    same_algorithm = old.algorithm == new.algorithm
    if not same_algorithm:
        yield f"algorithm {old.algorithm} -> {new.algorithm}"
    facts = _differing(asdict(old.source), asdict(new.source))
    if facts:
        yield f"source ({', '.join(facts)})"
    elif same_algorithm and not settings:
        # The digest covers source, recipe and algorithm: where two of them are equal, the third
        # has changed.
        yield "source (voxels, masks or contours)"


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))


def _flatten(tree: JsonObject, prefix: str = "") -> JsonObject:
    """Return the settings of a recipe by dotted name."""
    flat: JsonObject = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat

"""Releases: a version names every case by digest and every file by SHA-256; it never changes and is never reused.

Publishing happens in three steps, each atomic: a claim that only one publisher can create, the release's own files,
and last the manifest, whose presence is the release. A publisher that died in between has used up the version.
A release that should no longer be used is withdrawn by a tombstone beside it; nothing of it is removed.
"""

import hashlib
import re
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from matting.errors import InputError
from storage.cases.case import damage
from storage.errors import AlreadyExistsError, CorruptionError, NotFoundError
from storage.layout import RELEASES
from storage.store import Store, canonical_json

TOMBSTONE = "withdrawn.json"
"""Lies beside the manifest of a release that was withdrawn; written once."""

_VERSION = re.compile(r"\d+\.\d+\.\d+(-[A-Za-z0-9.]+)?")


@dataclass(frozen=True, slots=True)
class Member:
    """One nodule of a release."""

    nodule_id: str
    patient_id: str
    digest: str
    method: str
    """The matte that is the release's."""
    reviewer: str
    automatic: bool
    split: str
    stand_in: bool


@dataclass(frozen=True, slots=True)
class Draft:
    """Everything a release is made of, before it is published."""

    members: tuple[Member, ...]
    discarded: tuple[str, ...]
    """Nodules that reviewers rejected."""
    case_files: Mapping[str, Mapping[str, Any]]
    """Path in the store to SHA-256 and bytes, of every file of every case."""
    own_files: Mapping[str, bytes]
    """Card, index and splits by file name."""
    recipe: Mapping[str, Any]

    @property
    def stand_in(self) -> bool:
        """Tell whether any of it is simulated."""
        return any(member.stand_in for member in self.members)


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """The tombstone of a release: who took it back, when and why."""

    version: str
    reason: str
    withdrawn_by: str
    withdrawn_at: str
    """UTC, ISO 8601."""

    def __str__(self) -> str:
        return f"{self.version} was withdrawn {self.withdrawn_at} by {self.withdrawn_by}: {self.reason}"


def publish_release(store: Store, version: str, draft: Draft, *, publisher: str) -> dict[str, Any]:
    """Publish a draft under a version; gives the manifest.

    Raises:
        InputError: The version is no version, is used already, or was begun by another publisher.
    """
    check_version(version)
    prefix = f"{RELEASES}/{version}"
    manifest = _manifest(version, draft, publisher)
    data = canonical_json(manifest)
    # The id tells two publishers of the same draft apart: bytes alike would count as one's own, written twice.
    claim = {
        "publisher": publisher,
        "manifest_sha256": _sha256(data),
        "publication": uuid.uuid4().hex,
    }
    try:
        store.create(f"{prefix}/claim.json", canonical_json(claim))
    except AlreadyExistsError:
        raise _used(store, version) from None
    for name, content in sorted(draft.own_files.items()):
        store.put(f"{prefix}/{name}", content)
    store.create(f"{prefix}/manifest.json", data)
    return manifest


def is_published(store: Store, version: str) -> bool:
    """Tell whether a version is there for readers; one that was only begun is not."""
    return store.size(f"{RELEASES}/{version}/manifest.json") is not None


def list_releases(store: Store) -> list[dict[str, Any]]:
    """Give the manifests of all published releases, oldest version first."""
    versions = sorted(store.children(RELEASES)[0], key=version_order)
    return [
        store.get_json(f"{RELEASES}/{v}/manifest.json") for v in versions if is_published(store, v)
    ]


def read_release(store: Store, version: str) -> dict[str, Any]:
    """Give a release's manifest; raises InputError for a version that was never published."""
    check_version(version)
    try:
        manifest: dict[str, Any] = store.get_json(f"{RELEASES}/{version}/manifest.json")
    except NotFoundError:
        known = (
            ", ".join(v for v in store.children(RELEASES)[0] if is_published(store, v)) or "none"
        )
        raise InputError(
            "no such release",
            got=version,
            expected=f"a published version: {known}",
            remedy="See `halosign release list`, or publish it.",
        ) from None
    return manifest


def verify_release(store: Store, version: str) -> list[str]:
    """Read every file of a release and name those that are missing or changed; empty when all is well."""
    check_version(version)
    prefix = f"{RELEASES}/{version}"
    try:
        claim = store.get_json(f"{prefix}/claim.json")
        data = store.get(f"{prefix}/manifest.json")
    except (NotFoundError, ValueError) as error:
        return [str(error)]
    if not isinstance(claim, dict) or claim.get("manifest_sha256") != _sha256(data):
        return [
            f"{prefix}/manifest.json or {prefix}/claim.json: the content is not what was written"
        ]
    manifest = read_release(store, version)
    own = {f"{prefix}/{name}": facts for name, facts in manifest["own_files"].items()}
    return damage(store, {**own, **manifest["case_files"]})


def withdraw_release(store: Store, version: str, reason: str, *, by: str) -> Withdrawal:
    """Mark a release as not to be used any more; its files stay for those who must reproduce old work.

    Raises:
        InputError: The version was never published or is withdrawn already, or no reason is given.
    """
    read_release(store, version)
    if not reason.strip():
        raise InputError(
            "a withdrawal needs a reason",
            got="none",
            expected="a sentence",
            remedy="Say it with --reason TEXT.",
        )
    made = Withdrawal(version, reason.strip(), by, datetime.now(UTC).isoformat(timespec="seconds"))
    try:
        store.create(f"{RELEASES}/{version}/{TOMBSTONE}", canonical_json(asdict(made)))
    except AlreadyExistsError:
        raise InputError(
            "a release is withdrawn only once",
            got=withdrawal(store, version),
            expected="a release in use",
            remedy="Nothing is left to do.",
        ) from None
    return made


def withdrawal(store: Store, version: str) -> Withdrawal | None:
    """Give a release's tombstone; None for one in use."""
    key = f"{RELEASES}/{version}/{TOMBSTONE}"
    try:
        return Withdrawal(**store.get_json(key))
    except NotFoundError:
        return None
    except TypeError as error:
        raise CorruptionError(
            f"{key} is no tombstone. Restore it; until then the release counts as withdrawn."
        ) from error


def check_version(version: str) -> None:
    """Refuse what is no version."""
    if not _VERSION.fullmatch(version):
        raise InputError(
            "this is no version",
            got=repr(version),
            expected="three numbers such as 0.1.0",
            remedy="Choose such a version.",
        )


def version_order(version: str) -> tuple[tuple[int, ...], str]:
    """Give what versions are sorted by."""
    numbers, _, suffix = version.partition("-")
    # A version with a suffix comes before the one without: 1.0.0-rc1 < 1.0.0
    return tuple(int(n) for n in numbers.split(".") if n.isdigit()), suffix or "~"


def _manifest(version: str, draft: Draft, publisher: str) -> dict[str, Any]:
    own = {
        name: {"sha256": _sha256(data), "bytes": len(data)}
        for name, data in sorted(draft.own_files.items())
    }
    return {
        "version": version,
        "published_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "publisher": publisher,
        "stand_in": draft.stand_in,
        "recipe": dict(draft.recipe),
        "nodules": {
            m.nodule_id: {n: getattr(m, n) for n in Member.__dataclass_fields__}
            for m in draft.members
        },
        "discarded": list(draft.discarded),
        "own_files": own,
        "case_files": {key: dict(facts) for key, facts in draft.case_files.items()},
    }


def _used(store: Store, version: str) -> InputError:
    if is_published(store, version):
        got, remedy = (
            f"{version}, which is published",
            "Choose a higher version; a release never changes.",
        )
    else:
        got = f"{version}, which another publisher has begun and not finished"
        remedy = "If no publisher is at work, that one died: choose a higher version."
    return InputError(
        "a version is used only once", got=got, expected="a new version", remedy=remedy
    )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()

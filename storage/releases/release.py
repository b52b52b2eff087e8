"""Releases: a version names every case by digest and every file by SHA-256.

It never changes and is never reused.

Publishing has three steps, each atomic: a claim that only one publisher can create, the release's
own files, and last the manifest, whose presence is the release. A publisher that died in between
has used up the version. A release that should no longer be used is withdrawn by a file beside the
manifest; nothing of it is removed.
"""

import hashlib
import os
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache

from matting.errors import InputError
from storage.errors import AlreadyExistsError, CorruptionError, NotFoundError
from storage.layout import EXPORT_MARKER, MANIFEST, RELEASES, claim_key, manifest_key
from storage.recipe import ReleaseSettings
from storage.records import (
    UNSTATED,
    About,
    Claim,
    ExportMarker,
    FileEntry,
    JsonObject,
    Manifest,
    Member,
    Withdrawal,
    encode,
    parse_record,
    read_record,
)
from storage.releases.splits import assign_split, repartition
from storage.store import Store, open_folder, open_store

WITHDRAWN = "withdrawn.json"
"""Name of the file that withdraws a release; written once, beside the manifest."""

_VERSION = re.compile(r"\d+\.\d+\.\d+(-[A-Za-z0-9.]+)?")


class Release:
    """A published release.

    A process reads its manifest once, however often the release is opened or passed on. It is
    pickled as its address.
    """

    def __init__(
        self, store: Store, manifest: Manifest, sha256: str, *, export: bool = False
    ) -> None:
        """Take a manifest that was read; use `open` or `open_release` to read it.

        Args:
            store: Where the cases are, be it a store or an export's folder.
            manifest: The release's.
            sha256: Of the manifest's bytes.
            export: True where `store` is an export.
        """
        self.store = store
        self.manifest = manifest
        self.manifest_sha256 = sha256
        self.is_export = export

    @classmethod
    def open(cls, store: Store, version: str) -> "Release":
        """Read a release's manifest, also where the release was withdrawn.

        Raises:
            InputError: The version was never published.
            CorruptionError: The manifest is damaged.
        """
        check_version(version)
        try:
            return cls(store, *_read_manifest(store, manifest_key(version)))
        except NotFoundError:
            raise _unknown(store, version) from None

    def __repr__(self) -> str:
        """Name the version, its size and its store."""
        return f"Release({self.version}, {len(self.members)} nodules, {self.store.url})"

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the address."""
        return _reopen, (self.store.url, self.version)

    @property
    def version(self) -> str:
        """The release's version."""
        return self.manifest.version

    @property
    def members(self) -> Mapping[str, Member]:
        """The release's nodules by id."""
        return self.manifest.members

    def splits(self, partition: int = 0) -> dict[str, str]:
        """Return the split of every nodule.

        Args:
            partition: 0 for the release's own splits; any other number divides its patients again,
                into the same shares with another seed.

        Returns:
            ``train``, ``validation`` or ``test`` by nodule id.
        """
        if partition == 0:
            return {name: member.split for name, member in self.members.items()}
        shares = repartition(self._split_settings(), partition)
        return {
            name: assign_split(member.patient_id, shares) for name, member in self.members.items()
        }

    def find_withdrawal(self) -> Withdrawal | None:
        """Read the release's withdrawal; None for one in use. An export is always in use."""
        return None if self.is_export else find_withdrawal(self.store, self.version)

    def check_in_use(self, purpose: str, remedy: str) -> None:
        """Raise InputError where the release was withdrawn.

        Args:
            purpose: What cannot be done with it, e.g. ``read``.
            remedy: What to do instead.
        """
        withdrawal = self.find_withdrawal()
        if withdrawal:
            raise InputError(
                f"a withdrawn release is not {purpose}",
                got=withdrawal,
                expected="a release in use",
                remedy=remedy,
            )

    def _split_settings(self) -> ReleaseSettings:
        try:
            return ReleaseSettings.model_validate(self.manifest.recipe["release"])
        except (KeyError, ValueError) as error:
            raise CorruptionError(
                f"{manifest_key(self.version)} has no split settings in its recipe. Restore it.",
                key=manifest_key(self.version),
            ) from error


def open_release(
    url: str | os.PathLike[str], version: str | None = None, *, allow_withdrawn: bool = False
) -> Release:
    """Open a release for reading.

    Args:
        url: A store or an export in the format ``zarr``: a folder, or a URL such as
            ``s3://bucket/prefix`` or ``https://host/path``.
        version: Which release of the store; may be left out for an export, which holds one.
        allow_withdrawn: Open also a release that was withdrawn, to reproduce old work.

    Raises:
        InputError: There is no such store, release or export, or it was withdrawn.
        CorruptionError: The manifest is damaged.
    """
    url = os.fspath(url)
    folder = open_folder(url)
    if folder.exists(EXPORT_MARKER):
        return _open_export(folder, version)
    store = open_store(url)
    if version is None:
        raise InputError(
            "a store holds many releases",
            got="no version",
            expected="one",
            remedy='Name it, for example open_release(url, "0.1.0").',
        )
    release = Release.open(store, version)
    if not allow_withdrawn:
        release.check_in_use(
            "read",
            "Use another version; allow_withdrawn=True reads it to reproduce old work.",
        )
    return release


def _open_export(folder: Store, version: str | None) -> Release:
    try:
        marker = read_record(folder, EXPORT_MARKER, ExportMarker)
        manifest, sha256 = _read_manifest(folder, MANIFEST)
    except NotFoundError as error:
        raise CorruptionError(
            f"{folder.url} is not a complete export: {error} Export the release again.",
            key=error.key,
        ) from error
    if marker.format != "zarr" or version not in (None, marker.release):
        raise InputError(
            "the folder holds another export",
            got=f"release {marker.release} as {marker.format}",
            expected=f"release {version or marker.release} as zarr",
            remedy="Give the folder of that export, or a store.",
        )
    held = replace(manifest, members=marker.select(manifest.members))
    return Release(folder, held, sha256, export=True)


def _reopen(url: str, version: str) -> Release:
    return open_release(url, version, allow_withdrawn=True)


@dataclass(frozen=True, slots=True)
class _ManifestAddress:
    """What the content of a manifest depends on."""

    url: str
    key: str
    etag: str
    store: Store = field(compare=False)


def _read_manifest(store: Store, key: str) -> tuple[Manifest, str]:
    """Return a manifest and the SHA-256 of its bytes; raises NotFoundError or CorruptionError."""
    etag = store.etag(key)
    if etag is None:
        raise NotFoundError(f"{store.url}/{key} does not exist.", key=key)
    return _read_manifest_once(_ManifestAddress(store.url, key, etag, store))


@lru_cache(maxsize=8)
def _read_manifest_once(address: _ManifestAddress) -> tuple[Manifest, str]:
    data = address.store.get(address.key)
    manifest = parse_record(data, Manifest, address.key, f"{address.url}/{address.key}")
    return manifest, _sha256(data)


@dataclass(frozen=True, slots=True)
class Draft:
    """Everything a release consists of, before it is published."""

    members: tuple[Member, ...]
    discarded: tuple[str, ...]
    """Nodules that reviewers rejected."""
    case_files: Mapping[str, FileEntry]
    """Every file of every case, by its path in the store."""
    own_files: Mapping[str, bytes]
    """Card, index, splits and metadata by file name."""
    recipe: JsonObject
    about: About = UNSTATED
    """Who made it and under which terms."""

    @property
    def synthetic(self) -> bool:
        """True where any of the scans is simulated."""
        return any(member.synthetic for member in self.members)


def publish_release(store: Store, version: str, draft: Draft, *, publisher: str) -> Release:
    """Publish a draft under a version.

    Args:
        store: Where the cases are.
        version: MAJOR.MINOR.PATCH, with an optional suffix; not used before.
        draft: What to publish.
        publisher: Name of the person or service that publishes.

    Returns:
        The release.

    Raises:
        InputError: The version is invalid or used already.
    """
    check_version(version)
    if is_published(store, version):  # also where its claim was lost
        raise _used(store, version)
    prefix = f"{RELEASES}/{version}"
    manifest = _manifest(version, draft, publisher)
    data = encode(manifest)
    # The random id makes the claims of two publishers of the same draft differ, so that only one
    # of them succeeds.
    claim = Claim(publisher, _sha256(data), uuid.uuid4().hex)
    try:
        store.create(claim_key(version), encode(claim))
    except AlreadyExistsError:
        raise _used(store, version) from None
    store.put_all({f"{prefix}/{name}": data for name, data in sorted(draft.own_files.items())})
    store.create(manifest_key(version), data)
    return Release(store, manifest, _sha256(data))


def is_published(store: Store, version: str) -> bool:
    """Return whether a version is published; one whose publication was only begun is not."""
    return store.exists(manifest_key(version))


def list_versions(store: Store) -> list[str]:
    """List the published versions, oldest first."""
    versions = sorted(store.list_dir(RELEASES)[0], key=version_order)
    return [version for version in versions if is_published(store, version)]


def read_manifests(store: Store) -> list[Manifest]:
    """Read the manifests of all published releases, oldest version first.

    Raises CorruptionError.
    """
    return [Release.open(store, version).manifest for version in list_versions(store)]


def withdraw_release(store: Store, version: str, reason: str, *, by: str) -> Withdrawal:
    """Mark a release as no longer to be used; its files stay for those who must reproduce old work.

    A version whose publication was begun and has no manifest can be withdrawn too: it was
    interrupted, or its manifest is lost.

    Args:
        store: Where the release is.
        version: Of the release.
        reason: Why, in a sentence.
        by: Name of the person who withdraws it.

    Raises:
        InputError: See `check_withdrawal`.
    """
    check_withdrawal(store, version, reason, by=by)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    withdrawal = Withdrawal(version, reason.strip(), by.strip(), now)
    try:
        store.create(f"{RELEASES}/{version}/{WITHDRAWN}", encode(withdrawal))
    except AlreadyExistsError:
        raise _withdrawn_already(find_withdrawal(store, version)) from None
    return withdrawal


def check_withdrawal(store: Store, version: str, reason: str, *, by: str) -> None:
    """Check whether a release can be withdrawn; changes nothing.

    Args:
        store: Where the release is.
        version: Of the release.
        reason: Why, in a sentence.
        by: Name of the person who withdraws it.

    Raises:
        InputError: The version was never claimed or is withdrawn already, or no reason or no name
            is given.
    """
    check_version(version)
    if not store.exists(claim_key(version)):
        Release.open(store, version)
    for what, text, remedy in (
        ("reason", reason, "Give it with --reason TEXT."),
        ("name", by, "No user is known here: give it with --by NAME."),
    ):
        if not text.strip():
            raise InputError(
                f"a withdrawal needs a {what}", got="none", expected="some text", remedy=remedy
            )
    known = find_withdrawal(store, version)
    if known:
        raise _withdrawn_already(known)


def _withdrawn_already(known: Withdrawal | None) -> InputError:
    return InputError(
        "a release is withdrawn only once",
        got=known,
        expected="a release in use",
        remedy="Nothing is left to do.",
    )


def find_withdrawal(store: Store, version: str) -> Withdrawal | None:
    """Read the withdrawal of a release; None for one in use. Raises CorruptionError."""
    try:
        return read_record(store, f"{RELEASES}/{version}/{WITHDRAWN}", Withdrawal)
    except NotFoundError:
        return None


def check_version(version: str) -> None:
    """Raise InputError for an invalid version."""
    if not _VERSION.fullmatch(version):
        raise InputError(
            "invalid version",
            got=repr(version),
            expected="MAJOR.MINOR.PATCH",
            remedy="Use for example 0.1.0.",
        )


def version_order(version: str) -> tuple[tuple[int, ...], str]:
    """Return the key by which versions are sorted; 1.0.0-rc1 comes before 1.0.0."""
    numbers, _, suffix = version.partition("-")
    return tuple(int(n) for n in numbers.split(".") if n.isdigit()), suffix or "~"


def _manifest(version: str, draft: Draft, publisher: str) -> Manifest:
    return Manifest(
        version=version,
        published_at=datetime.now(UTC).isoformat(timespec="seconds"),
        publisher=publisher,
        synthetic=draft.synthetic,
        recipe=draft.recipe,
        members={member.nodule_id: member for member in draft.members},
        discarded=draft.discarded,
        own_files={
            name: FileEntry(_sha256(data), len(data))
            for name, data in sorted(draft.own_files.items())
        },
        case_files=dict(draft.case_files),
        about=draft.about,
    )


def _unknown(store: Store, version: str) -> InputError:
    return InputError(
        "no such release",
        got=version,
        expected=f"a published version: {', '.join(list_versions(store)) or 'none'}",
        remedy="See `halosign release list`, or publish it.",
    )


def check_unused(store: Store, version: str) -> None:
    """Raise InputError for a version that is published, before anything is prepared for it."""
    check_version(version)
    if is_published(store, version):
        raise _used(store, version)


def _used(store: Store, version: str) -> InputError:
    if is_published(store, version):
        got = f"{version}, which is published"
        remedy = "Choose a higher version; a release never changes."
    else:
        got = f"{version}, which another publisher has begun and not finished"
        remedy = "If no publisher is running, that one was interrupted: choose a higher version."
    return InputError(
        "a version is used only once", got=got, expected="a new version", remedy=remedy
    )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()

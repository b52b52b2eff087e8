"""Published versions, their claims and withdrawals, and exports."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from matting.parameters import Form
from matting.targets import Target
from storage.records.codec import STRICT, UNLESS_EMPTY, UNLESS_NONE, JsonObject
from storage.records.files import FileEntry, FileKey
from storage.records.runs import form_name


@dataclass(frozen=True, slots=True)
class Member:
    """One nodule of a release."""

    nodule_id: str
    patient_id: str
    digest: str
    method: str
    """The method whose matte is released."""
    reviewer: str
    automatic: bool
    split: str
    """``train``, ``validation`` or ``test``."""
    synthetic: Annotated[bool, Field(alias="stand_in")]
    form: Annotated[Form | None, UNLESS_NONE] = None
    """Of its matte; None in the first edition."""

    @property
    def form_name(self) -> str:
        """What the form of its matte is called."""
        return form_name(self.form)


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What a publisher states of a release that a store does not know."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    title: Annotated[str, UNLESS_EMPTY] = ""
    """Of the data set, without its version."""
    authors: Annotated[tuple[str, ...], UNLESS_EMPTY] = ()
    license: Annotated[str, UNLESS_EMPTY] = ""
    """Identifier of SPDX, or a name."""
    contact: Annotated[str, UNLESS_EMPTY] = ""
    """Name, e-mail address or web page."""

    def over(self, earlier: "About") -> "About":
        """Return this, with what it leaves out as an earlier release had it."""
        return About(
            title=self.title or earlier.title,
            authors=self.authors or earlier.authors,
            license=self.license or earlier.license,
            contact=self.contact or earlier.contact,
        )


UNSTATED = About()


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """`releases/<version>/manifest.json`: what a release consists of."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    noun: ClassVar[str] = "the manifest of a release"

    version: str
    published_at: str
    """UTC, ISO 8601."""
    publisher: str
    synthetic: Annotated[bool, Field(alias="stand_in")]
    """True where any of its scans is simulated."""
    recipe: JsonObject
    """The whole recipe."""
    members: Annotated[dict[str, Member], Field(alias="nodules")]
    """By nodule id."""
    discarded: tuple[str, ...]
    """Nodules that reviewers rejected."""
    own_files: dict[FileKey, FileEntry]
    """The release's own files, by name."""
    case_files: dict[FileKey, FileEntry]
    """Every file of every case, by its path in the store."""
    about: Annotated[About, Field(exclude_if=lambda about: about == UNSTATED)] = UNSTATED
    """Who made it and under which terms; empty where the publisher did not say."""

    @property
    def form_name(self) -> str:
        """What the forms of its mattes are called, joined where there are several."""
        return " and ".join(sorted({member.form_name for member in self.members.values()}))

    @property
    def target(self) -> Target | None:
        """The question that its picks answer; None in the first edition, which asked none."""
        target: Target | None = self.recipe.get("review", {}).get("target")
        return target


@dataclass(frozen=True, slots=True)
class Claim:
    """`releases/<version>/claim.json`: reserves the version for one publisher."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    noun: ClassVar[str] = "the claim of a release"

    publisher: str
    manifest_sha256: str
    publication: str = ""
    """A random id, which distinguishes two publishers of the same draft."""


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """`releases/<version>/withdrawn.json`: who withdrew a release, when and why."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    noun: ClassVar[str] = "the withdrawal of a release"
    remedy: ClassVar[str] = "Restore it; until then the release counts as withdrawn."

    version: str
    reason: str
    withdrawn_by: str
    withdrawn_at: str
    """UTC, ISO 8601."""

    def __str__(self) -> str:
        """Write it as a sentence."""
        how = f"withdrawn {self.withdrawn_at} by {self.withdrawn_by}"
        return f"{self.version} was {how}: {self.reason}"


@dataclass(frozen=True, slots=True)
class ExportMarker:
    """`export.json`: which release a folder holds, or which nodules of it, in which format."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    noun: ClassVar[str] = "the marker of an export"
    remedy: ClassVar[str] = "Export the release again."

    release: str
    format: str
    manifest_sha256: Annotated[str, Field(alias="manifest")]
    splits: Annotated[tuple[str, ...] | None, UNLESS_NONE] = None
    """The selected splits; None for all."""
    nodules: Annotated[tuple[str, ...] | None, UNLESS_NONE] = None
    """The selected nodules; None for all."""

    def select(self, members: Mapping[str, Member]) -> dict[str, Member]:
        """Return the nodules of the release that the folder holds, sorted by id."""
        return {
            name: member
            for name, member in sorted(members.items())
            if (self.splits is None or member.split in self.splits)
            and (self.nodules is None or name in self.nodules)
        }

    @property
    def selection(self) -> str:
        """What is selected, in words; empty where the folder holds the whole release."""
        parts = [f"split {', '.join(self.splits)}"] if self.splits else []
        if self.nodules:
            more = f" and {len(self.nodules) - 3} more" if len(self.nodules) > 3 else ""
            parts.append(f"nodules {', '.join(self.nodules[:3])}{more}")
        return "; ".join(parts)

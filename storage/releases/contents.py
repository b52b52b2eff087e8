"""What a release is made of, counted once for the card and for the files that programs read."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from matting.phantoms import Ratings
from storage.releases.release import Member

LIDC, TABLE = "LIDC-IDRI", "a table of volumes"
UNRATED = "unrated"


@dataclass(frozen=True, slots=True)
class ReleaseContents:
    """A release's members with the facts of their cases."""

    version: str
    url: str
    """Of the store."""
    members: Sequence[Member]
    discarded: Sequence[str]
    facts: Mapping[str, Mapping[str, Any]]
    """Of each member's case, by nodule id."""
    recipe: Mapping[str, Any]
    """The part that decides the bytes of a case."""
    decided_at: str
    """When the last of its decisions was made, ISO 8601; a release's files know no other time."""

    @property
    def stand_ins(self) -> int:
        """How many scans are simulated."""
        return sum(member.stand_in for member in self.members)

    @property
    def patients(self) -> int:
        """How many patients there are."""
        return len({member.patient_id for member in self.members})

    @property
    def sources(self) -> Counter[str]:
        """Nodules by where they come from."""
        return Counter(
            LIDC if "series_instance_uid" in self.facts[m.nodule_id]["source"] else TABLE
            for m in self.members
        )

    @property
    def kinds(self) -> Counter[str]:
        """Nodules by kind, after the readers' mean texture rating."""
        return Counter(_kind(self.facts[member.nodule_id]["source"]) for member in self.members)

    @property
    def title(self) -> str:
        """How the release is called wherever it is named."""
        note = " (stand-in data: simulated CT)" if self.stand_ins else ""
        return f"Halosign {self.version}: 3D alpha mattes of lung nodules{note}"

    @property
    def summary(self) -> str:
        """What it is in one sentence."""
        return (
            f"{len(self.members)} lung nodules of {self.patients} patients in CT, each with a 3D alpha matte: a value "
            f"in 0..1 per voxel that says how much of it is lesion."
        )

    def count(self, name: str) -> str:
        """Count members by one of their fields, for people."""
        return listed(Counter(getattr(member, name) for member in self.members))


def listed(counts: Counter[str]) -> str:
    """Write counts as text, sorted by name."""
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def _kind(source: Mapping[str, Any]) -> str:
    textures = [given["texture"] for given in source.get("annotations", []) if given.get("texture")]
    if not textures:
        return UNRATED
    return str(Ratings(texture=fmean(textures), margin=0, spiculation=0, calcification=0).kind)

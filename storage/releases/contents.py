"""What a release contains, counted for its card and its metadata files."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from matting.phantoms import Ratings
from matting.targets import MEANINGS, Target, family_of, target_of
from storage.records import UNSTATED, About, CaseFacts, JsonObject, LidcFacts, Member

CURATORS = "Curators of this Halosign data set"
LIDC = "LIDC-IDRI"
LIDC_LICENSE = "CC-BY-3.0"
TABLE = "a table of volumes"
UNRATED = "unrated"


@dataclass(frozen=True, slots=True)
class ReleaseContents:
    """A release's members with the facts of their cases."""

    version: str
    members: Sequence[Member]
    discarded: Sequence[str]
    facts: Mapping[str, CaseFacts]
    """By nodule id."""
    recipe: JsonObject
    """The part that determines the bytes of a case."""
    decided_at: str
    """Time of the latest verdict, ISO 8601; a release's files contain no other time."""
    target: Target
    """The question that the release answers."""
    about: About = UNSTATED
    """What the publisher states of it."""

    @property
    def synthetic_count(self) -> int:
        """How many scans are simulated."""
        return sum(member.synthetic for member in self.members)

    @property
    def patient_count(self) -> int:
        """How many patients there are."""
        return len({member.patient_id for member in self.members})

    @property
    def sources(self) -> Counter[str]:
        """Number of nodules by source."""
        sources = (self.facts[member.nodule_id].source for member in self.members)
        return Counter(LIDC if isinstance(source, LidcFacts) else TABLE for source in sources)

    @property
    def kinds(self) -> Counter[str]:
        """Number of nodules by kind, after the readers' mean texture rating."""
        return Counter(_kind(self.facts[member.nodule_id]) for member in self.members)

    @property
    def form_names(self) -> Counter[str]:
        """Number of nodules by the form of their mattes."""
        return Counter(self.facts[member.nodule_id].form_name for member in self.members)

    @property
    def families(self) -> Counter[str]:
        """Number of nodules by the family of the released matte."""
        return Counter(family_of(member.method) for member in self.members)

    @property
    def other_question(self) -> Sequence[Member]:
        """The members whose matte answers the other question."""
        return [member for member in self.members if target_of(member.method) != self.target]

    @property
    def title(self) -> str:
        """The release's title."""
        note = " (synthetic data: simulated CT)" if self.synthetic_count else ""
        if self.about.title:
            return f"{self.about.title}, version {self.version}{note}"
        return f"Halosign {self.version}: 3D alpha mattes of lung nodules{note}"

    @property
    def authors(self) -> tuple[str, ...]:
        """Who made it, or a name in place of those whom a store does not know."""
        return self.about.authors or (CURATORS,)

    @property
    def license(self) -> str:
        """Name of its license; that of LIDC-IDRI where all scans are from it, else empty."""
        is_lidc = set(self.sources) == {LIDC}
        return self.about.license or (LIDC_LICENSE if is_lidc else "")

    @property
    def summary(self) -> str:
        """What it is, in one sentence."""
        return (
            f"{len(self.members)} lung nodules of {self.patient_count} patients in CT, each with a "
            f"3D alpha matte: for every voxel, from 0 to 1, {MEANINGS[self.target]}. Matting "
            f"methods: {', '.join(sorted(self.form_names))}."
        )

    def count(self, field: str) -> str:
        """Return the number of members by the value of a field, as text."""
        return format_counts(Counter(getattr(member, field) for member in self.members))


def format_counts(counts: Counter[str]) -> str:
    """Write counts as text, sorted by name."""
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def _kind(facts: CaseFacts) -> str:
    textures = [
        float(rating["texture"])
        for rating in facts.ratings
        if isinstance(rating.get("texture"), int | float) and rating["texture"]
    ]
    if not textures:
        return UNRATED
    # Only the texture matters for the kind.
    return str(Ratings(texture=fmean(textures), margin=0, spiculation=0, calcification=0).kind)

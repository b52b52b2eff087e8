"""What people decided, and studies."""

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import ConfigDict, Field

from storage.records.codec import STRICT, UNLESS_EMPTY

VerdictKind = Literal["choose", "discard", "flag", "undo"]
VERDICT_KINDS: tuple[str, ...] = get_args(VerdictKind)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`decisions/<nodule>/<time>-<id>.json`: one verdict on one case."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    noun: ClassVar[str] = "a verdict"
    remedy: ClassVar[str] = (
        "Restore it from a backup, or set it aside with `halosign store check --repair`."
    )

    nodule_id: str
    digest: str
    """The case that was reviewed."""
    verdict: VerdictKind
    """`flag` asks for a second look and settles nothing; `undo` takes back the verdict that
    `undoes` names."""
    method: str | None
    """The chosen matte, in a study also a reader's mask; None unless something was chosen."""
    reviewer: str
    automatic: bool
    """True where a rule chose, not a person."""
    note: str = ""
    decided_at: str = ""
    """UTC, ISO 8601; the time of recording unless it is given."""
    id: str = ""
    """32 hexadecimal digits, made by the sender; derived from the content unless it is given."""
    reason: str = ""
    """Why it was discarded."""
    seconds: float | None = None
    """How long the nodule was on the reviewer's screen."""
    blind: bool = False
    """True where names were hidden and candidates shuffled."""
    place: int | None = None
    """At which place, from 1, the chosen matte was shown."""
    undoes: str = ""
    """The id of the verdict that is taken back."""
    study: str = ""
    """The study that it belongs to; empty where it counts for the release."""
    follows: Annotated[str, UNLESS_EMPTY] = ""
    """The id of the verdict on the nodule that came before it; empty for the first, and in records
    of earlier versions."""
    ordinal: Annotated[int, UNLESS_EMPTY] = 0
    """Larger than that of every verdict that was known when it was given; 0 in records of earlier
    versions, which are in order of time."""

    @property
    def order(self) -> tuple[int, str, str]:
        """What verdicts are sorted by: as they were given, whatever the clock said."""
        return self.ordinal, self.decided_at, self.id

    @property
    def content(self) -> "Verdict":
        """The same without what recording it adds: id, time and place in the order."""
        return replace(self, id="", decided_at="", follows="", ordinal=0)

    def equals_apart_from_id(self, other: "Verdict") -> bool:
        """Compare two verdicts by their content."""
        return self.content == other.content

    @property
    def choice(self) -> str | None:
        """The chosen method, ``discard``, or None for a verdict that settles nothing."""
        if self.verdict == "choose":
            return self.method
        return "discard" if self.verdict == "discard" else None


@dataclass(frozen=True, slots=True)
class StudyItem:
    """One nodule of a study."""

    nodule_id: str
    digest: str
    """The case that is shown."""
    method: str
    """The matte that is compared with the readers' masks."""
    options: tuple[str, ...]
    """What a rater chooses from."""
    synthetic: Annotated[bool, Field(alias="stand_in")]


@dataclass(frozen=True, slots=True)
class Study:
    """`studies/<study>/study.json`: the plan of a study."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    noun: ClassVar[str] = "the plan of a study"

    name: str
    seed: int
    raters: int
    """How many people take part; the first to choose are in."""
    release: str
    """The release whose mattes are shown; empty for the mattes that were chosen when the study was
    made."""
    items: tuple[StudyItem, ...]
    created_by: str
    created_at: str
    """UTC, ISO 8601."""

    def item(self, nodule_id: str) -> StudyItem | None:
        """Return a nodule's item; None where the nodule is not in the study."""
        return next((item for item in self.items if item.nodule_id == nodule_id), None)

"""What the page's templates and its JSON are given: every value under a name, and nothing else."""

from dataclasses import dataclass

from qc.review.agreement import Estimate
from qc.review.catalogue import CatalogueEntry
from qc.review.queue import Query, Row
from storage.records import Study, Verdict

DISCARD_REASONS = {
    "no-matte-fits": "no matte fits",
    "readers-differ": "the readers marked different things",
    "no-nodule": "this is no nodule",
    "artefact": "motion or artefact",
    "cut-off": "cut off or not measured",
    "other": "something else (see the note)",
}
"""Why a nodule may be discarded, as stored and as shown."""


@dataclass(frozen=True, slots=True)
class Session:
    """Who looks at the page."""

    name: str
    proof: str
    """Sent back with every change."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a reviewer is."""

    done: int
    """Nodules the reviewer has an answer to."""
    total: int
    """Nodules there are."""
    settled: int
    """Nodules on which a person's verdict stands."""

    @property
    def percent(self) -> float:
        """Give the share that is done."""
        return 100.0 * self.done / self.total if self.total else 0.0


@dataclass(frozen=True, slots=True)
class Figure:
    """One candidate figure of one candidate."""

    value: float | None
    is_best: bool


@dataclass(frozen=True, slots=True)
class Option:
    """One of what can be chosen."""

    place: int
    """From 1, and the key that chooses it."""
    name: str
    """Method or, in a study, nothing; empty where names are hidden."""
    why_missing: str
    """Why there is no matte; empty where there is one."""
    rank: int | None
    """By the candidate figures; None where hidden or not ranked."""
    figures: tuple[Figure, ...]
    """In the order of the page's figure names; empty where hidden."""
    tied_with: tuple[int, ...]
    """Places of those that hardly differ from it."""
    is_mine: bool
    """The reviewer's own standing choice."""


@dataclass(frozen=True, slots=True)
class NodulePage:
    """One nodule on the screen."""

    entry: CatalogueEntry
    study: Study | None
    """The study that it is shown in; None in review."""
    is_blind: bool
    may_see_names: bool
    """Whether the reviewer may leave blind mode."""
    options: tuple[Option, ...]
    figure_names: tuple[str, ...]
    """Of the candidate figures that are shown."""
    mine: Verdict | None
    """The reviewer's own standing verdict on this case."""
    others: tuple[Verdict, ...]
    """Other people's verdicts; shown once the reviewer has decided."""
    others_count: int
    """How many other people have decided."""
    warnings: tuple[str, ...]
    is_stale: bool
    """The reviewer's verdict was on an earlier case."""
    progress: Progress
    address: str
    """Of this page."""
    query: Query
    previous: str | None
    """Address of the nodule before, as JSON."""
    next: str | None
    """Address of the nodule after, as JSON."""


@dataclass(frozen=True, slots=True)
class QueuePage:
    """The list of nodules."""

    rows: tuple[Row, ...]
    query: Query
    progress: Progress
    unread: int
    """Finished nodules that are still being read and are not among the rows."""
    studies: tuple[str, ...]
    hides_names: bool
    """True where everybody reviews blind."""


@dataclass(frozen=True, slots=True)
class AgreementPage:
    """Where reviewers differ, and how far they agree."""

    rule: str
    disputes: tuple[Row, ...]
    pairs: tuple[tuple[str, str, Estimate], ...]
    """Two reviewers and Cohen's kappa."""
    joint: Estimate | None
    """Fleiss' kappa of all; None for fewer than three."""
    counts: tuple[tuple[str, int], ...]
    """Reviewers and how many nodules each decided."""


@dataclass(frozen=True, slots=True)
class StudyPage:
    """A study's first page."""

    study: Study
    progress: Progress
    is_full: bool
    """All raters are others."""
    first: str | None
    """Address of the first nodule without an answer."""

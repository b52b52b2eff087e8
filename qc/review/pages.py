"""The values that the templates and the JSON responses are filled with, one class a page."""

from dataclasses import dataclass

from matting.targets import Target
from qc.review.catalogue import CatalogueEntry
from qc.review.queue import Query, Row
from qc.review.reviewers import Role
from qc.studies.agreement import Estimate
from storage.records import Study, Verdict

DISCARD_REASONS = {
    "no-matte-fits": "no matte fits",
    "readers-differ": "the readers marked different things",
    "no-nodule": "this is no nodule",
    "artefact": "motion or artefact",
    "cut-off": "cut off or not measured",
    "other": "something else (see the note)",
}
"""Reasons for which a nodule may be discarded: as stored, as shown."""


@dataclass(frozen=True, slots=True)
class Session:
    """Who is signed in."""

    name: str
    csrf_token: str
    """Sent back with every change, so that no other site can make one."""
    role: Role

    @property
    def sees_queue(self) -> bool:
        """Whether the queue and its nodules are shown, and not only the studies."""
        return self.role != Role.RATER

    @property
    def sees_agreement(self) -> bool:
        """Whether it is shown where reviewers differ."""
        return self.role == Role.CURATOR


@dataclass(frozen=True, slots=True)
class Progress:
    """How many nodules a reviewer has decided."""

    done: int
    """Nodules that the reviewer has decided."""
    total: int
    """All nodules."""
    settled: int
    """Nodules decided by people rather than automatically."""

    @property
    def percent(self) -> float:
        """The share that is done, 0..100."""
        return 100.0 * self.done / self.total if self.total else 0.0


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of one candidate."""

    value: float | None
    is_best: bool


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a nodule, a candidate matte or, in a study, also a reader's mask."""

    place: int
    """Position on the screen from 1, which is also the key that chooses it."""
    name: str
    """The method; empty where names are hidden."""
    why_missing: str
    """Why there is no matte; empty where there is one."""
    is_pick: bool
    """Whether the automatic rule would choose it; False where names are hidden."""
    metrics: tuple[Metric, ...]
    """In the order of the page's metric names; empty where hidden."""
    tied_with: tuple[int, ...]
    """Positions of the options that hardly differ from it."""
    is_mine: bool
    """Whether the reviewer has chosen it."""


@dataclass(frozen=True, slots=True)
class NodulePage:
    """The page of one nodule, in review or in a study."""

    entry: CatalogueEntry
    study: Study | None
    """The study it belongs to; None in review."""
    is_blind: bool
    may_see_names: bool
    """Whether the reviewer may leave blind mode."""
    options: tuple[Option, ...]
    shown_first: int
    """How many of the options, the first ones, are shown before the reviewer asks for all."""
    target: Target
    """The question that the first options answer."""
    metric_names: tuple[str, ...]
    """Of the candidate metrics that are shown."""
    mine: Verdict | None
    """The reviewer's own verdict on this case."""
    others: tuple[Verdict, ...]
    """Other people's verdicts; empty until the reviewer has decided."""
    others_count: int
    """How many other people have decided."""
    warnings: tuple[str, ...]
    is_stale: bool
    """Whether the reviewer's verdict was on an earlier case of the nodule."""
    progress: Progress
    address: str
    """Of this page."""
    query: Query
    previous: str | None
    """Address of the previous nodule's JSON."""
    next: str | None
    """Address of the next nodule's JSON."""


@dataclass(frozen=True, slots=True)
class QueuePage:
    """The page that lists nodules."""

    rows: tuple[Row, ...]
    query: Query
    progress: Progress
    unread: int
    """Finished nodules that have not been read yet and are missing from the rows."""
    damaged: tuple[str, ...]
    """Keys of the store that cannot be read; the rows lack what they hold."""
    studies: tuple[str, ...]
    hides_names: bool
    """Whether everybody reviews blind."""


@dataclass(frozen=True, slots=True)
class AgreementPage:
    """The page that shows where reviewers differ and how far they agree."""

    rule: str
    disputes: tuple[Row, ...]
    pairs: tuple[tuple[str, str, Estimate], ...]
    """Two reviewers and Cohen's kappa."""
    joint: Estimate | None
    """Fleiss' kappa of all reviewers; None for fewer than three."""
    counts: tuple[tuple[str, int], ...]
    """Reviewers and the number of nodules that each decided."""


@dataclass(frozen=True, slots=True)
class StudyPage:
    """A study's first page."""

    study: Study
    progress: Progress
    is_full: bool
    """Whether the study has all its raters and this reviewer is none of them."""
    first: str | None
    """Address of the first nodule that the rater has not decided; None when all are."""

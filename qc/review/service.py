"""The desk: what reviewers see and say, between the web page and the store."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from matting.errors import InputError
from qc.review.agreement import joint_kappa, pairwise_kappas
from qc.review.auth import NAME_PATTERN
from qc.review.catalogue import FRESH_S, Catalogue, CatalogueEntry
from qc.review.pages import (
    AgreementPage,
    Figure,
    NodulePage,
    Option,
    Progress,
    QueuePage,
    StudyPage,
)
from qc.review.payloads import Kept, Overlays, pack_ct, pack_overlays, read_overlays
from qc.review.queue import Query, Row, make_row, neighbours, select
from storage.cases.case import read_case
from storage.recipe import ReviewSettings
from storage.records import Study, StudyItem, Verdict
from storage.reviews.consensus import find_consensus
from storage.reviews.studies import list_studies, raters_of, read_study
from storage.reviews.verdicts import (
    VerdictLog,
    effective_verdicts,
    read_verdicts,
    record_verdict,
)
from storage.store import Store

SHOWN_FIGURES = ("cross_entropy", "compositing_residual", "slice_roughness", "mass_outside")
"""The candidate figures beside each candidate; low is good in all."""
KAPPA_SEED = 20221011

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Identity = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class ConflictError(Exception):
    """What was said does not fit what is stored any more, and was not recorded."""


class UnknownItemError(Exception):
    """There is no such nodule or study."""


class VerdictIn(BaseModel):
    """A verdict as the page sends it. What was chosen comes as its place on the screen."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    id: Identity
    reviewer: Name
    nodule: Name
    digest: Name
    verdict: Literal["choose", "discard", "flag", "undo"]
    place: Annotated[int, Field(ge=1, le=64)] | None = None
    reason: Literal[
        "", "no-matte-fits", "readers-differ", "no-nodule", "artefact", "cut-off", "other"
    ] = ""
    note: Annotated[str, Field(max_length=2000)] = ""
    seconds: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False, strict=False)] = 0.0
    blind: bool = False
    undoes: Annotated[str, Field(pattern=r"^([0-9a-f]{8}([0-9a-f]{24})?)?$")] = ""
    study: Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,63})?$")] = ""


@dataclass(frozen=True, slots=True)
class _Shown:
    """What one reviewer sees of one case."""

    digest: str
    names: tuple[str, ...]
    """Of the options, in the order of the screen."""
    matte: str
    """The method whose matte a study shows."""


class ReviewService:
    """Reads what is to be reviewed and records what people say. Keeps nothing that the store does not hold."""

    def __init__(self, store: Store, rule: ReviewSettings, *, blind: bool) -> None:
        self._store, self._rule, self._blind = store, rule, blind
        self._index, self._log = Catalogue(store), VerdictLog(store)
        self._study_logs: dict[str, VerdictLog] = {}
        self._scans, self._overlays = Kept[bytes](), Kept[Overlays]()

    def warm_up(self) -> int:
        """Begin to read what every page needs; gives the number of nodules."""
        self._log.refresh()
        return len(self._index.entries()) + self._index.unread

    def hides_names(self, query: Query) -> bool:
        """Tell whether candidates are shuffled and nameless."""
        return self._blind or query.blind

    def queue(self, reviewer: str, query: Query) -> QueuePage:
        """List the nodules that pass the filters."""
        rows = self._rows(reviewer)
        chosen = tuple(select(rows, query))
        studies = tuple(list_studies(self._store))
        return QueuePage(
            chosen, query, self._progress(rows), self._index.unread, studies, self._blind
        )

    def nodule(self, reviewer: str, nodule_id: str, query: Query) -> NodulePage:
        """Show one nodule as it is now."""
        entry = self._current(nodule_id)
        blind = self.hides_names(query)
        shown = self._shown(reviewer, entry, None, blind)
        stand = find_consensus(read_verdicts(self._store, nodule_id), entry.digest, self._rule)
        mine = stand.verdict_of(reviewer)
        others = tuple(vote for vote in stand.verdicts if vote.reviewer != reviewer)
        rows = [
            row
            for row in self._rows(reviewer, at_most_old_s=FRESH_S)
            if row.entry.nodule_id != nodule_id
        ]
        row = make_row(entry, stand, reviewer)
        before, after = neighbours([*rows, row], query, nodule_id)
        return NodulePage(
            entry=entry,
            study=None,
            is_blind=blind,
            may_see_names=not self._blind,
            options=_options(entry, shown.names, mine, blind=blind),
            figure_names=() if blind else SHOWN_FIGURES,
            mine=mine,
            others=others if mine else (),
            others_count=len(others),
            warnings=() if blind else row.warnings,
            is_stale=any(one.reviewer == reviewer for one in stand.stale),
            progress=self._progress([*rows, row]),
            address=f"/nodule/{nodule_id}{query.address}",
            query=query,
            previous=f"/api/nodule/{before}{query.address}" if before else None,
            next=f"/api/nodule/{after}{query.address}" if after else None,
        )

    def study(self, reviewer: str, name: str) -> StudyPage:
        """Show where a rater stands in a study."""
        study = self._study(name)
        answers = self._study_answers(study, reviewer)
        order = study_order(study, reviewer)
        first = next((item for item in order if item.nodule_id not in answers), None)
        return StudyPage(
            study=study,
            progress=Progress(len(answers), len(study.items), len(answers)),
            is_full=not self._is_rater(study, reviewer),
            first=f"/study/{name}/{first.nodule_id}" if first else None,
        )

    def study_nodule(self, reviewer: str, name: str, nodule_id: str) -> NodulePage:
        """Show one nodule of a study: nothing that tells what is what."""
        study = self._study(name)
        item, entry = self._study_entry(study, nodule_id)
        shown = self._shown(reviewer, entry, item, True)
        answers = self._study_answers(study, reviewer)
        mine = answers.get(nodule_id)
        ids = [one.nodule_id for one in study_order(study, reviewer)]
        place = ids.index(nodule_id)
        return NodulePage(
            entry=entry,
            study=study,
            is_blind=True,
            may_see_names=False,
            options=_options(entry, shown.names, mine, blind=True),
            figure_names=(),
            mine=mine,
            others=(),
            others_count=0,
            warnings=(),
            is_stale=False,
            progress=Progress(len(answers), len(ids), len(answers)),
            address=f"/study/{name}/{nodule_id}",
            query=Query(),
            previous=f"/api/study/{name}/{ids[place - 1]}" if place else None,
            next=f"/api/study/{name}/{ids[place + 1]}" if place + 1 < len(ids) else None,
        )

    def scan(self, nodule_id: str, digest: str) -> bytes:
        """Give a case's CT, packed and compressed; raises UnknownItemError."""
        self._check_shown(nodule_id, digest)
        return self._scans.get(
            (nodule_id, digest), lambda: pack_ct(read_case(self._store, nodule_id, digest))
        )

    def overlays(
        self, reviewer: str, nodule_id: str, digest: str, query: Query, study_name: str
    ) -> bytes:
        """Give a case's options in the order in which the reviewer sees them, packed and compressed."""
        if study_name:
            item, entry = self._study_entry(self._study(study_name), nodule_id)
        else:
            item, entry = None, self._current(nodule_id)
        if entry.digest != digest:
            raise UnknownItemError(f"{nodule_id} has another case now")
        shown = self._shown(reviewer, entry, item, self.hides_names(query))
        volumes = self._overlays.get(
            (nodule_id, digest), lambda: read_overlays(read_case(self._store, nodule_id, digest))
        )
        return pack_overlays(volumes, shown.names, shown.matte, with_marks=item is None)

    def record(self, reviewer: str, said: VerdictIn) -> Verdict:
        """Store a verdict.

        Raises:
            ConflictError: It was said by another reviewer or of a case that is not the nodule's any more, the study has all
                its raters, or its id was used for another verdict.
            UnknownItemError: There is no such nodule, study or option.
        """
        if said.reviewer != reviewer:
            raise ConflictError(f"this was said by {said.reviewer}, and {reviewer} is here now")
        item = None
        if said.study:
            study = self._study(said.study)
            item, entry = self._study_entry(study, said.nodule)
            if not self._is_rater(study, reviewer):
                raise ConflictError(f"the study {study.name} has its {study.raters} raters already")
        else:
            entry = self._current(said.nodule)
        if said.digest != entry.digest and said.verdict != "undo":
            raise ConflictError(
                f"{said.nodule} was computed anew since it was shown; look at it again"
            )
        blind = bool(item) or self._blind or said.blind
        decision = Verdict(
            nodule_id=said.nodule,
            digest=said.digest,
            verdict=said.verdict,
            method=self._chosen(reviewer, said, entry, item, blind),
            reviewer=reviewer,
            automatic=False,
            note=said.note.strip(),
            id=said.id,
            reason=said.reason,
            seconds=round(said.seconds, 1),
            blind=blind,
            place=said.place,
            undoes=said.undoes,
            study=said.study,
        )
        if said.verdict == "undo":
            self._check_undo(decision)
        try:
            return record_verdict(self._store, decision)
        except InputError as refusal:
            raise ConflictError(str(refusal)) from refusal

    def last(self, reviewer: str, study_name: str) -> Verdict | None:
        """Give the reviewer's newest standing verdict, the one that an undo takes back."""
        said = self._said(self._study(study_name)) if study_name else self._said(None)
        mine = [
            d
            for given in said.values()
            for d in effective_verdicts(given)
            if d.reviewer == reviewer
        ]
        return max(mine, key=lambda d: d.decided_at, default=None)

    def agreement(self, reviewer: str) -> AgreementPage:
        """Show where reviewers differ and how far they agree."""
        rows = self._rows(reviewer)
        answers: dict[str, dict[str, str]] = {}
        for row in rows:
            for vote in row.consensus.verdicts:
                answers.setdefault(vote.reviewer, {})[row.entry.nodule_id] = str(vote.choice)
        patients = {row.entry.nodule_id: row.entry.patient for row in rows}
        pairs = pairwise_kappas(answers, patients, seed=KAPPA_SEED)
        return AgreementPage(
            rule=self._rule.rule,
            disputes=tuple(row for row in rows if row.consensus.is_disputed),
            pairs=tuple((first, second, kappa) for (first, second), kappa in pairs.items()),
            joint=joint_kappa(answers, patients, seed=KAPPA_SEED) if len(answers) > 2 else None,
            counts=tuple(sorted((name, len(given)) for name, given in answers.items())),
        )

    def _rows(self, reviewer: str, *, at_most_old_s: float = 0.0) -> list[Row]:
        said = self._said(None)
        return [
            make_row(
                entry, find_consensus(said.get(nodule_id, []), entry.digest, self._rule), reviewer
            )
            for nodule_id, entry in self._index.entries(at_most_old_s=at_most_old_s).items()
        ]

    def _progress(self, rows: Sequence[Row]) -> Progress:
        by_person = [
            row for row in rows if row.consensus.verdict and not row.consensus.verdict.automatic
        ]
        total = len(rows) + self._index.unread
        return Progress(sum(row.mine is not None for row in rows), total, len(by_person))

    def _said(self, study: Study | None) -> dict[str, list[Verdict]]:
        """Give the verdicts by nodule, of a study or of the review, as they are stored now."""
        log = (
            self._study_logs.setdefault(study.name, VerdictLog(self._store, study.name))
            if study
            else self._log
        )
        log.refresh()
        return log.by_nodule()

    def _current(self, nodule_id: str) -> CatalogueEntry:
        entry = self._index.current(nodule_id)
        if entry is None:
            raise UnknownItemError(f"there is no finished nodule {nodule_id}")
        return entry

    def _study(self, name: str) -> Study:
        try:
            return read_study(self._store, name)
        except InputError as refusal:
            raise UnknownItemError(f"there is no study {name}") from refusal

    def _study_entry(self, study: Study, nodule_id: str) -> tuple[StudyItem, CatalogueEntry]:
        item = study.item(nodule_id)
        entry = self._index.case(nodule_id, item.digest) if item else None
        if item is None or entry is None:
            raise UnknownItemError(f"the study {study.name} has no nodule {nodule_id}")
        return item, entry

    def _study_answers(self, study: Study, reviewer: str) -> dict[str, Verdict]:
        return study_answers(self._said(study)).get(reviewer, {})

    def _is_rater(self, study: Study, reviewer: str) -> bool:
        said = sorted(
            (d for given in self._said(study).values() for d in given), key=lambda d: d.decided_at
        )
        raters = raters_of([d.reviewer for d in said], study.raters)
        return reviewer in raters or len(raters) < study.raters

    def _shown(
        self, reviewer: str, entry: CatalogueEntry, item: StudyItem | None, blind: bool
    ) -> _Shown:
        names = item.options if item else entry.methods
        if blind:
            names = shuffled(
                names,
                f"{'study' if item else 'review'}|{reviewer}|{entry.nodule_id}|{entry.digest}",
            )
        return _Shown(entry.digest, tuple(names), item.method if item else "")

    def _chosen(
        self,
        reviewer: str,
        said: VerdictIn,
        entry: CatalogueEntry,
        item: StudyItem | None,
        blind: bool,
    ) -> str | None:
        """Turn the place on the screen into what stood there."""
        if said.verdict != "choose":
            if said.place is not None or (said.verdict == "discard") != bool(said.reason):
                raise UnknownItemError(
                    "only a choice has a place, and only a discard has a reason, which it needs"
                )
            if item and said.verdict == "discard":
                raise UnknownItemError("in a study one of the options is chosen")
            return None
        names = self._shown(reviewer, entry, item, blind).names
        if (
            said.place is None
            or said.place > len(names)
            or said.reason
            or names[said.place - 1] in entry.missing
        ):
            raise UnknownItemError(f"there is nothing to choose at place {said.place}")
        return names[said.place - 1]

    def _check_undo(self, decision: Verdict) -> None:
        known = effective_verdicts(read_verdicts(self._store, decision.nodule_id, decision.study))
        mine = [
            one for one in known if one.id == decision.undoes and one.reviewer == decision.reviewer
        ]
        replayed = [
            one
            for one in read_verdicts(self._store, decision.nodule_id, decision.study)
            if one.id == decision.id and one.equals_apart_from_id(decision)
        ]
        if not mine and not replayed:
            raise ConflictError("there is no such verdict of yours to take back")

    def _check_shown(self, nodule_id: str, digest: str) -> None:
        if self._index.case(nodule_id, digest) is None:
            raise UnknownItemError(f"there is no finished case {nodule_id}/{digest}")


def shuffled(names: Sequence[str], seed: str) -> tuple[str, ...]:
    """Shuffle by a seed that is text; the same text always gives the same order."""
    return tuple(sorted(names, key=lambda name: hashlib.sha256(f"{seed}|{name}".encode()).digest()))


def study_order(study: Study, reviewer: str) -> list[StudyItem]:
    """Give a study's nodules in the order in which one rater sees them."""
    by_id = {item.nodule_id: item for item in study.items}
    return [by_id[name] for name in shuffled(list(by_id), f"{study.name}|{study.seed}|{reviewer}")]


def study_answers(said: dict[str, list[Verdict]]) -> dict[str, dict[str, Verdict]]:
    """Give each rater's latest choice by nodule."""
    answers: dict[str, dict[str, Verdict]] = {}
    for nodule_id, decisions in said.items():
        for decision in effective_verdicts(decisions):
            if decision.verdict == "choose":
                answers.setdefault(decision.reviewer, {})[nodule_id] = decision
    return answers


def _options(
    entry: CatalogueEntry, names: Sequence[str], mine: Verdict | None, *, blind: bool
) -> tuple[Option, ...]:
    places = {name: place for place, name in enumerate(names, 1)}
    best = {
        figure: min(
            (known[figure] for known in entry.figures.values() if figure in known), default=None
        )
        for figure in SHOWN_FIGURES
    }
    tied = {
        name: [other for group in entry.tied if name in group for other in group] for name in names
    }
    return tuple(
        Option(
            place=place,
            name="" if blind else name,
            why_missing=entry.missing.get(name, ""),
            rank=entry.ranking.index(name) + 1 if name in entry.ranking and not blind else None,
            figures=()
            if blind
            else tuple(
                Figure(value, value is not None and value == best[figure])
                for figure in SHOWN_FIGURES
                for value in [entry.figures.get(name, {}).get(figure)]
            ),
            tied_with=tuple(
                sorted({places[other] for other in tied[name] if other in places and other != name})
            ),
            is_mine=mine is not None and mine.choice == name,
        )
        for name, place in places.items()
    )

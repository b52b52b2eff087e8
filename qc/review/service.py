"""The review of a store: what a reviewer sees of its nodules, and recording their verdicts."""

from collections.abc import Sequence

from matting.errors import InputError
from matting.targets import Target
from qc.review.catalogue import MAX_AGE_S, Catalogue, CatalogueEntry
from qc.review.inputs import ConflictError, UnknownItemError, VerdictIn
from qc.review.options import SHOWN_METRICS, OptionOrder
from qc.review.pages import AgreementPage, NodulePage, Progress, QueuePage
from qc.review.payloads import CasePayloads, pack_overlays
from qc.review.queue import Query, Row, make_row, neighbours, select
from qc.studies.agreement import joint_kappa, pairwise_kappas
from storage.errors import CorruptionError
from storage.recipe import ReviewSettings
from storage.records import Verdict
from storage.reviews.consensus import find_consensus
from storage.reviews.studies import list_studies
from storage.reviews.verdicts import (
    VerdictLog,
    effective_verdicts,
    find_verdicts,
)
from storage.store import Store

KAPPA_SEED = 20221011
"""Seeds the bootstrap of the agreement page, so that its intervals do not change on reload."""


class ReviewService:
    """Reads what is to be reviewed and records verdicts; keeps no state that the store lacks.

    Args:
        store: The store under review.
        settings: Which question is asked, and how the verdicts of several people are combined.
        blind: Whether everybody reviews without names, candidates shuffled.
    """

    def __init__(self, store: Store, settings: ReviewSettings, *, blind: bool) -> None:
        self.store = store
        self._settings = settings
        self._blind = blind
        self._log = VerdictLog(store)
        self.catalogue = Catalogue(store)
        self.payloads = CasePayloads(store)

    def warm_up(self) -> int:
        """Start reading what every page needs; return the number of nodules."""
        self._log.refresh()
        return len(self.catalogue.entries()) + self.catalogue.unread

    def is_blind(self, query: Query) -> bool:
        """Return whether candidates are shown shuffled and without names."""
        return self._blind or query.blind

    def queue(self, reviewer: str, query: Query) -> QueuePage:
        """Return the page that lists the nodules that pass the filters."""
        rows = self._rows(reviewer)
        return QueuePage(
            rows=tuple(select(rows, query)),
            query=query,
            progress=self._progress(rows),
            unread=self.catalogue.unread,
            damaged=(*self.catalogue.damaged, *(error.key for error in self._log.damaged)),
            studies=tuple(list_studies(self.store)),
            hides_names=self._blind,
        )

    def nodule(self, reviewer: str, nodule_id: str, query: Query) -> NodulePage:
        """Return the page of one nodule as it is stored now.

        Raise UnknownItemError if it is not.
        """
        entry = self._current(nodule_id)
        is_blind = self.is_blind(query)
        stored = find_verdicts(self.store, nodule_id)
        consensus = find_consensus(stored.verdicts, entry.digest, self._settings)
        mine = consensus.verdict_of(reviewer)
        others = tuple(one for one in consensus.verdicts if one.reviewer != reviewer)
        # The list may be a few seconds old while a reviewer works through it; this row is not.
        row = make_row(entry, consensus, reviewer, self._notes(nodule_id, stored.damaged))
        rows = [row, *self._other_rows(reviewer, nodule_id)]
        before, after = neighbours(rows, query, nodule_id)
        order = self._order(reviewer, entry, is_blind)
        return NodulePage(
            entry=entry,
            study=None,
            is_blind=is_blind,
            may_see_names=not self._blind,
            options=order.options(mine),
            shown_first=order.shown_first,
            target=self._settings.target,
            metric_names=() if is_blind else SHOWN_METRICS,
            mine=mine,
            others=others if mine else (),
            others_count=len(others),
            warnings=() if is_blind else row.warnings,
            is_stale=any(one.reviewer == reviewer for one in consensus.stale),
            progress=self._progress(rows),
            address=f"/nodule/{nodule_id}{query.address}",
            query=query,
            previous=f"/api/nodule/{before}{query.address}" if before else None,
            next=f"/api/nodule/{after}{query.address}" if after else None,
        )

    def ct(self, nodule_id: str, digest: str) -> bytes:
        """Return a case's CT, packed and compressed; raise UnknownItemError if there is none."""
        if self.catalogue.case(nodule_id, digest) is None:
            raise UnknownItemError(f"there is no finished case {nodule_id}/{digest}")
        return self.payloads.ct(nodule_id, digest)

    def overlays(self, reviewer: str, nodule_id: str, digest: str, query: Query) -> bytes:
        """Return a case's mattes in the reviewer's order with its marks, packed and compressed."""
        entry = self._current(nodule_id)
        if entry.digest != digest:
            raise UnknownItemError(f"{nodule_id} has another case now")
        order = self._order(reviewer, entry, self.is_blind(query))
        overlays = self.payloads.overlays(nodule_id, digest)
        return pack_overlays(overlays, order.names, "", with_marks=True)

    def record(self, reviewer: str, verdict_in: VerdictIn) -> Verdict:
        """Store a verdict.

        Args:
            reviewer: Whose session it is.
            verdict_in: What the page sent.

        Returns:
            The verdict as stored.

        Raises:
            ConflictError: It was given by another reviewer, or on a case that has been replaced, or
                its id was used for another verdict, or it undoes one that is not there.
            UnknownItemError: There is no such nodule or option.
        """
        entry = self._current(verdict_in.nodule)
        blind = self._blind or verdict_in.blind
        order = self._order(reviewer, entry, blind, verdict_in.target)
        return store_verdict(self._log, reviewer, verdict_in, order)

    def last_verdict(self, reviewer: str) -> Verdict | None:
        """Return the reviewer's newest verdict that was not undone: the one an undo would undo."""
        self._log.refresh()
        return newest_of(reviewer, self._log)

    def agreement(self, reviewer: str) -> AgreementPage:
        """Return the page that shows where reviewers differ and how far they agree."""
        rows = self._rows(reviewer)
        chosen: dict[str, dict[str, str]] = {}
        for row in rows:
            for verdict in row.consensus.verdicts:
                chosen.setdefault(verdict.reviewer, {})[row.entry.nodule_id] = str(verdict.choice)
        patients = {row.entry.nodule_id: row.entry.patient for row in rows}
        pairs = pairwise_kappas(chosen, patients, seed=KAPPA_SEED)
        return AgreementPage(
            rule=self._settings.rule,
            disputes=tuple(row for row in rows if row.consensus.is_disputed),
            pairs=tuple((first, second, kappa) for (first, second), kappa in pairs.items()),
            joint=joint_kappa(chosen, patients, seed=KAPPA_SEED) if len(chosen) > 2 else None,
            counts=tuple(sorted((name, len(nodules)) for name, nodules in chosen.items())),
        )

    def _rows(self, reviewer: str, *, max_age_s: float = 0.0) -> list[Row]:
        self._log.refresh()
        verdicts = self._log.by_nodule()
        damaged = self._log.damaged
        rows = []
        for nodule_id, entry in self.catalogue.entries(max_age_s=max_age_s).items():
            consensus = find_consensus(verdicts.get(nodule_id, []), entry.digest, self._settings)
            lost = [error for error in damaged if error.key.split("/")[-2] == nodule_id]
            rows.append(make_row(entry, consensus, reviewer, self._notes(nodule_id, lost)))
        return rows

    def _notes(self, nodule_id: str, damaged: Sequence[CorruptionError]) -> tuple[str, ...]:
        """Return what else to know of a nodule: its source is away, a verdict is damaged."""
        note = self.catalogue.note(nodule_id)
        lost = [f"a verdict cannot be read: {error.key}" for error in damaged]
        return (*([note] if note else []), *lost)

    def _other_rows(self, reviewer: str, nodule_id: str) -> list[Row]:
        rows = self._rows(reviewer, max_age_s=MAX_AGE_S)
        return [row for row in rows if row.entry.nodule_id != nodule_id]

    def _progress(self, rows: Sequence[Row]) -> Progress:
        settled = [row for row in rows if row.is_settled_by_people]
        return Progress(
            done=sum(row.mine is not None for row in rows),
            total=len(rows) + self.catalogue.unread,
            settled=len(settled),
        )

    def _current(self, nodule_id: str) -> CatalogueEntry:
        entry = self.catalogue.current(nodule_id)
        if entry is None:
            raise UnknownItemError(f"there is no finished nodule {nodule_id}")
        return entry

    def _order(
        self,
        reviewer: str,
        entry: CatalogueEntry,
        is_blind: bool,
        target: Target | None = None,
    ) -> OptionOrder:
        """Build the order of the question that a page was shown with, or of the present one."""
        seed = f"review|{reviewer}|{entry.nodule_id}|{entry.digest}"
        asked = target or self._settings.target
        return OptionOrder.of_review(entry, asked, seed=seed, is_blind=is_blind)


def store_verdict(
    log: VerdictLog, reviewer: str, verdict_in: VerdictIn, order: OptionOrder
) -> Verdict:
    """Check a verdict against the case it was given on, and store it.

    Args:
        log: Where to.
        reviewer: Whose session it is.
        verdict_in: What the page sent.
        order: The options as this reviewer saw them.

    Raises:
        ConflictError: It was given by another reviewer, or on a case that has been replaced, or its
            id was used for another verdict, or it undoes one that is not there.
        UnknownItemError: There is no such option.
    """
    if verdict_in.reviewer != reviewer:
        raise ConflictError(
            f"this verdict was given by {verdict_in.reviewer}, but {reviewer} is signed in now"
        )
    if verdict_in.digest != order.entry.digest and verdict_in.verdict != "undo":
        raise ConflictError(
            f"{verdict_in.nodule} was computed again since it was shown; look at it again"
        )
    verdict = Verdict(
        nodule_id=verdict_in.nodule,
        digest=verdict_in.digest,
        verdict=verdict_in.verdict,
        method=order.chosen_by(verdict_in),
        reviewer=reviewer,
        automatic=False,
        note=verdict_in.note.strip(),
        id=verdict_in.id,
        reason=verdict_in.reason,
        seconds=round(verdict_in.seconds, 1),
        blind=order.is_blind,
        place=verdict_in.place,
        undoes=verdict_in.undoes,
        study=verdict_in.study,
    )
    if verdict.verdict == "undo":
        _check_undo(log.store, verdict)
    try:
        return log.record(verdict)
    except InputError as error:
        raise ConflictError(str(error)) from error


def newest_of(reviewer: str, log: VerdictLog) -> Verdict | None:
    """Return a reviewer's newest verdict in a log that was not undone; None if there is none."""
    mine = [
        verdict
        for verdicts in log.by_nodule().values()
        for verdict in effective_verdicts(verdicts)
        if verdict.reviewer == reviewer
    ]
    return max(mine, key=lambda verdict: verdict.order, default=None)


def _check_undo(store: Store, undo: Verdict) -> None:
    """Raise ConflictError unless the verdict to undo is the reviewer's own and still stands."""
    stored = find_verdicts(store, undo.nodule_id, undo.study).verdicts
    for verdict in effective_verdicts(stored):
        if verdict.id == undo.undoes and verdict.reviewer == undo.reviewer:
            return
    # The page sends a verdict again until it is answered: this very undo may be stored already.
    for verdict in stored:
        if verdict.id == undo.id and verdict.equals_apart_from_id(undo):
            return
    raise ConflictError("there is no such verdict of yours to undo")

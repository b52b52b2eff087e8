"""Clinicians' studies: what a rater sees, and recording their choices (paper, Fig. 3).

A rater chooses among the readers' masks and the released matte, all shuffled and without names.
"""

from matting.errors import InputError
from matting.targets import target_of
from qc.review.catalogue import Catalogue, CatalogueEntry
from qc.review.inputs import ConflictError, UnknownItemError, VerdictIn
from qc.review.options import OptionOrder, shuffled
from qc.review.pages import NodulePage, Progress, StudyPage
from qc.review.payloads import CasePayloads, pack_overlays
from qc.review.queue import Query
from qc.review.service import newest_of, store_verdict
from storage.records import Study, StudyItem, Verdict
from storage.reviews.studies import list_studies, raters_of, read_study
from storage.reviews.verdicts import VerdictLog, effective_verdicts
from storage.store import Store


class StudyService:
    """Reads a store's studies and records their verdicts, which do not affect the release.

    Args:
        store: The store that holds the studies.
        catalogue: Its finished cases.
        payloads: Their packed volumes.
    """

    def __init__(self, store: Store, catalogue: Catalogue, payloads: CasePayloads) -> None:
        self._store = store
        self._catalogue = catalogue
        self._payloads = payloads
        self._logs: dict[str, VerdictLog] = {}

    def names(self) -> tuple[str, ...]:
        """Return the names of all studies."""
        return tuple(list_studies(self._store))

    def shows(self, nodule_id: str, digest: str) -> bool:
        """Return whether any study shows a case."""
        studies = (self._study(name) for name in self.names())
        items = (study.item(nodule_id) for study in studies)
        return any(item is not None and item.digest == digest for item in items)

    def overview(self, reviewer: str, name: str) -> StudyPage:
        """Return a study's first page: how far a rater is."""
        study = self._study(name)
        chosen = self._choices(study, reviewer)
        order = study_order(study, reviewer)
        first = next((item for item in order if item.nodule_id not in chosen), None)
        return StudyPage(
            study=study,
            progress=Progress(len(chosen), len(study.items), len(chosen)),
            is_full=not self._may_rate(study, reviewer),
            first=f"/study/{name}/{first.nodule_id}" if first else None,
        )

    def nodule(self, reviewer: str, name: str, nodule_id: str) -> NodulePage:
        """Return the page of one nodule of a study, with nothing that identifies an option."""
        study = self._study(name)
        item, entry = self._item(study, nodule_id)
        chosen = self._choices(study, reviewer)
        mine = chosen.get(nodule_id)
        ids = [one.nodule_id for one in study_order(study, reviewer)]
        index = ids.index(nodule_id)
        order = self._order(reviewer, entry, item)
        return NodulePage(
            entry=entry,
            study=study,
            is_blind=True,
            may_see_names=False,
            options=order.options(mine),
            shown_first=order.shown_first,
            target=target_of(item.method),
            metric_names=(),
            mine=mine,
            others=(),
            others_count=0,
            warnings=(),
            is_stale=False,
            progress=Progress(len(chosen), len(ids), len(chosen)),
            address=f"/study/{name}/{nodule_id}",
            query=Query(),
            previous=f"/api/study/{name}/{ids[index - 1]}" if index else None,
            next=f"/api/study/{name}/{ids[index + 1]}" if index + 1 < len(ids) else None,
        )

    def overlays(self, reviewer: str, name: str, nodule_id: str, digest: str) -> bytes:
        """Return a case's options in the rater's order, packed and compressed."""
        item, entry = self._item(self._study(name), nodule_id)
        if entry.digest != digest:
            raise UnknownItemError(f"the study shows another case of {nodule_id}")
        order = self._order(reviewer, entry, item)
        overlays = self._payloads.overlays(nodule_id, digest)
        return pack_overlays(overlays, order.names, item.method, with_marks=False)

    def record(self, reviewer: str, verdict_in: VerdictIn) -> Verdict:
        """Store a rater's verdict.

        Args:
            reviewer: Whose session it is.
            verdict_in: What the page sent; its `study` names the study.

        Returns:
            The verdict as stored.

        Raises:
            ConflictError: As `ReviewService.record`, or the study has all its raters.
            UnknownItemError: There is no such study, nodule or option.
        """
        study = self._study(verdict_in.study)
        item, entry = self._item(study, verdict_in.nodule)
        if not self._may_rate(study, reviewer):
            raise ConflictError(f"the study {study.name} has its {study.raters} raters already")
        if verdict_in.verdict == "discard":
            raise UnknownItemError("in a study one of the options is chosen")
        order = self._order(reviewer, entry, item)
        return store_verdict(self._log(study), reviewer, verdict_in, order)

    def last_verdict(self, reviewer: str, name: str) -> Verdict | None:
        """Return the rater's newest verdict that was not undone: the one an undo would undo."""
        return newest_of(reviewer, self._log(self._study(name)))

    def _study(self, name: str) -> Study:
        try:
            return read_study(self._store, name)
        except InputError as error:
            raise UnknownItemError(f"there is no study {name}") from error

    def _item(self, study: Study, nodule_id: str) -> tuple[StudyItem, CatalogueEntry]:
        item = study.item(nodule_id)
        entry = self._catalogue.case(nodule_id, item.digest) if item else None
        if item is None or entry is None:
            raise UnknownItemError(f"the study {study.name} has no nodule {nodule_id}")
        return item, entry

    def _log(self, study: Study) -> VerdictLog:
        """Return the study's verdicts as they are stored now."""
        log = self._logs.setdefault(study.name, VerdictLog(self._store, study.name))
        log.refresh()
        return log

    def _choices(self, study: Study, reviewer: str) -> dict[str, Verdict]:
        return latest_choices(self._log(study).by_nodule()).get(reviewer, {})

    def _may_rate(self, study: Study, reviewer: str) -> bool:
        verdicts = [one for given in self._log(study).by_nodule().values() for one in given]
        verdicts.sort(key=lambda verdict: verdict.order)
        raters = raters_of([verdict.reviewer for verdict in verdicts], study.raters)
        return reviewer in raters or len(raters) < study.raters

    def _order(self, reviewer: str, entry: CatalogueEntry, item: StudyItem) -> OptionOrder:
        seed = f"study|{reviewer}|{entry.nodule_id}|{entry.digest}"
        return OptionOrder.of_study(entry, item.options, seed=seed)


def study_order(study: Study, reviewer: str) -> list[StudyItem]:
    """Return a study's nodules in the order in which one rater sees them."""
    by_id = {item.nodule_id: item for item in study.items}
    ids = shuffled(list(by_id), f"{study.name}|{study.seed}|{reviewer}")
    return [by_id[nodule_id] for nodule_id in ids]


def latest_choices(verdicts: dict[str, list[Verdict]]) -> dict[str, dict[str, Verdict]]:
    """Return each rater's latest choice by nodule, from a study's verdicts by nodule."""
    chosen: dict[str, dict[str, Verdict]] = {}
    for nodule_id, given in verdicts.items():
        for verdict in effective_verdicts(given):
            if verdict.verdict == "choose":
                chosen.setdefault(verdict.reviewer, {})[nodule_id] = verdict
    return chosen

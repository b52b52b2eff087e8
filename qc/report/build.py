"""The report: one HTML file that shows what a run or a release holds, readable anywhere, offline.

The page is a dataclass (`qc.report.page`), its looks one template. The file loads nothing from
anywhere: pictures are inside, and its content policy tells the browser to refuse all else.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from matting.targets import Target
from qc.figures.templating import render_template, replace_file
from qc.report.errors import error_table
from qc.report.nodules import glossary, nodule_errors, nodule_section
from qc.report.page import (
    FormTable,
    NoduleCounts,
    ReasonGroup,
    ReleaseFacts,
    ReportPage,
    RunSummary,
    StageTime,
    TrainingFacts,
)
from storage.cases.case import Case, read_case, read_case_files
from storage.cases.outcomes import read_outcomes
from storage.errors import CorruptionError, NotFoundError
from storage.records import Outcome
from storage.store import Store

__all__ = ["ReleaseFacts", "RunSummary", "build_page", "write_report"]

MAX_PICTURES = 60
"""Nodules with pictures unless told otherwise: beyond some 10 MB a page is slow to open and to
print."""

STAGES = ("scan", "crop", "resample", "trimap", "solve", "judge", "write")
"""The order in which stages are shown; one that is not named here comes after them."""


def write_report(
    store: Store,
    path: Path,
    *,
    title: str,
    run: RunSummary | None,
    picks: Mapping[str, str] | None = None,
    release: ReleaseFacts | None = None,
    training: TrainingFacts | None = None,
    forms: FormTable | None = None,
    target: Target = "density",
    limit: int = MAX_PICTURES,
) -> None:
    """Write the report of a store as one self-contained HTML file, whole or not at all.

    Args:
        store: Where outcomes and cases lie.
        path: The file to write; one that is there is replaced.
        title: The page's heading.
        run: How the run went, if one is to be reported.
        picks: The chosen method by nodule id.
        release: The release, if one is to be reported.
        training: The network that was trained on it, if one was.
        forms: Errors of both forms of the methods, if both were computed.
        target: The question by which the methods are ranked.
        limit: At most this many nodules get pictures; the tables hold all.
    """
    page = build_page(
        store,
        title=title,
        run=run,
        picks=picks or {},
        release=release,
        training=training,
        forms=forms,
        target=target,
        limit=limit,
    )
    replace_file(path, render(page).encode())


def build_page(
    store: Store,
    *,
    title: str,
    run: RunSummary | None,
    picks: Mapping[str, str],
    release: ReleaseFacts | None,
    limit: int,
    training: TrainingFacts | None = None,
    forms: FormTable | None = None,
    target: Target = "density",
) -> ReportPage:
    """Gather everything that the page shows; draws the pictures of the first `limit` nodules."""
    outcomes = list(read_outcomes(store))
    cases, unreadable = _open_cases(store, outcomes)
    nodules = tuple(
        nodule_section(case, outcome, picks.get(case.nodule_id), target, pictures=place < limit)
        for place, (outcome, case) in enumerate(cases)
    )
    measured = [
        m for m in (nodule_errors(case, picks.get(case.nodule_id)) for _, case in cases) if m.errors
    ]
    methods = tuple(dict.fromkeys(name for _, case in cases for name in case.methods))
    return ReportPage(
        title=title,
        counts=_counts(store, outcomes, cases, len(unreadable)),
        run=run,
        stages=_stages(outcomes),
        reasons=tuple(_reasons([*_without_case(outcomes), *unreadable])),
        release=release,
        training=training,
        errors=error_table(measured, methods),
        forms=forms,
        form_names=tuple(sorted(Counter(case.facts.form_name for _, case in cases).items())),
        target=target,
        nodules=nodules,
        limit=limit,
        glossary=glossary(nodules),
    )


def render(page: ReportPage) -> str:
    """Fill the template; every value is escaped, and a value that the page lacks is an error."""
    return render_template("report.html", page=page)


def _open_cases(
    store: Store, outcomes: Sequence[Outcome]
) -> tuple[list[tuple[Outcome, Case]], list[tuple[str, str, str]]]:
    """Open every finished case; what cannot be read is told apart, never left out in silence."""
    cases, unreadable = [], []
    for outcome in outcomes:
        if outcome.state == "done":
            try:
                cases.append((outcome, _open_case(store, outcome)))
            except (CorruptionError, NotFoundError) as error:
                unreadable.append(
                    ("unreadable", f"The case cannot be read: {error}", outcome.nodule_id)
                )
    return cases, unreadable


def _open_case(store: Store, outcome: Outcome) -> Case:
    case = read_case(store, outcome.nodule_id, outcome.digest or "")
    if not case.methods:
        raise CorruptionError(
            f"case {outcome.nodule_id}/{outcome.digest} names no methods. Recompute it."
        )
    return case


def _counts(
    store: Store,
    outcomes: Sequence[Outcome],
    cases: Sequence[tuple[Outcome, Case]],
    unreadable: int,
) -> NoduleCounts:
    stored = (read_case_files(store, case.nodule_id, case.digest).values() for _, case in cases)
    return NoduleCounts(
        done=len(cases),
        computed=sum(outcome.computed for outcome, _ in cases),
        refused=sum(
            outcome.state == "refused" and not outcome.is_selection for outcome in outcomes
        ),
        failed=sum(outcome.state == "failed" for outcome in outcomes),
        left_out=sum(outcome.state == "refused" and outcome.is_selection for outcome in outcomes),
        unreadable=unreadable,
        synthetic=sum(case.facts.synthetic for _, case in cases),
        stored_bytes=sum(entry.size_bytes for entries in stored for entry in entries),
    )


def _stages(outcomes: Sequence[Outcome]) -> tuple[StageTime, ...]:
    totals: dict[str, float] = defaultdict(float)
    for outcome in outcomes:
        for stage, seconds in outcome.seconds.items():
            totals[stage] += seconds
    whole = sum(totals.values()) or 1.0
    order = {stage: place for place, stage in enumerate(STAGES)}
    in_order = sorted(totals.items(), key=lambda total: (order.get(total[0], len(order)), total[0]))
    return tuple(StageTime(stage, seconds, 100 * seconds / whole) for stage, seconds in in_order)


def _without_case(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, str, str]]:
    for outcome in outcomes:
        if outcome.state != "done":
            yield (
                "left out" if outcome.is_selection else outcome.state,
                outcome.reason,
                outcome.nodule_id,
            )


def _reasons(complaints: Sequence[tuple[str, str, str]]) -> Iterator[ReasonGroup]:
    """Group nodules by state and reason, what needs a person first."""
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for kind, sentence, nodule_id in complaints:
        groups[kind, sentence].append(nodule_id)
    order = ("unreadable", "failed", "refused", "left out")
    for (kind, sentence), nodules in sorted(
        groups.items(), key=lambda g: (order.index(g[0][0]), -len(g[1]), g[0])
    ):
        yield ReasonGroup(kind, sentence, tuple(nodules))

"""The report: HTML that shows what a store or a release holds, readable anywhere, offline.

The page is a dataclass (`qc.report.page`), its looks one template. The file loads nothing from
anywhere: pictures are inside, and its content policy tells the browser to refuse all else. Of a
large store, each nodule has a page of its own in a folder beside the report.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from matting.targets import Target
from qc.figures.templating import read_script, render_template, script_hash
from qc.report.entries import DrawnEntry, Entry, EntryDrawer, Pictures
from qc.report.errors import error_table
from qc.report.nodules import glossary
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
from storage.cases.outcomes import read_outcomes
from storage.output import write_output
from storage.records import Manifest, Outcome
from storage.store import Store

__all__ = ["ReleaseFacts", "RunSummary", "build_page", "write_report"]

MAX_INSIDE = 60
"""Nodules with pictures inside the report: beyond some 15 MB a page is slow to open and to print,
and each nodule gets a page of its own."""

STAGES = ("scan", "crop", "resample", "trimap", "solve", "judge", "write")
"""The order in which stages are shown; one that is not named here comes after them."""

STAGE_LABELS = {"judge": "candidate metrics"}
"""What a stage is called for people, where its name in the records says too little."""

MapEntries = Callable[[Callable[[Entry], DrawnEntry], Sequence[Entry]], Iterable[DrawnEntry]]
"""Applies a function to every nodule, in their order; `map` is one."""


def write_report(
    store: Store,
    path: Path,
    *,
    title: str,
    run: RunSummary | None,
    picks: Mapping[str, str] | None = None,
    manifest: Manifest | None = None,
    release: ReleaseFacts | None = None,
    training: TrainingFacts | None = None,
    forms: FormTable | None = None,
    target: Target = "density",
    pictures: Pictures | None = None,
    map_entries: MapEntries = map,
) -> None:
    """Write the report of a store or release as an HTML file, whole or not at all.

    Args:
        store: Where outcomes and cases lie.
        path: The file to write; one that is there is replaced. Pages of nodules are written before
            it, into a folder of its name and ``.d``.
        title: The page's heading.
        run: How the run went, if one is to be reported.
        picks: The chosen method by nodule id.
        manifest: Of the release whose nodules are to be shown, as released; None to show all
            nodules of the store as they are now.
        release: What is said of the release, if one is to be reported.
        training: The network that was trained on it, if one was.
        forms: Errors of both forms of the methods, if both were computed.
        target: The question by which the methods are ranked.
        pictures: Where they are; None for inside the report up to `MAX_INSIDE` nodules, and beyond
            on a page for each nodule.
        map_entries: Draws the nodules, by default one after another.
    """
    page = build_page(
        store,
        path,
        title=title,
        run=run,
        picks=picks or {},
        manifest=manifest,
        release=release,
        training=training,
        forms=forms,
        target=target,
        pictures=pictures,
        map_entries=map_entries,
    )
    write_output(path, render(page).encode())


def build_page(
    store: Store,
    path: Path,
    *,
    title: str,
    run: RunSummary | None,
    picks: Mapping[str, str],
    release: ReleaseFacts | None,
    manifest: Manifest | None = None,
    pictures: Pictures | None = None,
    training: TrainingFacts | None = None,
    forms: FormTable | None = None,
    target: Target = "density",
    map_entries: MapEntries = map,
) -> ReportPage:
    """Gather everything that the report shows, and write the pages of nodules, if there are any."""
    outcomes = list(read_outcomes(store))
    if manifest:
        outcomes = _as_released(outcomes, manifest)
        picks = {name: member.method for name, member in manifest.members.items()}
    entries = [
        Entry(one.nodule_id, one.digest or "", one.seconds, picks.get(one.nodule_id))
        for one in outcomes
        if one.state == "done"
    ]
    if pictures is None:
        pictures = "inside" if len(entries) <= MAX_INSIDE else "linked"
    drawer = EntryDrawer(store.url, target, pictures, path)
    drawn = list(map_entries(drawer, entries))
    nodules = tuple(one.section for one in drawn if one.section)
    measured = [one.errors for one in drawn if one.errors and one.errors.errors]
    methods = tuple(dict.fromkeys(row.name for nodule in nodules for row in nodule.methods))
    unreadable = [("unreadable", one.complaint, one.nodule_id) for one in drawn if one.complaint]
    without = list(_without_case(outcomes))
    if manifest:
        without += [("discarded", "Discarded by reviewers", name) for name in manifest.discarded]
    return ReportPage(
        title=title,
        counts=_counts(outcomes, drawn, manifest),
        run=run,
        stages=_stages(outcomes),
        reasons=tuple(_reasons([*without, *unreadable])),
        release=release,
        training=training,
        errors=error_table(measured, methods),
        forms=forms,
        form_names=tuple(sorted(Counter(nodule.form for nodule in nodules).items())),
        target=target,
        nodules=nodules,
        thumbnails=pictures != "none",
        folder=drawer.folder.name if pictures == "linked" and nodules else None,
        glossary=glossary(nodules),
    )


def render(page: ReportPage) -> str:
    """Fill the template; every value is escaped, and a value that the page lacks is an error."""
    sorting = read_script("sort.js")
    return render_template(
        "report.html", page=page, sorting=sorting, sorting_hash=script_hash(sorting)
    )


def _as_released(outcomes: Sequence[Outcome], manifest: Manifest) -> list[Outcome]:
    """Return an outcome for each nodule of a release, with what is known of its computation."""
    known = {done.digest: done for done in (outcome.last_done for outcome in outcomes) if done}
    return [
        known.get(member.digest)
        or Outcome(name, member.patient_id, "done", "", digest=member.digest)
        for name, member in sorted(manifest.members.items())
    ]


def _counts(
    outcomes: Sequence[Outcome], drawn: Sequence[DrawnEntry], manifest: Manifest | None
) -> NoduleCounts:
    sections = [one.section for one in drawn if one.section]
    readable = {section.id for section in sections}
    return NoduleCounts(
        done=len(sections),
        computed=sum(one.computed and one.nodule_id in readable for one in outcomes),
        discarded=len(manifest.discarded) if manifest else None,
        refused=sum(
            outcome.state == "refused" and not outcome.is_selection for outcome in outcomes
        ),
        failed=sum(outcome.state == "failed" for outcome in outcomes),
        left_out=sum(outcome.state == "refused" and outcome.is_selection for outcome in outcomes),
        unreadable=len(drawn) - len(sections),
        synthetic=sum(section.synthetic for section in sections),
        stored_bytes=sum(one.stored_bytes for one in drawn),
    )


def _stages(outcomes: Sequence[Outcome]) -> tuple[StageTime, ...]:
    totals: dict[str, float] = defaultdict(float)
    for outcome in outcomes:
        for stage, seconds in outcome.seconds.items():
            totals[stage] += seconds
    whole = sum(totals.values()) or 1.0
    order = {stage: place for place, stage in enumerate(STAGES)}
    in_order = sorted(totals.items(), key=lambda total: (order.get(total[0], len(order)), total[0]))
    return tuple(
        StageTime(STAGE_LABELS.get(stage, stage), seconds, 100 * seconds / whole)
        for stage, seconds in in_order
    )


def _without_case(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, str, str]]:
    for outcome in outcomes:
        if outcome.state != "done":
            yield (
                "excluded" if outcome.is_selection else outcome.state,
                outcome.reason,
                outcome.nodule_id,
            )


def _reasons(complaints: Sequence[tuple[str, str, str]]) -> Iterator[ReasonGroup]:
    """Group nodules by state and the problem that their messages name, what needs a person first.

    A message of invalid input begins with the problem; what follows, from ``got`` on, is the
    nodule's own.
    """
    groups: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for kind, sentence, nodule_id in complaints:
        groups[kind, sentence.partition(": got ")[0]].append((nodule_id, sentence))
    order = ("unreadable", "failed", "refused", "discarded", "excluded")
    for (kind, problem), found in sorted(
        groups.items(), key=lambda g: (order.index(g[0][0]), -len(g[1]), g[0])
    ):
        nodules = tuple(nodule_id for nodule_id, _ in found)
        messages = tuple(sentence for _, sentence in found)
        if len(set(messages)) == 1:
            yield ReasonGroup(kind, messages[0], nodules)
        else:
            yield ReasonGroup(kind, problem, nodules, messages)

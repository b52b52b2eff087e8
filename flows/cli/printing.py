"""Output of the commands: text and tables for people, JSON for programs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from rich.table import Table

from flows.cli.options import write_duration
from flows.engine.console import console, count_of
from flows.engine.result import STATE_LABELS, CurationResult
from matting.parameters import FORM_NAMES
from matting.targets import target_of
from qc.studies.agreement import Estimate
from storage.cases.outcomes import find_outcome, read_outcomes
from storage.errors import unknown_nodules
from storage.maintenance.gc import Garbage
from storage.records import JsonObject, Line, Manifest, Outcome, Run, to_json, to_the_second
from storage.releases.faults import find_release_faults
from storage.releases.release import (
    Release,
    find_withdrawal,
    is_published,
    list_versions,
    version_order,
)
from storage.results.checkpoints import network_label
from storage.results.experiments import Averages, experiment_prefix, read_costs, read_table
from storage.results.scores import scores_url
from storage.store import Store
from tasks.curation.context import CurationJob
from tasks.curation.inventory import take_inventory
from tasks.curation.plan import Plan, expected_wall_s, plan_nodule
from tasks.reproduce import Reproduction

if TYPE_CHECKING:
    from qc.review.pages import AgreementPage

STATES = ("done", "refused", "failed")
REGIONS = {
    "whole": "the whole patch",
    "near": "the union of the readers' masks and 5 mm around it",
    "unknown": "the unknown voxels of the trimap",
}
TRUTHS = {"released": "the released matte", "known": "the known alpha of the simulation"}
_MOST_LINES = 20
"""Nodules that are printed one by one."""
TABLE_SCALES = {"sad": 0.1, "mse": 1000.0, "grad": 0.1, "conn": 0.1}
"""Factors from raw metrics to the units of the tables."""


def show_plan(plan: Plan, workers: int) -> None:
    """Print what would run and why, grouped by reason, with estimates of time, size and memory.

    Args:
        plan: What would run.
        workers: That this machine would start.
    """
    to_compute = count_of(len(plan.to_compute), "nodule")
    unchanged = len(plan.actions) - len(plan.to_compute)
    console.print(
        f"{to_compute} to compute, {unchanged} unchanged, {len(plan.exclusions)} excluded; "
        f"{FORM_NAMES[plan.form]}",
        markup=False,
    )
    _print_reasons("reason", Counter(action.reason for action in plan.actions))
    _print_reasons("excluded", Counter(exclusion.reason for exclusion in plan.exclusions))
    if plan.notes:
        console.print(_first_few(plan.notes, "\n", "\n"), markup=False)
    basis = "typical nodules"
    if plan.finished_nodules:
        basis = count_of(plan.finished_nodules, "finished nodule")
    wall = timedelta(seconds=round(expected_wall_s(plan, workers)))
    console.print(
        f"expected: {wall} with {count_of(workers, 'worker')} here ({plan.expected_seconds:,.0f} s "
        f"of work), {plan.expected_bytes / 1e6:,.1f} MB (estimated from {basis})"
    )
    if plan.to_compute:
        console.print(f"memory: up to {plan.expected_peak_bytes / 1e6:,.0f} MB per worker")


def plan_json(plan: Plan) -> JsonObject:
    """Return what would run and why as JSON, for programs."""
    return {
        "form": plan.form,
        "nodules": [
            {"nodule": one.nodule.id, "compute": one.compute, "reason": one.reason}
            for one in plan.actions
        ],
        "excluded": [{"nodule": e.nodule_id, "reason": e.reason} for e in plan.exclusions],
        "expected_seconds": plan.expected_seconds,
        "expected_bytes": plan.expected_bytes,
        "expected_peak_bytes": plan.expected_peak_bytes,
        "finished_nodules": plan.finished_nodules,
    }


def show_result(result: CurationResult) -> None:
    """Print what a run did, and the nodules with invalid input, failed or excluded."""
    counts = ", ".join(f"{n} {STATE_LABELS[state]}" for state, n in result.states.items())
    console.print(
        f"{counts}; {len(result.plan.unchanged)} unchanged, "
        f"{len(result.plan.exclusions)} excluded; {FORM_NAMES[result.plan.form]}; "
        f"{result.wall_s} s",
        markup=False,
    )
    outcomes = (*result.outcomes, *result.plan.unchanged)
    _print_nodules(
        "invalid input or failed",
        [
            (o.nodule_id, f"{STATE_LABELS[o.state]} at {o.stage}", o.reason)
            for o in outcomes
            if o.state != "done"
        ],
    )
    kept = result.plan.kept_without_source
    _print_nodules(
        "kept, and not checked",
        [
            *((one.nodule.id, _state_of(one.previous), one.reason) for one in kept),
            *((one.nodule_id, "done", one.note) for one in result.outcomes if one.note),
        ],
    )
    _print_reasons("excluded", Counter(one.reason for one in result.plan.exclusions))
    if result.plan.notes:
        console.print(_first_few(result.plan.notes, "\n", "\n"), markup=False)
    if result.aborted:
        console.print(result.aborted, style="yellow", markup=False)


def _state_of(outcome: Outcome | None) -> str:
    return STATE_LABELS[outcome.state] if outcome else ""


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """The state of a store: the latest outcome of every nodule, and how the last run went."""

    outcomes: list[Outcome]
    last_run: Run | None = None
    choices: Mapping[str, int] = field(default_factory=dict)
    """Number of finished nodules by the method that was chosen, or ``discard``."""
    releases: tuple[str, ...] = ()
    """Published versions."""

    @property
    def included(self) -> list[Outcome]:
        """Outcomes of the nodules that the recipe did not exclude."""
        return [outcome for outcome in self.outcomes if not outcome.is_selection]

    @property
    def unfit(self) -> list[Outcome]:
        """Outcomes of nodules that were refused or failed."""
        return [outcome for outcome in self.included if outcome.state != "done"]

    @property
    def unreachable(self) -> list[Outcome]:
        """Outcomes of finished nodules whose source is away."""
        return [outcome for outcome in self.included if outcome.unreachable_since]

    @property
    def excluded(self) -> list[Outcome]:
        """Outcomes of the nodules that the recipe excluded."""
        return [outcome for outcome in self.outcomes if outcome.is_selection]

    @property
    def counts(self) -> dict[str, int]:
        """Number of included nodules by state."""
        counts: Counter[str] = Counter(outcome.state for outcome in self.included)
        return {state: counts[state] for state in STATES}

    @property
    def form_names(self) -> dict[str, int]:
        """Number of finished nodules by the form of their mattes."""
        names = Counter(one.form_name for one in self.included if one.state == "done")
        return dict(sorted(names.items()))

    @property
    def is_synthetic(self) -> bool:
        """Whether any CT is synthetic."""
        return any(outcome.synthetic for outcome in self.outcomes)

    @property
    def stored_bytes(self) -> int:
        """Size of the finished cases."""
        return sum(outcome.stored_bytes for outcome in self.included)


def status_json(status: StoreStatus) -> JsonObject:
    """Return the state of a store as JSON, for programs."""
    run = status.last_run
    return {
        "states": status.counts,
        "forms": status.form_names,
        "left_out": len(status.excluded),
        "stand_in": status.is_synthetic,
        "stored_bytes": status.stored_bytes,
        "chosen": dict(status.choices),
        "releases": list(status.releases),
        "unfit": [
            {"nodule": o.nodule_id, "state": o.state, "stage": o.stage, "reason": o.reason}
            for o in status.unfit
        ],
        "unreachable": [
            {"nodule": o.nodule_id, "since": o.unreachable_since} for o in status.unreachable
        ],
        "excluded": [{"nodule": o.nodule_id, "reason": o.reason} for o in status.excluded],
        "last_run": {**to_json(run), "nodules_per_hour": run.nodules_per_hour} if run else None,
    }


def show_status(status: StoreStatus) -> None:
    """Print the state of a store, for people."""
    counts = ", ".join(f"{n} {STATE_LABELS[state]}" for state, n in status.counts.items())
    forms = ", ".join(f"{name} {count}" for name, count in status.form_names.items())
    excluded = len(status.excluded)
    console.print(f"{counts}, {excluded} excluded; {status.stored_bytes / 1e6:,.1f} MB stored")
    if forms:
        console.print(f"mattes: {forms}")
    if status.is_synthetic:
        console.print("synthetic data: some or all scans are simulated", style="yellow")
    if status.last_run:
        _print_run(status.last_run)
    _print_nodules(
        "invalid input or failed",
        [(o.nodule_id, f"{STATE_LABELS[o.state]} at {o.stage}", o.reason) for o in status.unfit],
    )
    _print_nodules(
        "source not reachable", [(o.nodule_id, "done", o.note) for o in status.unreachable]
    )
    _print_reasons("excluded", Counter(one.reason for one in status.excluded))
    if status.choices:
        chosen = ", ".join(f"{name} {count}" for name, count in status.choices.items())
        console.print(f"chosen: {chosen}", markup=False)
    if status.releases:
        console.print(f"releases: {', '.join(status.releases)}", markup=False)


def _print_run(run: Run) -> None:
    ending = run.stopped or run.ending
    if ending == "none":
        ending = "running, or killed"
    speed = ""
    if run.nodules_per_hour:
        speed = f", {run.nodules_per_hour:,.0f} nodules per hour"
    console.print(
        f"last run: started {to_the_second(run.started)} on {run.host}, {ending}{speed}",
        markup=False,
    )


def show_why(store: Store, nodule_id: str, job: CurationJob | None) -> None:
    """Print the latest outcome of a nodule and, given a source, whether a run would compute it.

    Args:
        store: The store.
        nodule_id: The nodule.
        job: The source and the recipe; None where only the store is asked.

    Raises:
        InputError: The source, or the store where only that is asked, has no such nodule.
    """
    previous = find_outcome(store, nodule_id)
    if previous is not None:
        _print_outcome(previous)
    elif job is None:
        known = [outcome.nodule_id for outcome in read_outcomes(store)]
        raise unknown_nodules([nodule_id], known, "the store")
    else:
        console.print(f"{nodule_id}: not in this store", markup=False)
    if job is None:
        console.print("with --dicom or --files, this also says whether a run would compute it")
        return
    inventory = take_inventory(job, None)
    for exclusion in inventory.exclusions:
        if exclusion.nodule_id == nodule_id:
            console.print(f"would be excluded: {exclusion.reason}", markup=False)
            return
    for nodule in inventory.nodules:
        if nodule.id == nodule_id:
            action = plan_nodule(store, job, nodule, previous)
            decision = "be computed" if action.compute else "not be computed"
            console.print(f"would {decision}: {action.reason}", markup=False)
            return
    raise unknown_nodules([nodule_id], [nodule.id for nodule in inventory.nodules], "the source")


def _print_outcome(outcome: Outcome) -> None:
    state = STATE_LABELS[outcome.state]
    line = f"{outcome.nodule_id}: {state} at {outcome.stage} {outcome.reason}"
    console.print(line.rstrip(), markup=False)
    if outcome.note:
        console.print(outcome.note)
    if outcome.finished:
        console.print(f"last finished case: {outcome.finished.digest}")
    console.print(f"case: {outcome.digest or 'none'}")
    if outcome.state == "done":
        console.print(f"mattes: {outcome.form_name}")


def show_garbage(garbage: Garbage, grace: timedelta, deleted: bool) -> None:
    """Print what a store holds that nothing refers to, and what of it is kept and why.

    Args:
        garbage: As it was found, or removed.
        grace: What was written within this time is kept.
        deleted: Whether it was removed.
    """
    verb = "removed" if deleted else "found (--delete removes them)"
    console.print(
        f"{verb}: {len(garbage.unfinished)} incomplete cases, {len(garbage.orphans)} unreferenced "
        f"cases, {garbage.size_bytes / 1e6:,.1f} MB; {len(garbage.fragments)} incomplete files of "
        "interrupted writes",
        markup=False,
    )
    if garbage.young:
        console.print(
            f"kept: {len(garbage.young)} cases that no record refers to and that were written "
            f"within {write_duration(grace)} (--grace)"
        )
    for run in garbage.open_runs:
        console.print(
            f"kept: all cases, because a curation may be writing: started {run.started} on "
            f"{run.host}, process {run.process}. Run this command again when it has ended.",
            style="yellow",
            markup=False,
        )
    if garbage.uncertain:
        console.print(
            f"kept: {len(garbage.uncertain)} cases to which a lost record may refer. "
            "`halosign curate` writes missing outcomes; restore other records from a backup.",
            style="yellow",
            markup=False,
        )
    for complaint in garbage.lost:
        console.print(complaint, style="yellow", markup=False)


def show_releases(store: Store) -> None:
    """Print the versions, which of them were withdrawn, and whose records are lost or damaged."""
    faults = {fault.version: fault for fault in find_release_faults(store)}
    damaged = {fault.version for fault in faults.values() if not fault.is_lost}
    for version in sorted({*list_versions(store), *faults}, key=version_order):
        if version not in damaged and is_published(store, version):
            _print_release(store, Release.open(store, version).manifest)
        if version in faults:
            console.print(str(faults[version]), style="yellow", markup=False)


def _print_release(store: Store, manifest: Manifest) -> None:
    note = " (synthetic data)" if manifest.synthetic else ""
    nodules = count_of(len(manifest.members), "nodule")
    line = f"{manifest.version}  {manifest.published_at}  {nodules}{note}  {manifest.form_name}"
    withdrawal = find_withdrawal(store, manifest.version)
    if withdrawal:
        line += f"  withdrawn: {withdrawal.reason}"
    console.print(line, markup=False)


def warn_if_withdrawn(store: Store, version: str) -> None:
    """Print when and why a release was withdrawn, if it was."""
    withdrawal = find_withdrawal(store, version)
    if withdrawal:
        console.print(str(withdrawal), style="yellow", markup=False)


def show_reproduction(version: str, reproductions: Sequence[Reproduction]) -> None:
    """Print how many nodules of a release were reproduced byte for byte, and how others differ."""
    different = [one for one in reproductions if one.difference]
    reproduced = count_of(len(reproductions) - len(different), "nodule")
    console.print(f"{version}: {reproduced} reproduced, {len(different)} different")
    for one in different:
        console.print(f"{one.nodule_id}  {one.difference}", markup=False)


def show_release(manifest: Manifest) -> None:
    """Print a release's nodules."""
    note = "; synthetic data" if manifest.synthetic else ""
    question = f"; question: {manifest.target}" if manifest.target else ""
    table = Table(
        box=None,
        title=f"{manifest.version}, published {manifest.published_at} by {manifest.publisher}"
        f"{note}; {manifest.form_name}{question}",
    )
    # Nodules and digests are copied into other commands: a narrow terminal folds the rest.
    for column in ("nodule", "split", "matte", "form", "reviewer", "digest"):
        table.add_column(column, no_wrap=column in ("nodule", "split", "digest"), overflow="fold")
    for member in manifest.members.values():
        table.add_row(
            member.nodule_id,
            member.split,
            member.method,
            member.form_name.removesuffix(" form"),
            member.reviewer,
            member.digest[:12],
        )
    console.print(table)


def warn_of_other_question(manifest: Manifest) -> None:
    """Print which released mattes do not answer the question of the release, if any."""
    others = [
        f"{member.nodule_id} ({member.method})"
        for member in manifest.members.values()
        if manifest.target and target_of(member.method) != manifest.target
    ]
    if others:
        _warn(
            f"{len(others)} of {len(manifest.members)} mattes, chosen by reviewers, do not answer "
            f"the question of this release, {manifest.target}: {_first_few(others, ', ', ' ')}"
        )


def warn_of_unreachable(store: Store, manifest: Manifest) -> None:
    """Print which released nodules have a source that is not reachable, if any."""
    notes = [
        f"{outcome.nodule_id}: {outcome.note}"
        for outcome in read_outcomes(store)
        if outcome.note and outcome.nodule_id in manifest.members
    ]
    if notes:
        _warn(
            f"{len(notes)} nodules are released without their source at hand: "
            f"{_first_few(notes, '; ', '; ')}"
        )


def _warn(text: str) -> None:
    console.print(text, style="yellow", markup=False)


def _first_few(items: Sequence[str], separator: str, before_and: str) -> str:
    more = f"{before_and}and {len(items) - 5} more" if len(items) > 5 else ""
    return separator.join(items[:5]) + more


def show_agreement(page: "AgreementPage") -> None:
    """Print the nodules on which reviewers disagree, and how far reviewers agree overall."""
    disputes = count_of(len(page.disputes), "nodule")
    console.print(f"{disputes} in dispute; consensus rule: {page.rule}")
    for row in page.disputes:
        votes = sorted(row.consensus.verdicts, key=lambda vote: vote.reviewer)
        words = ", ".join(f"{vote.reviewer}: {vote.choice}" for vote in votes)
        counts = row.consensus.verdict.choice if row.consensus.verdict else "not settled"
        console.print(f"  {row.entry.nodule_id}  {words}; counts: {counts}", markup=False)
    for first, second, kappa in page.pairs:
        console.print(f"Cohen's kappa, {first} and {second}: {_estimate(kappa)}", markup=False)
    if page.joint:
        console.print(f"Fleiss' kappa, all reviewers: {_estimate(page.joint)}")


def _estimate(kappa: Estimate) -> str:
    over = f"over {count_of(kappa.nodules, 'nodule')}"
    if kappa.value is None:
        return f"undefined {over}"
    interval = "" if kappa.low is None else f" ({kappa.low:.2f} to {kappa.high:.2f})"
    return f"{kappa.value:.2f}{interval} {over}"


def show_scores(store: Store, version: str, split: str, lines: list[Line]) -> None:
    """Print mean scores over the nodules of a split, in the units of the literature's tables.

    Args:
        store: Holds the release, and the scores of every nodule.
        version: The release.
        split: The split, for the title.
        lines: The means, one line per matte, ground truth and region.
    """
    note = _release_note(store, version)
    for truth, region in dict.fromkeys((line.truth, line.region) for line in lines):
        title = f"{version}, {note}{split}: against {TRUTHS[truth]}, {REGIONS[region]}"
        table = _score_table(title)
        for line in lines:
            if (line.truth, line.region) == (truth, region):
                values = [f"{line.means[name] * scale:.2f}" for name, scale in TABLE_SCALES.items()]
                table.add_row(line.matte, str(line.nodules), *values)
        console.print(table)
    console.print(f"scores per nodule: {scores_url(store, version)}/{split}", markup=False)


def show_experiments(store: Store, version: str, recipe: str, region: str = "whole") -> None:
    """Print Tables 1 to 3 as they are stored, in the units of the literature's tables.

    Args:
        store: Holds the release and its experiments.
        version: The release.
        recipe: Name of the recipe.
        region: Region of Tables 1 and 2, a key of `REGIONS`.
    """
    note = _release_note(store, version)
    for number, subject in ((1, "mattes"), (2, "variants of the network")):
        rows = [row for row in read_table(store, version, recipe, number) if row.region == region]
        for truth in dict.fromkeys(row.truth for row in rows):
            table = _score_table(
                f"Table {number}, {note}recipe {recipe}: {subject} against {TRUTHS[truth]}, "
                f"{REGIONS[region]}"
            )
            for row in rows:
                if row.truth == truth:
                    values = [_with_deviation(row, name) for name in TABLE_SCALES]
                    table.add_row(row.matte, row.nodules, *values)
            console.print(table)
    _print_costs(store, version, recipe)
    console.print(
        f"other regions: {store.url}/{experiment_prefix(version, recipe)}/table-1.csv", markup=False
    )


def _print_costs(store: Store, version: str, recipe: str) -> None:
    costs = read_costs(store, version, recipe)
    if not costs:
        return
    table = Table(title=f"Table 3, recipe {recipe}: cost of a forward pass at 1 x 96^3")
    for column in ("", "parameters", "multiply-adds, G", "seconds", "memory, MB", "device"):
        table.add_column(column, justify="left" if column in {"", "device"} else "right")
    for cost in costs:
        table.add_row(
            network_label(cost.variant, cost.auxiliary),
            f"{cost.parameters:,}",
            f"{cost.multiply_adds / 1e9:,.3f}",
            f"{cost.latency_s:.3f}",
            f"{cost.peak_mb:,.0f}",
            cost.device,
        )
    console.print(table)


def _score_table(title: str) -> Table:
    table = Table(title=title)
    for column in ("", "nodules", "SAD / 10", "MSE x 1000", "Grad / 10", "Conn / 10"):
        table.add_column(column, justify="right" if column else "left")
    return table


def _with_deviation(row: Averages, name: str) -> str:
    scale = TABLE_SCALES[name]
    mean = getattr(row, name) * scale
    deviation = getattr(row, f"{name}_deviation")
    return f"{mean:.2f}" if deviation is None else f"{mean:.2f} ± {deviation * scale:.2f}"


def _release_note(store: Store, version: str) -> str:
    """Return for the title of a table whether data are synthetic, and the form of the mattes."""
    manifest = Release.open(store, version).manifest
    return f"{'synthetic data, ' if manifest.synthetic else ''}{manifest.form_name}, "


def _print_reasons(title: str, reasons: Counter[str]) -> None:
    for reason, count in reasons.most_common():
        console.print(f"  {count:5d}  {title}: {reason}", markup=False)


def _print_nodules(title: str, rows: list[tuple[str, str, str]]) -> None:
    if rows:
        console.print(f"{title}:")
    for nodule_id, state, reason in rows[:_MOST_LINES]:
        console.print(f"  {nodule_id}  {state}  {reason}", markup=False)
    if len(rows) > _MOST_LINES:
        console.print(f"  and {len(rows) - _MOST_LINES} more: `halosign list` prints all")

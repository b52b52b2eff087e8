"""What the commands print: tables for people, facts for programs."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from flows.engine.result import CurationResult
from matting.errors import InputError
from qc.review.agreement import Estimate
from storage.cases.outcomes import Outcome, read_outcome
from storage.cases.runs import Run
from storage.maintenance.gc import Garbage
from storage.releases.release import list_releases, read_release, withdrawal
from storage.results.checkpoints import network_label
from storage.results.experiments import Averages, experiment_prefix, read_costs, read_table
from storage.results.scores import Line, scores_place
from storage.store import Store
from tasks.curation.context import CurationJob
from tasks.curation.plan import Plan, plan_nodule
from tasks.curation.survey import survey_source
from tasks.reproduce import Reproduction

if TYPE_CHECKING:
    from qc.review.pages import AgreementPage

REGIONS = {
    "whole": "all that was measured",
    "near": "what any reader marked and 5 mm",
    "unknown": "the unknown voxels",
}
TABLE_SCALES = {"sad": 0.1, "mse": 1000.0, "grad": 0.1, "conn": 0.1}
"""From the raw figures to those that tables print."""

console = Console(soft_wrap=True, highlight=False)


def show_plan(plan: Plan) -> None:
    """Print what would run and why, grouped by reason, and what it would cost."""
    todo, kept = plan.to_compute, len(plan.choices) - len(plan.to_compute)
    console.print(
        f"{len(todo)} nodules to compute, {kept} to keep, {len(plan.exclusions)} left out by the selection"
    )
    _reasons("why", Counter(choice.reason for choice in plan.choices))
    _reasons("left out", Counter(one.reason for one in plan.exclusions))
    basis = f"{plan.going_by} finished nodules" if plan.going_by else "typical nodules"
    size_mb = plan.expected_bytes / 1e6
    console.print(
        f"expected: {plan.expected_seconds:,.0f} s on one worker, {size_mb:,.1f} MB (going by {basis})"
    )
    if todo:
        console.print(
            f"memory: up to {plan.expected_peak_bytes / 1e6:,.0f} MB for each nodule worked on at a time"
        )


def show_result(result: CurationResult) -> None:
    """Print what a run did and what it could not do."""
    words = ", ".join(f"{count} {state}" for state, count in result.states.items())
    kept, left_out = len(result.plan.kept), len(result.plan.exclusions)
    console.print(
        f"{words}; {kept} kept as they were, {left_out} left out by the selection; {result.wall_s} s"
    )
    unfit = [
        outcome for outcome in (*result.outcomes, *result.plan.kept) if outcome.state != "done"
    ]
    _nodules(
        "refused or failed", [(o.nodule_id, f"{o.state} at {o.stage}", o.reason) for o in unfit]
    )
    _nodules(
        "left out by the selection",
        [(one.nodule_id, "", one.reason) for one in result.plan.exclusions],
    )
    if result.stopped:
        console.print(result.stopped, style="yellow")


def status_facts(outcomes: list[Outcome], run: Run | None = None) -> dict[str, Any]:
    """Give a store's state for programs: counts, why nodules are not done, and how the last run went."""
    judged = [outcome for outcome in outcomes if not outcome.is_selection]
    unfit = [outcome for outcome in judged if outcome.state != "done"]
    excluded = [outcome for outcome in outcomes if outcome.is_selection]
    return {
        "states": {
            state: sum(o.state == state for o in judged) for state in ("done", "refused", "failed")
        },
        "left_out": len(excluded),
        "stand_in": any(outcome.stand_in for outcome in outcomes),
        "stored_bytes": sum(outcome.stored_bytes for outcome in judged),
        "unfit": [
            {"nodule": o.nodule_id, "state": o.state, "stage": o.stage, "reason": o.reason}
            for o in unfit
        ],
        "excluded": [{"nodule": o.nodule_id, "reason": o.reason} for o in excluded],
        "last_run": {**asdict(run), "nodules_per_hour": run.nodules_per_hour} if run else None,
    }


def show_status(facts: dict[str, Any]) -> None:
    """Print a store's state for people."""
    words = ", ".join(f"{count} {state}" for state, count in facts["states"].items())
    console.print(
        f"{words}, {facts['left_out']} left out by the selection; {facts['stored_bytes'] / 1e6:,.1f} MB"
    )
    if facts["stand_in"]:
        console.print("stand-in data: simulated scans", style="yellow")
    if run := facts["last_run"]:
        ending = run["stopped"] or {"none": "still going on, or killed"}.get(
            run["ending"], run["ending"]
        )
        speed = (
            f", {run['nodules_per_hour']:,.0f} nodules an hour" if run["nodules_per_hour"] else ""
        )
        console.print(
            f"last run: begun {run['started']} on {run['host']}, {ending}{speed}", markup=False
        )
    _nodules(
        "refused or failed",
        [(o["nodule"], f"{o['state']} at {o['stage']}", o["reason"]) for o in facts["unfit"]],
    )
    _nodules(
        "left out by the selection", [(o["nodule"], "", o["reason"]) for o in facts["excluded"]]
    )


def show_why(store: Store, nodule_id: str, order: CurationJob | None) -> None:
    """Print what the store knows of a nodule and, given a source, what a run would do with it."""
    before = read_outcome(store, nodule_id)
    if before is None:
        console.print(f"{nodule_id}: the store has no outcome of it")
    else:
        console.print(f"{nodule_id}: {before.state} at {before.stage} {before.reason}".rstrip())
        console.print(f"case: {before.digest or 'none'}")
    if order is None:
        console.print("give --dicom or --files to learn what a run would do with it")
        return
    survey = survey_source(order, None)
    for one in survey.exclusions:
        if one.nodule_id == nodule_id:
            console.print(f"would be left out: {one.reason}")
            return
    for nodule in survey.nodules:
        if nodule.id == nodule_id:
            choice = plan_nodule(store, order, nodule, before)
            console.print(
                f"would {'be computed' if choice.compute else 'not be computed'}: {choice.reason}"
            )
            return
    raise InputError(
        "the source has no such nodule",
        got=nodule_id,
        expected=f"one of the {len(survey.nodules)} that `halosign plan` counts",
        remedy="Check the id; `halosign status --json` lists them.",
    )


def show_rubbish(rubbish: Garbage, deleted: bool) -> None:
    """Print what a store holds without need."""
    verb = "removed" if deleted else "found (--delete removes it)"
    console.print(
        f"{verb}: {len(rubbish.unfinished)} keys of unfinished cases, {len(rubbish.orphans)} keys of finished cases "
        f"that nothing refers to, {len(rubbish.fragments)} fragments of interrupted writes"
    )


def show_releases(store: Store) -> None:
    """Print the published versions, and which of them were withdrawn."""
    for manifest in list_releases(store):
        note = " (stand-in data)" if manifest["stand_in"] else ""
        line = f"{manifest['version']}  {manifest['published_at']}  {len(manifest['nodules'])} nodules{note}"
        tombstone = withdrawal(store, manifest["version"])
        console.print(
            line + (f"  withdrawn: {tombstone.reason}" if tombstone else ""), markup=False
        )


def warn_if_withdrawn(store: Store, version: str) -> None:
    """Print the tombstone of a release that was withdrawn."""
    tombstone = withdrawal(store, version)
    if tombstone:
        console.print(str(tombstone), style="yellow", markup=False)


def show_reproduction(version: str, found: Sequence[Reproduction]) -> None:
    """Print which nodules of a release came out as they were published, and why others did not."""
    different = [one for one in found if one.difference]
    console.print(
        f"{version}: {len(found) - len(different)} nodules are as published, {len(different)} are not"
    )
    for one in different:
        console.print(f"{one.nodule_id}  {one.difference}", markup=False)


def show_release(manifest: dict[str, Any]) -> None:
    """Print a release's nodules."""
    note = "; stand-in data" if manifest["stand_in"] else ""
    table = Table(
        title=f"{manifest['version']}, published {manifest['published_at']} by {manifest['publisher']}{note}"
    )
    for column in ("nodule", "split", "matte", "reviewer", "digest"):
        table.add_column(column)
    for member in manifest["nodules"].values():
        table.add_row(
            member["nodule_id"],
            member["split"],
            member["method"],
            member["reviewer"],
            member["digest"][:12],
        )
    console.print(table)


def show_agreement(page: "AgreementPage") -> None:
    """Print where reviewers differ and how far they agree."""
    console.print(f"{len(page.disputes)} nodules in dispute; the rule is `{page.rule}`")
    for row in page.disputes:
        votes = sorted(row.consensus.votes, key=lambda vote: vote.reviewer)
        words = ", ".join(f"{vote.reviewer}: {vote.answer}" for vote in votes)
        counts = row.consensus.decision.answer if row.consensus.decision else "not settled"
        console.print(f"  {row.entry.nodule_id}  {words}; counts: {counts}", markup=False)
    for first, second, kappa in page.pairs:
        console.print(f"Cohen's kappa, {first} and {second}: {_estimate(kappa)}", markup=False)
    if page.joint:
        console.print(f"Fleiss' kappa, everybody: {_estimate(page.joint)}")


def _estimate(kappa: Estimate) -> str:
    over = f"over {kappa.nodules} nodules"
    if kappa.value is None:
        return f"not defined {over}"
    interval = "" if kappa.low is None else f" ({kappa.low:.2f} to {kappa.high:.2f})"
    return f"{kappa.value:.2f}{interval} {over}"


def show_scores(store: Store, version: str, split: str, lines: list[Line]) -> None:
    """Print means over the nodules of a split, region by region, in the units of the literature's tables."""
    note = "stand-in data, " if read_release(store, version)["stand_in"] else ""
    for truth, region in dict.fromkeys((line.truth, line.region) for line in lines):
        against = (
            "the released matte" if truth == "released" else "the known alpha of the simulation"
        )
        table = Table(title=f"{version}, {note}{split}: against {against}, {REGIONS[region]}")
        for column in ("", "nodules", "SAD / 10", "MSE x 1000", "Grad / 10", "Conn / 10"):
            table.add_column(column, justify="right" if column else "left")
        for line in lines:
            if (line.truth, line.region) == (truth, region):
                figures = [
                    f"{line.means[name] * scale:.2f}" for name, scale in TABLE_SCALES.items()
                ]
                table.add_row(line.matte, str(line.nodules), *figures)
        console.print(table)
    console.print(f"every nodule: {scores_place(store, version)}/{split}", markup=False)


def _reasons(title: str, reasons: Counter[str]) -> None:
    for reason, count in reasons.most_common():
        console.print(f"  {count:5d}  {title}: {reason}", markup=False)


def _nodules(title: str, rows: list[tuple[str, str, str]]) -> None:
    if rows:
        console.print(f"{title}:")
    for nodule_id, state, reason in rows:
        console.print(f"  {nodule_id}  {state}  {reason}", markup=False)


def show_experiments(store: Store, version: str, recipe: str, region: str = "whole") -> None:
    """Print Tables 1 to 3 as they are stored, over one region, in the units of the literature's tables."""
    note = "stand-in data, " if read_release(store, version)["stand_in"] else ""
    for number, what in ((1, "mattes"), (2, "variants of the network")):
        rows = [row for row in read_table(store, version, recipe, number) if row.region == region]
        for truth in dict.fromkeys(row.truth for row in rows):
            against = (
                "the released matte" if truth == "released" else "the known alpha of the simulation"
            )
            title = f"Table {number}, {note}recipe {recipe}: {what} against {against}, {REGIONS[region]}"
            table = Table(title=title)
            for column in ("", "nodules", "SAD / 10", "MSE x 1000", "Grad / 10", "Conn / 10"):
                table.add_column(column, justify="right" if column else "left")
            for row in rows:
                if row.truth == truth:
                    table.add_row(
                        row.matte,
                        row.nodules,
                        *(_with_deviation(row, name) for name in TABLE_SCALES),
                    )
            console.print(table)
    costs = read_costs(store, version, recipe)
    table = Table(title=f"Table 3, recipe {recipe}: what a pass at 1 x 96^3 costs")
    for column in ("", "parameters", "multiply-adds, G", "seconds", "memory, MB", "device"):
        table.add_column(column, justify="left" if column in {"", "device"} else "right")
    for cost in costs:
        label = network_label(cost.variant, cost.auxiliary)
        counts = f"{cost.parameters:,}", f"{cost.multiply_adds / 1e9:,.3f}"
        table.add_row(label, *counts, f"{cost.latency_s:.3f}", f"{cost.peak_mb:,.0f}", cost.device)
    if costs:
        console.print(table)
    console.print(
        f"other regions: {store.url}/{experiment_prefix(version, recipe)}/table-1.csv", markup=False
    )


def _with_deviation(row: Averages, name: str) -> str:
    scale = TABLE_SCALES[name]
    mean, deviation = getattr(row, name) * scale, getattr(row, f"{name}_deviation")
    return f"{mean:.2f}" if deviation is None else f"{mean:.2f} ± {deviation * scale:.2f}"

"""The main job: scan -> crop -> resample -> trimap -> eight alphas -> Zarr case.

The flow plans, fans the nodules out over the workers and reports. Each nodule goes the whole way on one worker: keys
travel, volumes stay. What is done is asked of the store, never of an engine's memory, so every nodule may run twice and
the same command resumes.
"""

import time
from dataclasses import dataclass

from prefect import flow, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import ThreadPoolTaskRunner

from flows.cluster import LOCAL, Cluster
from flows.fan_out import BATCHES_AT_ONCE, fan_out
from storage.outcomes import Outcome
from storage.source import Nodule
from storage.store import open_store
from tasks.plan import Plan, exclude, make_plan
from tasks.prepare import crop, draw_trimap, read_scan, resample
from tasks.record import Order, recorded
from tasks.solve import judge, solve_eight
from tasks.survey import survey_source
from tasks.write import write_zarr


@dataclass(frozen=True, slots=True)
class CurationResult:
    """What a run did."""

    plan: Plan
    outcomes: tuple[Outcome, ...]
    """Of the nodules that were computed now."""
    wall_s: float
    stopped: str = ""
    """Why it stopped early; empty when it went to the end."""

    @property
    def is_clean(self) -> bool:
        """True when no nodule is refused or failed, the selection apart."""
        return not self.stopped and all(o.state == "done" for o in (*self.outcomes, *self.plan.kept))


def curate_nodule(nodule: Nodule, order: Order) -> Outcome:
    """Take one nodule the whole way, on one worker."""
    with recorded(nodule, order) as record:
        scan = read_scan(record)
        if not record.already_stored:
            patch = crop(record, scan)
            patch = resample(record, patch)
            trimap = draw_trimap(record, patch)
            alphas = solve_eight(record, patch, trimap)
            judge(record, patch, trimap, alphas)
            write_zarr(record, patch, trimap, alphas)
    return record.outcome


# Prefect declares the runner's future type invariant, so its own default does not fit either.
@flow(name="curate", task_runner=ThreadPoolTaskRunner(max_workers=BATCHES_AT_ONCE))  # type: ignore[arg-type]
def curate(order: Order, patients: frozenset[str] | None = None, cluster: Cluster = LOCAL) -> CurationResult:
    """Bring a store up to date with its source: compute what is missing, keep what is done."""
    begin = time.monotonic()
    plan = plan_nodules(order, patients)
    outcomes, stopped = fan_out(curate_nodule, plan.to_compute, order, cluster) if plan.to_compute else ((), "")
    result = CurationResult(plan, outcomes, round(time.monotonic() - begin, 1), stopped)
    report(order, result)
    return result


@task(name="plan nodules", cache_policy=NO_CACHE)
def plan_nodules(order: Order, patients: frozenset[str] | None) -> Plan:
    """Decide what is to be computed, and record what the selection leaves out."""
    store = open_store(order.store_url, create=True)
    plan = make_plan(store, order, survey_source(order, patients))
    exclude(store, plan.exclusions)
    return plan


@task(name="report", cache_policy=NO_CACHE)
def report(order: Order, result: CurationResult) -> None:
    """Leave the summary where Prefect's users look for it."""
    rows = [
        {
            "nodule": o.nodule_id,
            "state": o.state,
            "stage": o.stage,
            "reason": o.reason,
            "seconds": sum(o.seconds.values()),
        }
        for o in result.outcomes
    ]
    create_table_artifact(table=rows, key="nodules", description=f"Outcomes of this run in {order.store_url}")
    kept, left_out = len(result.plan.kept), len(result.plan.exclusions)
    text = (
        f"**Store** `{order.store_url}` · **source** `{order.source.location}` · **recipe** `{order.recipe.name}`\n\n"
        f"{len(rows)} computed, {kept} kept, {left_out} left out by the selection, {result.wall_s} s. {result.stopped}"
    )
    create_markdown_artifact(markdown=text, key="curation", description="What this run did")
    create_link_artifact(link=open_store(order.store_url).link, link_text=order.store_url, key="store")

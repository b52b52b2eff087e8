"""The main job: scan -> crop -> resample -> trimap -> eight alphas -> Zarr case.

The flow plans, fans the nodules out over the workers and reports. Each nodule goes the whole way on one worker: keys
travel, volumes stay. What is done is asked of the store, never of an engine's memory, so every nodule may run twice and
the same command resumes.
"""

import time

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import ThreadPoolTaskRunner

from flows.cluster import LOCAL, Cluster
from flows.fan_out import BATCHES_AT_ONCE, fan_out
from flows.result import CurationResult
from flows.summary import begin_run, end_run, report
from storage.outcomes import Outcome
from storage.source import Nodule
from storage.store import open_store
from tasks.plan import Plan, exclude, make_plan
from tasks.prepare import crop, draw_trimap, read_scan, resample
from tasks.record import Order, recorded
from tasks.solve import judge, solve_eight
from tasks.survey import survey_source
from tasks.write import write_zarr


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
    run = begin_run(order, plan)
    outcomes, stopped = fan_out(curate_nodule, plan.to_compute, order, cluster) if plan.to_compute else ((), "")
    result = CurationResult(plan, outcomes, round(time.monotonic() - begin, 1), stopped)
    end_run(order, run, result)
    report(order, result)
    return result


@task(name="plan nodules", cache_policy=NO_CACHE)
def plan_nodules(order: Order, patients: frozenset[str] | None) -> Plan:
    """Decide what is to be computed, and record what the selection leaves out."""
    store = open_store(order.store_url, create=True)
    plan = make_plan(store, order, survey_source(order, patients))
    exclude(store, plan.exclusions)
    return plan

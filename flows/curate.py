"""The main job: scan -> crop -> resample -> trimap -> eight alphas -> Zarr case.

The flow plans, fans the nodules out over the workers and reports. Each nodule goes the whole way on one worker: keys
travel, volumes stay. What is done is asked of the store, never of an engine's memory, so every nodule may run twice and
the same command resumes.
"""

import time

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import ThreadPoolTaskRunner

from flows.engine.cluster import LOCAL, Cluster
from flows.engine.executor import BATCHES_AT_ONCE, fan_out
from flows.engine.result import CurationResult
from flows.engine.run_log import begin_run, end_run, report
from storage.records import Outcome
from storage.sources.base import Nodule
from storage.store import open_store
from tasks.curation.context import CurationJob, nodule_context
from tasks.curation.inventory import take_inventory
from tasks.curation.plan import Plan, exclude, make_plan
from tasks.curation.preprocess import crop, draw_trimap, read_scan, resample
from tasks.curation.solve import score_candidates, solve_eight
from tasks.curation.write import write_zarr


def curate_nodule(nodule: Nodule, order: CurationJob) -> Outcome:
    """Take one nodule the whole way, on one worker."""
    with nodule_context(nodule, order) as record:
        scan = read_scan(record)
        if not record.already_stored:
            patch = crop(record, scan)
            patch = resample(record, patch)
            trimap = draw_trimap(record, patch)
            alphas = solve_eight(record, patch, trimap)
            score_candidates(record, patch, trimap, alphas)
            write_zarr(record, patch, trimap, alphas)
    return record.outcome


# Prefect declares the runner's future type invariant, so its own default does not fit either.
@flow(name="curate", task_runner=ThreadPoolTaskRunner(max_workers=BATCHES_AT_ONCE))  # type: ignore[arg-type]
def curate(
    order: CurationJob, patients: frozenset[str] | None = None, cluster: Cluster = LOCAL
) -> CurationResult:
    """Bring a store up to date with its source: compute what is missing, keep what is done."""
    begin = time.monotonic()
    plan = plan_nodules(order, patients)
    run = begin_run(order, plan)
    outcomes, stopped = (
        fan_out(curate_nodule, plan.to_compute, order, cluster) if plan.to_compute else ((), "")
    )
    result = CurationResult(plan, outcomes, round(time.monotonic() - begin, 1), stopped)
    end_run(order, run, result)
    report(order, result)
    return result


@task(name="plan nodules", cache_policy=NO_CACHE)
def plan_nodules(order: CurationJob, patients: frozenset[str] | None) -> Plan:
    """Decide what is to be computed, and record what the selection leaves out."""
    store = open_store(order.store_url, create=True)
    plan = make_plan(store, order, take_inventory(order, patients))
    exclude(store, plan.exclusions)
    return plan

"""The main job: scan -> crop -> resample -> trimap -> eight alphas -> Zarr case.

The flow plans, distributes the nodules over the workers and reports. Each nodule is computed on one
worker from scan to case: keys travel between processes, volumes do not. Whether a nodule is done is
read from the store and never from the memory of an engine, so a nodule may run twice and the same
command resumes an interrupted run.
"""

import time
from dataclasses import replace

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.engine.cluster import LOCAL, Cluster
from flows.engine.progress import ProgressTracker
from flows.engine.result import CurationResult
from flows.engine.run_log import recorded_run
from flows.engine.task_runs import run_nodules
from flows.run_report import write_run_report
from storage.records import Outcome
from storage.sources.base import Nodule
from storage.store import open_store
from tasks.curation.context import CurationJob, nodule_context
from tasks.curation.inventory import take_inventory
from tasks.curation.plan import Plan, make_plan, record_exclusions, record_reachability
from tasks.curation.preprocess import crop, draw_trimap, read_scan, resample
from tasks.curation.solve import estimate_mattes, score_candidates
from tasks.curation.write import write_zarr


def curate_nodule(nodule: Nodule, job: CurationJob) -> Outcome:
    """Compute the case of one nodule, on one worker."""
    with nodule_context(nodule, job) as context:
        scan = read_scan(context)
        if not context.already_stored:
            patch = crop(context, scan)
            patch = resample(context, patch)
            trimap = draw_trimap(context, patch)
            solutions = estimate_mattes(context, patch, trimap)
            score_candidates(context, patch, trimap, solutions)
            write_zarr(context, patch, trimap, solutions)
    return context.outcome


@flow(name="curate")
def curate(
    job: CurationJob,
    patients: frozenset[str] | None = None,
    cluster: Cluster = LOCAL,
    nodules: frozenset[str] | None = None,
    limit: int | None = None,
    *,
    report: bool = True,
) -> CurationResult:
    """Bring a store up to date with its source: compute what is missing, keep what is done.

    Args:
        job: The source, the store and the recipe.
        patients: Only the nodules of these; all where None.
        cluster: Where nodules are computed.
        nodules: Only these; all where None.
        limit: At most so many nodules, the first by id; all where None.
        report: Whether the store's report is written after a run that computed something.

    Returns:
        What was planned and what became of it; failures of single nodules are outcomes, not
        exceptions.
    """
    begin = time.monotonic()
    plan = plan_nodules(job, patients, nodules, limit)
    progress = ProgressTracker(len(plan.to_compute), job.recipe.run.failure_budget, begin)
    with recorded_run(job, plan, progress):
        if plan.to_compute:
            with progress:
                sized = replace(cluster, worker_bytes=plan.expected_peak_bytes)
                run_nodules(curate_nodule, plan.to_compute, job, sized, progress)
    outcomes = tuple(progress.outcomes[key] for key in sorted(progress.outcomes))
    result = CurationResult(plan, outcomes, progress.wall_s, progress.error)
    if report and plan.to_compute:
        write_run_report(job.store_url)
    return result


@task(name="plan nodules", cache_policy=NO_CACHE)
def plan_nodules(
    job: CurationJob,
    patients: frozenset[str] | None,
    nodules: frozenset[str] | None,
    limit: int | None,
) -> Plan:
    """Decide which nodules to compute, and record those that are excluded or without their source.

    Raises SourceUnreachableError before anything is recorded where the source is away.
    """
    store = open_store(job.store_url, create=True)
    plan = make_plan(store, job, take_inventory(job, patients, nodules, limit))
    record_exclusions(store, plan.exclusions)
    record_reachability(store, plan)
    return plan

"""Reports of a run: its record in the store, the log, and the artifacts in Prefect."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from prefect import task
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from flows.engine.logs import logger
from flows.engine.result import STATE_LABELS, CurationResult
from storage.cases.runs import BEAT_S, write_run
from storage.errors import StoreError
from storage.records import Ending, Run
from storage.store import open_store
from tasks.curation.context import CurationJob
from tasks.curation.plan import Plan

MAX_ROWS = 1000
"""Rows of the table in Prefect; nodules that are not done come first. The store has every
outcome."""


def begin_run(job: CurationJob, plan: Plan) -> Run:
    """Write the record of a run that begins, and log it."""
    to_compute = len(plan.to_compute)
    unchanged = len(plan.unchanged)
    run = Run(
        job.source.location, job.recipe.name, to_compute, unchanged, excluded=len(plan.exclusions)
    )
    logger.info(
        "run begins", extra={"store": job.store_url, "to_compute": to_compute, "kept": unchanged}
    )
    write_run(open_store(job.store_url), run)
    return run


@contextmanager
def keep_alive(job: CurationJob, run: Run) -> Iterator[None]:
    """Write the record of a run again every `BEAT_S`, which shows that the run continues."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT_S):
            try:
                write_run(open_store(job.store_url), run)
            except StoreError as error:
                logger.warning("cannot write the record of this run: %s", error)

    thread = threading.Thread(target=beat, name="run record", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def end_run(job: CurationJob, run: Run, result: CurationResult) -> None:
    """Write the record of a run that ended, and log it."""
    ending: Ending = "stopped early" if result.aborted else "complete"
    run = replace(
        run, ending=ending, states=result.states, wall_s=result.wall_s, stopped=result.aborted
    )
    facts = {
        "ending": ending,
        "wall_s": run.wall_s,
        "nodules_per_hour": run.nodules_per_hour,
        **result.states,
    }
    logger.info("run ends", extra={**facts, "reason": result.aborted})
    try:
        write_run(open_store(job.store_url), run)
    except StoreError as error:
        logger.error("cannot write the record of this run: %s", error)


def create_run_artifacts(job: CurationJob, result: CurationResult) -> None:
    """Create the artifacts of a run in Prefect: its summary, its outcomes, a link to the store."""
    counts = ", ".join(f"{n} {STATE_LABELS[state]}" for state, n in result.states.items())
    text = (
        f"**Store** `{job.store_url}` · **source** `{job.source.location}` · "
        f"**recipe** `{job.recipe.name}`\n\n{counts}; {len(result.plan.unchanged)} unchanged, "
        f"{len(result.plan.exclusions)} excluded; {result.wall_s} s. {result.aborted}"
    )
    unfit_first = sorted(result.outcomes, key=lambda outcome: outcome.state == "done")
    rows: list[dict[str, object]] = [
        {
            "nodule": o.nodule_id,
            "state": o.state,
            "stage": o.stage,
            "reason": o.reason,
            "seconds": sum(o.seconds.values()),
        }
        for o in unfit_first[:MAX_ROWS]
    ]
    # Prefect traverses the arguments of a task, so the result of many nodules must not be one.
    _create_artifacts(job.store_url, rows, text)


@task(name="report", cache_policy=NO_CACHE)
def _create_artifacts(store_url: str, rows: list[dict[str, object]], text: str) -> None:
    create_table_artifact(
        table=rows, key="nodules", description=f"Outcomes of this run in {store_url}"
    )
    create_markdown_artifact(markdown=text, key="curation", description="Summary of this run")
    create_link_artifact(link=open_store(store_url).link, link_text=store_url, key="store")

"""Telling how a run went to whoever watches: the store's record, the log, Prefect's pages."""

from dataclasses import replace

from prefect import task
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from flows.engine.logs import logger
from flows.engine.result import CurationResult
from storage.cases.runs import write_run
from storage.errors import StoreError
from storage.records import Ending, Run
from storage.store import open_store
from tasks.curation.context import CurationJob
from tasks.curation.plan import Plan

ROWS_AT_MOST = 1000
"""Of the table that Prefect shows; those that did not end well come first. The store has every outcome."""


def begin_run(order: CurationJob, plan: Plan) -> Run:
    """Record that a run begins."""
    computes, kept, left_out = len(plan.to_compute), len(plan.kept), len(plan.exclusions)
    run = Run(order.source.location, order.recipe.name, computes, kept, left_out)
    logger.info(
        "run begins", extra={"store": order.store_url, "to_compute": computes, "kept": kept}
    )
    write_run(open_store(order.store_url), run)
    return run


def end_run(order: CurationJob, run: Run, result: CurationResult) -> None:
    """Record how a run ended."""
    ending: Ending = "stopped early" if result.stopped else "complete"
    run = replace(
        run, ending=ending, states=result.states, wall_s=result.wall_s, stopped=result.stopped
    )
    facts = {
        "ending": ending,
        "wall_s": run.wall_s,
        "nodules_per_hour": run.nodules_per_hour,
        **result.states,
    }
    logger.info("run ends", extra={**facts, "reason": result.stopped})
    try:
        write_run(open_store(order.store_url), run)
    except StoreError:
        logger.exception("the store does not take the record of this run")


def report(order: CurationJob, result: CurationResult) -> None:
    """Leave the summary where Prefect's users look for it."""
    kept, left_out = len(result.plan.kept), len(result.plan.exclusions)
    text = (
        f"**Store** `{order.store_url}` · **source** `{order.source.location}` · **recipe** `{order.recipe.name}`\n\n"
        f"{', '.join(f'{count} {state}' for state, count in result.states.items())}; {kept} kept, "
        f"{left_out} left out by the selection; {result.wall_s} s. {result.stopped}"
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
        for o in unfit_first[:ROWS_AT_MOST]
    ]
    # Prefect walks through a task's arguments, so a result of many nodules is none.
    show_in_prefect(order.store_url, rows, text)


@task(name="report", cache_policy=NO_CACHE)
def show_in_prefect(store_url: str, rows: list[dict[str, object]], text: str) -> None:
    """Make the artifacts of a run."""
    create_table_artifact(
        table=rows, key="nodules", description=f"Outcomes of this run in {store_url}"
    )
    create_markdown_artifact(markdown=text, key="curation", description="What this run did")
    create_link_artifact(link=open_store(store_url).link, link_text=store_url, key="store")

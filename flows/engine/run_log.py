"""Reports of a run while it goes on: its record in the store, the log, and artifacts in Prefect."""

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast
from uuid import UUID

import httpx
from prefect import get_client
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
)
from prefect.client.schemas.actions import ArtifactUpdate

from flows.engine.logs import kept_lines, log_to_prefect, logger
from flows.engine.progress import ProgressTracker
from flows.engine.repeating import repeating
from flows.engine.result import STATE_LABELS, count_states
from storage.cases.runs import BEAT_S, write_run, write_run_log
from storage.errors import StoreError
from storage.records import Ending, Outcome, Run
from storage.store import open_store
from tasks.curation.context import CurationJob
from tasks.curation.plan import Plan

MAX_ROWS = 1000
"""Rows of the table in Prefect at the end; nodules that are not done come first. The store has
every outcome."""

_ROWS_WHILE_RUNNING = 100
"""Prefect keeps every update for days, so those before the last are short."""

_UPDATE_S = 15.0
"""How often the artifacts are updated while the run continues."""


@contextmanager
def recorded_run(job: CurationJob, plan: Plan, progress: ProgressTracker) -> Iterator[None]:
    """Record a run in the store, in the log and in Prefect, while the block runs and as it ends.

    Its record is written again every `BEAT_S`, which shows that it continues, its log with it, and
    its artifacts are updated every `_UPDATE_S`; what is not complete when the process dies stays as
    it is.
    """
    with kept_lines() as log:
        run = _begin(job, plan)
        artifacts = RunArtifacts(job, plan, progress)
        artifacts.create()
        next_record = time.monotonic() + BEAT_S

        def beat() -> None:
            nonlocal next_record
            artifacts.update(_ROWS_WHILE_RUNNING)
            if time.monotonic() >= next_record:
                next_record += BEAT_S
                _write(job, run, log)

        ending: Ending = "interrupted"
        try:
            with repeating(beat, _UPDATE_S, "run report"):
                yield
            ending = "stopped early" if progress.error else "complete"
        finally:
            _end(job, run, progress, ending, log)
            artifacts.update(MAX_ROWS)


def _begin(job: CurationJob, plan: Plan) -> Run:
    to_compute = len(plan.to_compute)
    unchanged = len(plan.unchanged)
    run = Run(
        job.source.location, job.recipe.name, to_compute, unchanged, excluded=len(plan.exclusions)
    )
    log_to_prefect()
    logger.info(
        "run begins", extra={"store": job.store_url, "to_compute": to_compute, "kept": unchanged}
    )
    write_run(open_store(job.store_url), run)
    return run


def _end(
    job: CurationJob, run: Run, progress: ProgressTracker, ending: Ending, log: list[str]
) -> None:
    states = count_states(progress.latest())
    reason = str(progress.error or "")
    run = replace(run, ending=ending, states=states, wall_s=progress.wall_s, stopped=reason)
    facts = {"ending": ending, "wall_s": run.wall_s, "nodules_per_hour": run.nodules_per_hour}
    logger.info("run ends", extra={**facts, **states, "reason": reason})
    _write(job, run, log)


def _write(job: CurationJob, run: Run, log: list[str]) -> None:
    """Write the record of a run and its log; the run goes on where that is impossible."""
    try:
        store = open_store(job.store_url)
        write_run(store, run)
        write_run_log(store, run, "".join(log))
    except StoreError as error:
        logger.warning("cannot write the record of this run: %s", error)


@dataclass(slots=True)
class RunArtifacts:
    """The artifacts of a run in Prefect: progress, table of nodules, summary, link to the store.

    Prefect's server may be away; then they have gaps, and the run goes on.
    """

    job: CurationJob
    plan: Plan
    progress: ProgressTracker
    _ids: dict[str, UUID] = field(default_factory=dict)
    _shown: int = -1
    """Number of outcomes when they were last updated."""

    def create(self) -> None:
        """Create them, without outcomes."""
        url = self.job.store_url
        try:
            created = {
                "progress": create_progress_artifact(
                    0.0, key="progress", description="Nodules of this run that are finished"
                ),
                "nodules": create_table_artifact(
                    [], key="nodules", description=f"Outcomes of this run in {url}"
                ),
                "curation": create_markdown_artifact(
                    self._summary(), key="curation", description="Summary of this run"
                ),
            }
            # Prefect's types allow for coroutines, which they are in asynchronous flows only.
            self._ids = cast(dict[str, UUID], created)
            create_link_artifact(
                link=open_store(url).link,
                link_text=url,
                key="store",
                description="Store of this run",
            )
        except (httpx.HTTPError, OSError) as error:
            logger.warning("cannot create the artifacts of this run in Prefect: %s", error)

    def update(self, rows: int) -> None:
        """Show the outcomes so far, at most so many rows of them."""
        finished = len(self.progress.outcomes)
        if (finished == self._shown and rows < MAX_ROWS) or not self._ids:
            return
        data = {
            "progress": 100.0 * finished / self.progress.total if self.progress.total else 100.0,
            "nodules": json.dumps(list(_rows(self.progress.latest(), rows))),
            "curation": self._summary(),
        }
        try:
            with get_client(sync_client=True) as client:
                for key, artifact_id in self._ids.items():
                    client.update_artifact(artifact_id, ArtifactUpdate(data=data[key]))
        except (httpx.HTTPError, OSError) as error:
            logger.warning("cannot update the artifacts of this run in Prefect: %s", error)
            return
        self._shown = finished

    def _summary(self) -> str:
        states = count_states(self.progress.latest())
        counts = ", ".join(f"{n} {STATE_LABELS[state]}" for state, n in states.items())
        job = self.job
        return (
            f"**Store** `{job.store_url}` · **source** `{job.source.location}` · "
            f"**recipe** `{job.recipe.name}`\n\n{len(self.progress.outcomes)} of "
            f"{self.progress.total} nodules: {counts}; {len(self.plan.unchanged)} unchanged, "
            f"{len(self.plan.exclusions)} excluded; {self.progress.wall_s} s. "
            f"{self.progress.error or ''}"
        )


def _rows(outcomes: Iterable[Outcome], most: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of the table of nodules: those that are not done first, then the latest."""
    latest_first = list(outcomes)[::-1]
    for outcome in sorted(latest_first, key=lambda outcome: outcome.state == "done")[:most]:
        yield {
            "nodule": outcome.nodule_id,
            "state": outcome.state,
            "stage": outcome.stage,
            "reason": outcome.reason,
            "seconds": round(sum(outcome.seconds.values()), 3),
        }

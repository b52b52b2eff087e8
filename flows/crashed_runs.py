"""Crashed runs of deployments that begin again: each Prefect worker looks for those of its pool.

An automation of the server could do it by the event of the crash. But Prefect delivers that event
only once it has seen the event of the state before, and a server that was restarted in between has
forgotten it: then the run begins again a quarter of an hour later, or, if somebody has begun it
meanwhile, is disturbed by that. The state of the run, which is asked for here, is always right.
"""

from contextlib import suppress
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import State, StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import AwaitingRetry

RESUMES = "resumes"
"""Tag of the deployments whose runs begin again after a crash: their flows compute only what is
missing."""


def begin_crashed_runs_again(client: SyncPrefectClient, pool: str) -> None:
    """Have the crashed runs of a work pool whose deployments have the tag `RESUMES` begin again.

    Workers of one pool may do so at once: a run that waits to begin then waits to begin.

    Args:
        client: Of the Prefect server.
        pool: Name of the work pool.

    Raises:
        httpx.HTTPError: The Prefect server does not answer, or refuses.
    """
    crashed = client.read_flow_runs(
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[pool])),
        flow_run_filter=FlowRunFilter(
            tags=FlowRunFilterTags(all_=[RESUMES]),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.CRASHED])),
        ),
    )
    again: State[Any] = AwaitingRetry(message="The run crashed and begins again.")
    for run in crashed:
        with suppress(ObjectNotFound):  # deleted a moment ago
            client.set_flow_run_state(run.id, again)

"""A run in Prefect: a task run for each nodule, or for each batch of a run with very many.

The task runs wait in threads of this process while Dask computes their nodules, which costs a
small part of what a task runner on the cluster would: docs/benchmarks.md has both.
"""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.exceptions import TerminationSignal
from prefect.futures import PrefectFuture, wait
from prefect.states import Cancelled, Completed, Failed
from prefect.tasks import Task, exponential_backoff

from flows.engine.cluster import Cluster, dask_client
from flows.engine.errors import RunAborted
from flows.engine.executor import WORKER_STAGE, NoduleExecutor, NoduleFunction
from flows.engine.in_flight import InFlight, StoppedError
from flows.engine.logs import log_on_workers, logger
from flows.engine.progress import ProgressTracker
from matting.kernel_cache import is_compiled
from storage.records import Outcome
from storage.sources.base import Nodule
from storage.sources.errors import SourceUnreachableError
from storage.sources.registry import check_reachable
from tasks.curation.context import CurationJob

CONCURRENT_BATCHES = 2
"""The next batch begins while the last nodules of the previous one are finishing."""

UNAVAILABLE = "Unavailable"
"""Name of the state of a task run that failed for a reason that may disappear; it is retried."""

DRAIN_S = 20.0
"""How long a run that is interrupted waits for the nodules that its workers hold."""

_LEAVING_S = 10.0
"""How long a run that ends early waits for its task runs to notice: they use the Dask client."""

Nodules = tuple[Nodule, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """The nodules of one task run; one of them unless the run has very many."""

    nodules: Nodules

    @property
    def name(self) -> str:
        """The nodule, or the first and the last of several."""
        return " to ".join(dict.fromkeys((self.nodules[0].id, self.nodules[-1].id)))


def run_nodules(
    function: NoduleFunction,
    nodules: Nodules,
    job: CurationJob,
    cluster: Cluster,
    progress: ProgressTracker,
) -> None:
    """Run a function for every nodule on a cluster; call it in a flow.

    Args:
        function: Called as `function(nodule, job)` on a worker.
        nodules: The nodules to run.
        job: Shared by all of them; its recipe sets task runs, retries and failure budget.
        cluster: Where the workers are.
        progress: Takes the outcomes, and why the run was aborted if it was.
    """
    wanted = {nodule.id for nodule in nodules}

    def show_stage(nodule_id: str, stage: str) -> None:
        if nodule_id in wanted:  # another run may have the same workers
            progress.enter_stage(nodule_id, stage)

    min_in_flight = cluster.file.adapt.maximum if cluster.file and cluster.file.adapt else 1
    with dask_client(cluster) as client:
        log_on_workers(client, show_stage)
        if cluster.is_local and not is_compiled():
            progress.show_message("compiling, once on this machine")
        executor = NoduleExecutor(function, job, progress, client, min_in_flight)
        try:
            _run_first(executor, nodules)
            _run_suspects(executor, nodules)
        except BaseException as error:
            executor.stop(error)
            if not isinstance(error, RunAborted):
                raise
    if isinstance(executor.error, RunAborted):
        progress.error = executor.error
    elif executor.error is not None:
        raise executor.error


def _run_first(executor: NoduleExecutor, nodules: Nodules) -> None:
    """Run all nodules, each in a task run of its own unless there are very many."""
    run = executor.job.recipe.run
    if len(nodules) <= run.nodules_as_tasks:
        _run_all(executor, [Batch((nodule,)) for nodule in nodules], executor.capacity)
        return
    # The concurrent batches have to keep every thread busy.
    size = max(run.nodules_per_task, executor.count_threads())
    batches = [Batch(nodules[start : start + size]) for start in range(0, len(nodules), size)]
    _run_all(executor, batches, lambda: CONCURRENT_BATCHES)


def _run_suspects(executor: NoduleExecutor, nodules: Nodules) -> None:
    """Run the nodules whose worker died once more, one at a time.

    Dask blames the death of a worker on everything that the worker held. A nodule that runs alone
    and loses its worker again is the culprit; the others succeed.
    """
    outcomes = executor.progress.outcomes
    suspects = [
        nodule
        for nodule in nodules
        if nodule.id in outcomes and outcomes[nodule.id].stage == WORKER_STAGE
    ]
    if executor.error or not suspects:
        return
    executor.one_at_a_time = True
    for suspect in suspects:
        logger.warning("%s runs again, alone: its worker died", suspect.id)
        executor.progress.discard(suspect.id)
    _run_all(executor, [Batch((suspect,)) for suspect in suspects], lambda: 1)


def _run_all(executor: NoduleExecutor, batches: list[Batch], limit: Callable[[], int]) -> None:
    """Run batches of nodules, each as a task run; several at a time, until one ends the run."""
    curate_nodules = _batch_task(executor)
    wanted = takewhile(lambda _: executor.error is None, batches)
    running: set[PrefectFuture[State[None]]] = set()

    def submit(batch: Batch) -> PrefectFuture[State[None]]:
        future = curate_nodules.submit(batch)
        running.add(future)
        return future

    try:
        for _, future in InFlight(limit).as_completed(wanted, submit):
            running.remove(future)
    except (KeyboardInterrupt, TerminationSignal):
        executor.drain()
        logger.warning(
            "stopping: nodules that are in hand have %.0f s to finish, no other one begins; "
            "a second interrupt stops at once",
            DRAIN_S,
        )
        wait(list(running), timeout=DRAIN_S)
        raise
    except BaseException as error:
        executor.stop(error)
        raise
    finally:
        if running:
            wait(list(running), timeout=_LEAVING_S)


def _batch_task(executor: NoduleExecutor) -> Task[[Batch], State[None]]:
    # Prefect traverses the arguments of a task. The executor changes meanwhile, so it is bound here
    # instead.
    run = executor.job.recipe.run

    @task(
        name="curate nodules",
        task_run_name="{batch.name}",
        cache_policy=NO_CACHE,
        retries=run.retries,
        retry_delay_seconds=exponential_backoff(backoff_factor=run.retry_delay_s),
        retry_condition_fn=_is_unavailable,
    )
    def curate_nodules(batch: Batch) -> State[None]:
        try:
            return run_batch(executor, batch.nodules)
        except (RunAborted, StoppedError) as error:
            executor.stop(error)
            return Cancelled(name="Stopped", message=str(error) or "The run ended.")
        except BaseException as error:
            executor.stop(error)
            raise

    return curate_nodules


def run_batch(executor: NoduleExecutor, nodules: Nodules) -> State[None]:
    """Run the nodules of a batch that have no final outcome yet.

    Returns:
        The state of their task run: that of a single nodule, and of several whether some have to
        be run again.

    Raises:
        RunAborted: The failure budget is exceeded, or the scheduler or the source is lost.
        StoppedError: The run was stopped.
    """
    progress = executor.progress
    pending = [nodule for nodule in nodules if _is_pending(progress.outcomes.get(nodule.id))]
    with closing(executor.as_completed(pending)) as outcomes:
        for outcome in outcomes:
            progress.check_failure_budget()
            progress.add(outcome)
            _check_source(executor.job, outcome)
    ended = [progress.outcomes[one.id] for one in nodules if one.id in progress.outcomes]
    if len(ended) < len(nodules):
        raise StoppedError
    if len(ended) == 1:
        return _state_of(ended[0])
    unavailable = [outcome for outcome in ended if _is_pending(outcome)]
    if unavailable:
        first = unavailable[0]
        message = f"{len(unavailable)} nodules, the first is {first.nodule_id}: {first.reason}"
        return Failed(name=UNAVAILABLE, message=message)
    return Completed(message=f"{sum(outcome.state == 'done' for outcome in ended)} done")


def _state_of(outcome: Outcome) -> State[None]:
    """Return the state of the task run of a nodule."""
    if outcome.state == "done":
        return Completed(message="computed" if outcome.computed else "was stored already")
    if outcome.state == "refused":
        name = "Refused"
    elif _is_pending(outcome):
        name = UNAVAILABLE
    else:
        name = "WorkerDied" if outcome.stage == WORKER_STAGE else "Failed"
    return Failed(name=name, message=f"{outcome.stage}: {outcome.reason}")


def _is_unavailable(_: Task[..., Any], __: TaskRun, state: State[Any]) -> bool:
    return state.name == UNAVAILABLE


def _is_pending(outcome: Outcome | None) -> bool:
    """Return whether a batch has to run a nodule; one whose worker died is run alone later."""
    return outcome is None or (outcome.transient and outcome.stage != WORKER_STAGE)


def _check_source(job: CurationJob, outcome: Outcome) -> None:
    """Raise RunAborted where a nodule ended because the source went away."""
    if outcome.stage != "scan" and not outcome.unreachable_since:
        return
    try:
        check_reachable(job.source)
    except SourceUnreachableError as error:
        raise RunAborted(f"run aborted: {error}") from error

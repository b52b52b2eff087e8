"""Nodules over workers: batches as Prefect tasks, visible and retried; inside a batch one Dask future a nodule.

Only keys and small records travel. Two batches are under way at once, so never more nodules than that are in flight and
no worker waits for the last nodule of one. What a worker's death leaves behind is one failed outcome.
"""

from collections.abc import Callable

from distributed import Future, as_completed, default_client
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task, exponential_backoff

from flows.cluster import Cluster, dask_client
from flows.tally import BudgetSpent, Tally
from storage.outcomes import Outcome, write_outcome
from storage.source import Nodule
from storage.store import open_store
from tasks.record import Order

BATCHES_AT_ONCE = 2
"""The next batch begins while the last nodules of one are finishing."""

WORKER = "worker"
"""The stage of an outcome that a worker's death left behind."""

Work = Callable[[Nodule, Order], Outcome]
"""What is done with one nodule, on one worker."""


class PassingFailures(Exception):
    """Some nodules of a batch failed for reasons that may pass."""


def fan_out(work: Work, nodules: tuple[Nodule, ...], order: Order, cluster: Cluster) -> tuple[tuple[Outcome, ...], str]:
    """Do the work for every nodule on the cluster; gives the outcomes by id, and why it stopped early if it did."""
    run, stopped = order.recipe.run, ""
    with dask_client(cluster), Tally(len(nodules), run.failure_budget) as tally:
        starts = range(0, len(nodules), run.nodules_per_batch)
        batches = [nodules[start : start + run.nodules_per_batch] for start in starts]
        for future in _batch_task(work, order, tally).map(batches):
            future.wait()
            ending = future.state.result(raise_on_failure=False)
            if isinstance(ending, BudgetSpent):
                stopped = str(ending)
            elif isinstance(ending, BaseException) and not isinstance(ending, PassingFailures):
                raise ending
    return tuple(tally.outcomes[key] for key in sorted(tally.outcomes)), stopped


def work_off_batch(work: Work, nodules: tuple[Nodule, ...], order: Order, tally: Tally) -> None:
    """Do the work for the open nodules of a batch; raises PassingFailures so that Prefect tries it again."""
    todo = [nodule for nodule in nodules if _is_open(tally.outcomes.get(nodule.id))]
    # Dask blames a worker's death on all that it held. Whoever was blamed goes again alone: then the blame is its own.
    blamed = [nodule for nodule in todo if nodule.id in tally.outcomes and tally.outcomes[nodule.id].stage == WORKER]
    _collect(work, [nodule for nodule in todo if nodule not in blamed], order, tally, alone=False)
    for nodule in blamed:
        _collect(work, [nodule], order, tally, alone=True)
    passing = [nodule.id for nodule in nodules if _is_open(tally.outcomes[nodule.id])]
    if passing:
        raise PassingFailures(f"{len(passing)} nodules failed for a passing reason, first {passing[0]}")


def _collect(work: Work, nodules: list[Nodule], order: Order, tally: Tally, *, alone: bool) -> None:
    client = default_client()
    futures = {client.submit(work, nodule, order, pure=False): nodule for nodule in nodules}
    try:
        for future in as_completed(futures):
            tally.check_budget()
            tally.add(_outcome_of(future, futures[future], order, alone=alone))
            future.release()
    finally:
        client.cancel(list(futures))


def _batch_task(work: Work, order: Order, tally: Tally) -> Task[[tuple[Nodule, ...]], None]:
    # Prefect walks through a task's arguments; the tally changes meanwhile, so it is no argument.
    @task(
        name="curate batch",
        cache_policy=NO_CACHE,
        retries=order.recipe.run.retries,
        retry_delay_seconds=exponential_backoff(backoff_factor=order.recipe.run.retry_delay_s),
        retry_condition_fn=_is_passing,
    )
    def curate_batch(nodules: tuple[Nodule, ...]) -> None:
        work_off_batch(work, nodules, order, tally)

    return curate_batch


def _is_passing(_: Task[..., object], __: TaskRun, state: State[object]) -> bool:
    return isinstance(state.result(raise_on_failure=False), PassingFailures)


def _is_open(outcome: Outcome | None) -> bool:
    return outcome is None or (outcome.state == "failed" and outcome.passing)


def _outcome_of(future: Future[Outcome], nodule: Nodule, order: Order, *, alone: bool) -> Outcome:
    """Give what a future came to; a worker that died with it leaves a failure of that nodule alone."""
    error = future.exception()
    if error is None:
        outcome: Outcome = future.result()
        return outcome
    reason = f"{type(error).__name__}: the worker died under this nodule, perhaps for want of memory ({error})"
    outcome = Outcome(nodule.id, nodule.patient_id, "failed", WORKER, reason, passing=not alone)
    write_outcome(open_store(order.store_url), outcome)
    return outcome

"""Nodules over workers: batches as Prefect tasks, visible and retried; inside a batch one Dask future a nodule.

Only keys and small records travel. Hardly more nodules are under way than there are threads to work on them: a few wait
at the scheduler, so that no worker waits for this process, the rest here, where it costs nothing. A worker holds one
nodule a thread, so its death costs at most those.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError

from distributed import Client, Future
from distributed.comm.core import CommClosedError
from distributed.scheduler import KilledWorker
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task, exponential_backoff

from flows.engine.cluster import Cluster, dask_client
from flows.engine.logs import log_on_workers, logger
from flows.engine.progress import ProgressTracker, RunAborted
from storage.cases.outcomes import write_outcome
from storage.errors import StoreError
from storage.records import Outcome
from storage.sources.base import Nodule
from storage.store import open_store
from tasks.curation.context import CurationJob

BATCHES_AT_ONCE = 2
"""The next batch begins while the last nodules of one are finishing."""

WORKER = "worker"
"""The stage of an outcome that a worker's death left behind."""

_AHEAD = 4
"""One nodule waits at the scheduler for so many threads, and at least one."""

_COUNT_AGAIN_S = 1.0
"""Workers come and go; asking the scheduler for every nodule would cost more than it is worth."""

Work = Callable[[Nodule, CurationJob], Outcome]
"""What is done with one nodule, on one worker."""


class TransientFailures(Exception):
    """Some nodules of a batch failed for reasons that may pass."""


class SchedulerLostError(RunAborted):
    """The Dask scheduler went away, and with it all that was under way."""


def fan_out(
    work: Work, nodules: tuple[Nodule, ...], order: CurationJob, cluster: Cluster
) -> tuple[tuple[Outcome, ...], str]:
    """Do the work for every nodule on the cluster; gives the outcomes by id, and why it stopped early if it did."""
    at_least = cluster.file.adapt.maximum if cluster.file and cluster.file.adapt else 1
    with (
        dask_client(cluster) as client,
        ProgressTracker(len(nodules), order.recipe.run.failure_budget) as tally,
    ):
        log_on_workers(client)
        fan = BatchExecutor(work, order, tally, client, at_least)
        # Two batches have to keep every thread busy.
        size = max(order.recipe.run.nodules_per_task, fan.threads())
        stopped = _work_off(
            fan, [nodules[start : start + size] for start in range(0, len(nodules), size)]
        )
        # Dask blames a worker's death on all that it held, culprit and bystander. Alone, the blame is a nodule's own.
        fan.alone = True
        for suspect in [
            nodule
            for nodule in nodules
            if not stopped and tally.outcomes[nodule.id].stage == WORKER
        ]:
            tally.forget(suspect.id)
            stopped = stopped or _work_off(fan, [(suspect,)])
    return tuple(tally.outcomes[key] for key in sorted(tally.outcomes)), stopped


class BatchExecutor:
    """What the batches of a run share: the work, the count, the cluster, and how much of it is busy."""

    def __init__(
        self,
        work: Work,
        order: CurationJob,
        tally: ProgressTracker,
        client: Client,
        at_least: int = 1,
    ) -> None:
        self.work, self.order, self.tally, self.client = work, order, tally, client
        self.at_least = at_least
        """Nodules to have under way however few workers there are: a cluster that adapts grows with what waits."""
        self.alone = False
        """True while nothing but one nodule is under way."""
        self.lost = False
        """True once the scheduler went away."""
        self._busy = 0
        self._changed = threading.Condition()
        self._threads, self._counted_at = 0, -_COUNT_AGAIN_S

    def threads(self) -> int:
        """Count the threads that the cluster has to work with; raises SchedulerLostError."""
        if time.monotonic() - self._counted_at >= _COUNT_AGAIN_S:
            try:
                self._threads = sum(self.client.nthreads().values())
            except (OSError, ValueError, RuntimeError, CancelledError) as error:
                raise self.scheduler_lost(error) from error
            self._counted_at = time.monotonic()
            if self._threads == 0:
                self.tally.say("waiting for workers")
        return self._threads

    def submit(self, nodule: Nodule, finished: deque[Future[Outcome]]) -> Future[Outcome] | None:
        """Send a nodule to the cluster; it is put into `finished` when it is. None when enough are under way."""
        threads = self.threads()
        room = max(self.at_least, threads + max(1, threads // _AHEAD))
        with self._changed:
            if self._busy >= room:
                return None
            self._busy += 1
        try:
            future = self.client.submit(self.work, nodule, self.order, pure=False)
        except (OSError, ValueError, RuntimeError) as error:
            raise self.scheduler_lost(error) from error

        def done(future: Future[Outcome]) -> None:
            with self._changed:
                self._busy -= 1
                finished.append(future)
                self._changed.notify_all()

        future.add_done_callback(done)
        return future

    def wait(self, finished: deque[Future[Outcome]]) -> None:
        """Wait until something finished, here or in another batch, or workers may have come."""
        with self._changed:
            if not finished:
                self._changed.wait(timeout=_COUNT_AGAIN_S)

    def scheduler_lost(self, error: BaseException) -> SchedulerLostError:
        """Note that the scheduler is gone; gives what to raise."""
        if not self.lost:
            logger.error("scheduler lost", extra={"reason": str(error)})
            # The client now tells at length what it can no longer do; ours is the message that helps.
            for name in list(logging.root.manager.loggerDict):
                if name.startswith("distributed"):
                    logging.getLogger(name).setLevel(logging.CRITICAL)
        self.lost = True
        return SchedulerLostError(
            f"stopped early: the Dask scheduler went away ({type(error).__name__}). What is stored stays: when it is "
            "back, run the same command again."
        )


def work_off_batch(fan: BatchExecutor, nodules: tuple[Nodule, ...]) -> None:
    """Do the work for the open nodules of a batch; raises TransientFailures so that Prefect tries it again."""
    outcomes = fan.tally.outcomes
    todo = deque(nodule for nodule in nodules if _is_open(outcomes.get(nodule.id)))
    under_way: dict[Future[Outcome], Nodule] = {}
    finished: deque[Future[Outcome]] = deque()
    try:
        while todo or under_way:
            if fan.lost:
                raise fan.scheduler_lost(CancelledError())
            while todo and (future := fan.submit(todo[0], finished)):
                under_way[future] = todo.popleft()
            fan.wait(finished)
            while finished:
                future = finished.popleft()
                fan.tally.check_budget()
                fan.tally.add(_outcome_of(future, under_way.pop(future), fan))
    finally:
        if not fan.lost:
            fan.client.cancel(list(under_way))
    transient = [nodule.id for nodule in nodules if _is_open(outcomes[nodule.id])]
    if transient:
        raise TransientFailures(
            f"{len(transient)} nodules failed for a passing reason, first {transient[0]}"
        )


def _work_off(fan: BatchExecutor, batches: list[tuple[Nodule, ...]]) -> str:
    """Work off batches, some at once; gives why it stopped early, if it did."""
    stopped = ""
    for future in _batch_task(fan).map(batches):
        future.wait()
        ending = future.state.result(raise_on_failure=False)
        if isinstance(ending, RunAborted):
            stopped = str(ending)
        elif isinstance(ending, BaseException) and not isinstance(ending, TransientFailures):
            raise ending
    return stopped


def _batch_task(fan: BatchExecutor) -> Task[[tuple[Nodule, ...]], None]:
    # Prefect walks through a task's arguments; what the batches share changes meanwhile, so it is no argument.
    run = fan.order.recipe.run

    @task(
        name="curate batch",
        cache_policy=NO_CACHE,
        retries=run.retries,
        retry_delay_seconds=exponential_backoff(backoff_factor=run.retry_delay_s),
        retry_condition_fn=_is_passing,
    )
    def curate_batch(nodules: tuple[Nodule, ...]) -> None:
        work_off_batch(fan, nodules)

    return curate_batch


def _is_passing(_: Task[..., object], __: TaskRun, state: State[object]) -> bool:
    return isinstance(state.result(raise_on_failure=False), TransientFailures)


def _is_open(outcome: Outcome | None) -> bool:
    """Tell whether a batch has still to see to a nodule; one that a worker died with waits until it can go alone."""
    return outcome is None or (outcome.transient and outcome.stage != WORKER)


def _outcome_of(future: Future[Outcome], nodule: Nodule, fan: BatchExecutor) -> Outcome:
    """Give what a future came to; a worker that died with it leaves a failure of that nodule alone."""
    try:
        returned: Outcome = future.result()
        return returned
    except (CancelledError, CommClosedError) as error:  # we cancel nothing that we still wait for
        raise fan.scheduler_lost(error) from error
    except KilledWorker as error:
        reason = f"{type(error).__name__}: the worker died under this nodule, perhaps for want of memory ({error})"
    outcome = Outcome(
        nodule.id, nodule.patient_id, "failed", WORKER, reason, transient=not fan.alone
    )
    try:
        write_outcome(open_store(fan.order.store_url), outcome)
    except StoreError:
        logger.exception("the store does not take the outcome of %s", nodule.id)
    return outcome

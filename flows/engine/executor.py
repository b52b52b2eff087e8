"""Execution of a run: batches of nodules as retried Prefect tasks, one Dask future per nodule.

Only keys and small records travel between processes. The number of nodules in flight is bounded by
the number of threads of the cluster: a few more are queued at the scheduler, so that no worker
waits for this process. A worker holds one nodule per thread, so its death affects at most those.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import CancelledError
from contextlib import closing

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
from storage.sources.errors import SourceUnreachableError
from storage.sources.registry import check_reachable
from storage.store import open_store
from tasks.curation.context import CurationJob

CONCURRENT_BATCHES = 2
"""The next batch begins while the last nodules of the previous one are finishing."""

WORKER_STAGE = "worker"
"""The stage of an outcome whose worker died."""

_THREADS_PER_QUEUED_NODULE = 4
"""One nodule is queued at the scheduler for this many threads, and at least one."""

_THREAD_COUNT_TTL_S = 1.0
"""Workers come and go, but asking the scheduler before every nodule would be too expensive."""

NoduleFunction = Callable[[Nodule, CurationJob], Outcome]
"""What a worker runs for one nodule."""


class TransientFailures(Exception):
    """Some nodules of a batch failed for reasons that may disappear on a retry."""


class SchedulerLostError(RunAborted):
    """The Dask scheduler is gone, and with it every nodule that was in flight."""


def run_nodules(
    function: NoduleFunction, nodules: tuple[Nodule, ...], job: CurationJob, cluster: Cluster
) -> tuple[tuple[Outcome, ...], str]:
    """Run a function for every nodule on a cluster.

    Args:
        function: Called as `function(nodule, job)` on a worker.
        nodules: The nodules to run.
        job: Shared by all of them; its recipe sets batch size, retries and failure budget.
        cluster: Where the workers are.

    Returns:
        The outcomes sorted by nodule id, and why the run was aborted (empty where it was not).
    """
    min_in_flight = cluster.file.adapt.maximum if cluster.file and cluster.file.adapt else 1
    with (
        dask_client(cluster) as client,
        ProgressTracker(len(nodules), job.recipe.run.failure_budget) as progress,
    ):
        log_on_workers(client)
        executor = BatchExecutor(function, job, progress, client, min_in_flight)
        # The concurrent batches have to keep every thread busy.
        size = max(job.recipe.run.nodules_per_task, executor.count_threads())
        batches = [nodules[start : start + size] for start in range(0, len(nodules), size)]
        aborted = _run_batches(executor, batches)
        if not aborted:
            aborted = _retry_suspects(executor, nodules)
    return tuple(progress.outcomes[key] for key in sorted(progress.outcomes)), aborted


def _retry_suspects(executor: "BatchExecutor", nodules: tuple[Nodule, ...]) -> str:
    """Run the nodules whose worker died once more, one at a time.

    Dask blames the death of a worker on everything that the worker held. A nodule that runs alone
    and loses its worker again is the culprit; the others succeed.
    """
    outcomes = executor.progress.outcomes
    suspects = [nodule for nodule in nodules if outcomes[nodule.id].stage == WORKER_STAGE]
    executor.one_at_a_time = True
    for suspect in suspects:
        executor.progress.discard(suspect.id)
        aborted = _run_batches(executor, [(suspect,)])
        if aborted:
            return aborted
    return ""


class BatchExecutor:
    """Executor of nodules on a Dask cluster, shared by the concurrent batches of a run."""

    def __init__(
        self,
        function: NoduleFunction,
        job: CurationJob,
        progress: ProgressTracker,
        client: Client,
        min_in_flight: int = 1,
    ) -> None:
        self.function = function
        self.job = job
        self.progress = progress
        self.client = client
        self.min_in_flight = min_in_flight
        """Nodules in flight however few workers there are: an adaptive cluster grows with the
        queue."""
        self.one_at_a_time = False
        """True while a single nodule is in flight, so that a dead worker has one possible
        culprit."""
        self.scheduler_is_lost = False
        self._in_flight = 0
        self._changed = threading.Condition()
        self._threads = 0
        self._counted_at = -_THREAD_COUNT_TTL_S

    def as_completed(self, nodules: Iterable[Nodule]) -> Generator[Outcome, None, None]:
        """Run nodules and yield outcomes in the order of completion; closing it cancels the rest.

        Raises:
            SchedulerLostError: The scheduler went away.
        """
        pending = deque(nodules)
        futures: dict[Future[Outcome], Nodule] = {}
        completed: deque[Future[Outcome]] = deque()
        try:
            while pending or futures:
                if self.scheduler_is_lost:
                    raise self.lose_scheduler(CancelledError())
                while pending and (future := self._submit(pending[0], completed)):
                    futures[future] = pending.popleft()
                self._wait(completed)
                while completed:
                    future = completed.popleft()
                    yield self._result(future, futures.pop(future))
        finally:
            if not self.scheduler_is_lost:
                self.client.cancel(list(futures))

    def count_threads(self) -> int:
        """Return the number of threads in the cluster; raises SchedulerLostError."""
        if time.monotonic() - self._counted_at >= _THREAD_COUNT_TTL_S:
            try:
                self._threads = sum(self.client.nthreads().values())
            except (OSError, ValueError, RuntimeError, CancelledError) as error:
                raise self.lose_scheduler(error) from error
            self._counted_at = time.monotonic()
            if self._threads == 0:
                self.progress.show_message("waiting for workers")
        return self._threads

    def lose_scheduler(self, error: BaseException) -> SchedulerLostError:
        """Mark the scheduler as lost and return the error to raise."""
        if not self.scheduler_is_lost:
            logger.error("scheduler lost", extra={"reason": str(error)})
            # Dask's client logs every request that it can no longer make; our message is the useful
            # one.
            for name in list(logging.root.manager.loggerDict):
                if name.startswith("distributed"):
                    logging.getLogger(name).setLevel(logging.CRITICAL)
        self.scheduler_is_lost = True
        return SchedulerLostError(
            "run aborted: the connection to the Dask scheduler was lost "
            f"({type(error).__name__}). Stored cases are kept; when the scheduler is available "
            "again, run the same command again."
        )

    def _submit(self, nodule: Nodule, completed: deque[Future[Outcome]]) -> Future[Outcome] | None:
        """Submit a nodule, whose future is appended to `completed` when done.

        Returns None where enough nodules are in flight.
        """
        threads = self.count_threads()
        queued = max(1, threads // _THREADS_PER_QUEUED_NODULE)
        limit = max(self.min_in_flight, threads + queued)
        with self._changed:
            if self._in_flight >= limit:
                return None
            self._in_flight += 1
        try:
            future = self.client.submit(self.function, nodule, self.job, pure=False)
        except (OSError, ValueError, RuntimeError) as error:
            raise self.lose_scheduler(error) from error

        def done(future: Future[Outcome]) -> None:
            with self._changed:
                self._in_flight -= 1
                completed.append(future)
                self._changed.notify_all()

        future.add_done_callback(done)
        return future

    def _wait(self, completed: deque[Future[Outcome]]) -> None:
        """Wait until a nodule of any batch completes, or until workers may have joined."""
        with self._changed:
            if not completed:
                self._changed.wait(timeout=_THREAD_COUNT_TTL_S)

    def _result(self, future: Future[Outcome], nodule: Nodule) -> Outcome:
        """Return the outcome of a future; the death of its worker is a failure, and stored."""
        try:
            returned: Outcome = future.result()
            return returned
        except (CancelledError, CommClosedError) as error:
            # Futures are cancelled only when nobody waits for them any more.
            raise self.lose_scheduler(error) from error
        except KilledWorker as error:
            name = type(error).__name__
            reason = f"{name}: the worker process died, possibly out of memory ({error})"
        outcome = Outcome(
            nodule.id,
            nodule.patient_id,
            "failed",
            WORKER_STAGE,
            reason,
            transient=not self.one_at_a_time,
        )
        try:
            write_outcome(open_store(self.job.store_url), outcome)
        except StoreError as error:
            logger.error("cannot write the outcome of %s: %s", nodule.id, error)
        return outcome


def run_batch(executor: BatchExecutor, nodules: tuple[Nodule, ...]) -> None:
    """Run the nodules of a batch that have no final outcome yet.

    Raises:
        TransientFailures: Some failed for transient reasons; Prefect retries the batch.
        RunAborted: The failure budget is exceeded, or the scheduler is lost.
    """
    progress = executor.progress
    pending = [nodule for nodule in nodules if _is_pending(progress.outcomes.get(nodule.id))]
    with closing(executor.as_completed(pending)) as outcomes:
        for outcome in outcomes:
            progress.check_failure_budget()
            progress.add(outcome)
            _check_source(executor.job, outcome)
    transient = [nodule.id for nodule in nodules if _is_pending(progress.outcomes[nodule.id])]
    if transient:
        raise TransientFailures(
            f"{len(transient)} nodules failed for transient reasons, the first is {transient[0]}"
        )


def _check_source(job: CurationJob, outcome: Outcome) -> None:
    """Raise RunAborted where a nodule ended because the source went away."""
    if outcome.stage != "scan" and not outcome.unreachable_since:
        return
    try:
        check_reachable(job.source)
    except SourceUnreachableError as error:
        raise RunAborted(f"run aborted: {error}") from error


def _run_batches(executor: BatchExecutor, batches: list[tuple[Nodule, ...]]) -> str:
    """Run batches, some concurrently, and return why the run was aborted, if it was."""
    aborted = ""
    for future in _batch_task(executor).map(batches):
        future.wait()
        result = future.state.result(raise_on_failure=False)
        if isinstance(result, RunAborted):
            aborted = str(result)
        elif isinstance(result, BaseException) and not isinstance(result, TransientFailures):
            raise result
    return aborted


def _batch_task(executor: BatchExecutor) -> Task[[tuple[Nodule, ...]], None]:
    # Prefect traverses the arguments of a task. The executor changes meanwhile, so it is bound here
    # instead.
    run = executor.job.recipe.run

    @task(
        name="curate batch",
        cache_policy=NO_CACHE,
        retries=run.retries,
        retry_delay_seconds=exponential_backoff(backoff_factor=run.retry_delay_s),
        retry_condition_fn=_is_transient,
    )
    def curate_batch(nodules: tuple[Nodule, ...]) -> None:
        run_batch(executor, nodules)

    return curate_batch


def _is_transient(_: Task[..., object], __: TaskRun, state: State[object]) -> bool:
    return isinstance(state.result(raise_on_failure=False), TransientFailures)


def _is_pending(outcome: Outcome | None) -> bool:
    """Return whether a batch has to run a nodule; one whose worker died is run alone later."""
    return outcome is None or (outcome.transient and outcome.stage != WORKER_STAGE)

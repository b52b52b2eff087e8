"""Execution of nodules on a Dask cluster: one future per nodule, bounded in flight.

Only keys and small records travel between processes. The number of nodules in flight is bounded by
the number of threads of the cluster: a few more are queued at the scheduler, so that no worker
waits for this process. A worker holds one nodule per thread, so its death affects at most those.
"""

import logging
import threading
import time
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import CancelledError

from distributed import Client, Future
from distributed.comm.core import CommClosedError
from distributed.scheduler import KilledWorker

from flows.engine.errors import NoWorkersError, SchedulerLostError
from flows.engine.in_flight import InFlight
from flows.engine.logs import logger
from flows.engine.progress import ProgressTracker
from storage.cases.outcomes import write_outcome
from storage.errors import StoreError
from storage.records import Outcome
from storage.sources.base import Nodule
from storage.store import open_store
from tasks.curation.context import CurationJob

WORKER_STAGE = "worker"
"""The stage of an outcome whose worker died."""

_THREADS_PER_QUEUED_NODULE = 4
"""One nodule is queued at the scheduler for this many threads, and at least one."""

_THREAD_COUNT_TTL_S = 1.0
"""Workers come and go, but asking the scheduler before every nodule would be too expensive."""

_SAY_WAITING_EVERY_S = 300.0
_FIRST_SAID_AFTER_S = 20.0
"""Workers take seconds to start; only those that take longer are worth a line in the log."""

NoduleFunction = Callable[[Nodule, CurationJob], Outcome]
"""What a worker runs for one nodule."""


class NoduleExecutor:
    """Executor of nodules on a Dask cluster, shared by the task runs of a flow run."""

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
        self.error: BaseException | None = None
        """What ended the run before its last nodule; the first of several."""
        self._in_flight = InFlight(self.capacity)
        self._lock = threading.Lock()
        self._threads = 0
        self._counted_at = -_THREAD_COUNT_TTL_S
        self._waiting_said_at = time.monotonic() - _SAY_WAITING_EVERY_S + _FIRST_SAID_AFTER_S
        self._seen_workers_at = time.monotonic()

    def as_completed(self, nodules: Iterable[Nodule]) -> Generator[Outcome, None, None]:
        """Run nodules and yield outcomes in the order of completion; closing it cancels the rest.

        Raises:
            SchedulerLostError: The scheduler went away.
            StoppedError: The run was stopped.
        """
        open_futures: dict[str, Future[Outcome]] = {}

        def submit(nodule: Nodule) -> Future[Outcome]:
            try:
                future = self.client.submit(self.function, nodule, self.job, pure=False)
            except (OSError, ValueError, RuntimeError) as error:
                raise self.lose_scheduler(error) from error
            open_futures[nodule.id] = future
            return future

        try:
            for nodule, future in self._in_flight.as_completed(nodules, submit):
                del open_futures[nodule.id]
                yield self._result(future, nodule)
        finally:
            if open_futures and not isinstance(self.error, SchedulerLostError):
                self.client.cancel(list(open_futures.values()))

    def capacity(self) -> int:
        """Return how many nodules may be in flight; raises as `count_threads` does."""
        threads = self.count_threads()
        queued = max(1, threads // _THREADS_PER_QUEUED_NODULE)
        return 1 if self.one_at_a_time else max(self.min_in_flight, threads + queued)

    def count_threads(self) -> int:
        """Return the number of threads in the cluster.

        Raises:
            SchedulerLostError: The scheduler went away.
            NoWorkersError: There have been no workers for as long as the recipe allows.
        """
        with self._lock:
            if time.monotonic() - self._counted_at >= _THREAD_COUNT_TTL_S:
                try:
                    self._threads = sum(self.client.nthreads().values())
                except (OSError, ValueError, RuntimeError, CancelledError) as error:
                    raise self.lose_scheduler(error) from error
                self._counted_at = time.monotonic()
                if self._threads:
                    self._seen_workers_at = self._counted_at
                else:
                    self._wait_for_workers()
            return self._threads

    def _wait_for_workers(self) -> None:
        """Show that there are no workers, and log it from time to time; not for ever."""
        self.progress.show_message("waiting for workers")
        now = time.monotonic()
        longest_h = self.job.recipe.run.wait_for_workers_h
        if now - self._seen_workers_at > 3600 * longest_h:
            raise NoWorkersError(
                f"run aborted: the scheduler {self._scheduler} had no worker for {longest_h:g} h "
                "(run.wait_for_workers_h). Stored cases are kept; start workers, or look at the "
                "queue of the cluster that starts them, and run the same command again."
            )
        if now - self._waiting_said_at >= _SAY_WAITING_EVERY_S:
            self._waiting_said_at = now
            logger.warning(
                "waiting for workers: the scheduler %s has none. Start workers, or look at the "
                "queue of the cluster that starts them; nodules begin when one joins, and the run "
                "ends where none does for %g h (run.wait_for_workers_h)",
                self._scheduler,
                longest_h,
                extra={"event": "waiting for workers"},
            )

    @property
    def _scheduler(self) -> str:
        return str(self.client.scheduler.address) if self.client.scheduler else "of this run"

    def drain(self) -> None:
        """Submit nothing more; what is in flight may finish."""
        self._in_flight.drain()

    def stop(self, error: BaseException) -> None:
        """End the run: nothing more is submitted, and nobody waits for what is in flight."""
        if self.error is None:
            self.error = error
        self._in_flight.stop()

    def lose_scheduler(self, error: BaseException) -> SchedulerLostError:
        """Mark the scheduler as lost and return the error to raise."""
        lost = SchedulerLostError(
            "run aborted: the connection to the Dask scheduler was lost "
            f"({type(error).__name__}). Stored cases are kept; when the scheduler is available "
            "again, run the same command again."
        )
        if self.error is None:
            logger.error("scheduler lost", extra={"reason": str(error)})
            # Dask's client logs every request that it can no longer make; our message is the useful
            # one.
            for name in list(logging.root.manager.loggerDict):
                if name.startswith("distributed"):
                    logging.getLogger(name).setLevel(logging.CRITICAL)
        self.stop(lost)
        return lost

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

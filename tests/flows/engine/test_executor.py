"""What a run makes of a scheduler that goes away, wherever the client notices it."""

from concurrent.futures import CancelledError
from dataclasses import replace

import pytest
from distributed.comm.core import CommClosedError

from flows.engine.errors import NoWorkersError, SchedulerLostError
from flows.engine.executor import NoduleExecutor
from flows.engine.progress import ProgressTracker
from flows.engine.task_runs import run_batch
from storage.recipe import load_recipe
from storage.sources.base import Nodule
from storage.sources.registry import SourceSpec
from tasks.curation.context import CurationJob

NODULE = Nodule("n1", "p1", {})
JOB = CurationJob(SourceSpec("files", "none.csv"), "none", load_recipe())


class Finished:
    """A future that is done, whose result lies with a scheduler that is gone."""

    def __init__(self, error):
        self.error = error

    def add_done_callback(self, done):
        done(self)

    def result(self):
        raise self.error


class Client:
    def __init__(self, error):
        self.error = error

    def nthreads(self):
        return {"worker": 1}

    def submit(self, *_, **__):
        return Finished(self.error)

    def cancel(self, _):
        raise AssertionError("nobody is there to be told")


@pytest.mark.parametrize("error", [CancelledError(), CommClosedError("Stream is closed")])
def test_a_result_that_cannot_be_fetched_ends_the_run_with_what_to_do(error):
    with (
        ProgressTracker(1, 0.2) as progress,
        pytest.raises(SchedulerLostError, match="run the same command again"),
    ):
        run_batch(NoduleExecutor(lambda *_: None, JOB, progress, Client(error)), (NODULE,))
    assert not progress.outcomes


def test_a_run_without_workers_says_what_it_waits_for_and_where(monkeypatch, caplog):
    monkeypatch.setattr("flows.engine.executor._FIRST_SAID_AFTER_S", 0.0)
    monkeypatch.setattr("flows.engine.executor._THREAD_COUNT_TTL_S", 0.0)
    client = Client(None)
    client.scheduler = None
    client.nthreads = dict
    with ProgressTracker(1, 0.2) as progress:
        executor = NoduleExecutor(lambda *_: None, JOB, progress, client)
        assert [executor.count_threads() for _ in range(3)] == [0, 0, 0]
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1
    assert "waiting for workers: the scheduler of this run has none. Start workers" in said[0]


@pytest.mark.parametrize("in_flight", [False, True], ids=["at the start", "with its last nodule"])
def test_a_run_whose_cluster_stays_without_workers_ends(monkeypatch, in_flight):
    monkeypatch.setattr("flows.engine.executor._THREAD_COUNT_TTL_S", 0.0)
    monkeypatch.setattr("flows.engine.in_flight._LOOK_AGAIN_S", 0.01)
    recipe = load_recipe(run={"wait_for_workers_h": 0.1 / 3600})
    client = Client(None)
    client.scheduler = None
    workers = iter([{"worker": 1}] if in_flight else [])
    client.nthreads = lambda: next(workers, {})
    client.submit = lambda *_, **__: Pending()
    client.cancel = lambda _: None
    with (
        ProgressTracker(1, 0.2) as progress,
        pytest.raises(NoWorkersError, match=r"no worker for .* h \(run\.wait_for_workers_h\)"),
    ):
        run_batch(
            NoduleExecutor(lambda *_: None, replace(JOB, recipe=recipe), progress, client),
            (NODULE,),
        )


class Pending:
    def add_done_callback(self, _):
        """Nobody computes it."""

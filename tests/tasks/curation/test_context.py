"""The context of a nodule: its stages, and the outcome that it ends in whatever happens."""

from contextlib import suppress

import numpy as np
import pytest

import tasks.curation.context
from matting.errors import InputError
from storage.cases.case import ALGORITHM_VERSION
from storage.cases.outcomes import Outcome, find_outcome, write_outcome
from storage.errors import UnavailableError, WriteError
from storage.layout import done_key
from tasks.curation.context import NoduleContext, input_fingerprint, nodule_context
from tasks.curation.inventory import take_inventory


@pytest.fixture
def nodule(job):
    return take_inventory(job, None).nodules[0]


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets."""
    time = [0.0]
    monkeypatch.setattr(tasks.curation.context.time, "perf_counter", lambda: time[0])
    return time


def test_a_stage_is_timed_even_where_it_fails(job, nodule, clock):
    context = NoduleContext(nodule, job)
    assert context.stage == "scan"
    with context.timed_stage("crop"):
        assert context.stage == "crop"
        clock[0] += 1.23456
    with suppress(KeyError), context.timed_stage("solve"):
        clock[0] += 2
        raise KeyError
    assert context.stage == "solve"
    assert context.seconds == {"crop": 1.2346, "solve": 2.0}


def mark(store, digest):
    store.put(done_key("n1", digest), b"{}")


def test_a_nodule_that_ends_well_is_done_and_computed(job, nodule, store):
    mark(store, "ab" * 32)
    with nodule_context(nodule, job) as context:
        context.stage = "write"
        context.digest = "ab" * 32
        context.stored_bytes, context.unknown_voxels, context.patch_voxels = 3, 2, 1
        context.synthetic = True
        context.inputs = {"stamp": "s"}
    outcome = context.outcome
    assert (outcome.nodule_id, outcome.patient_id) == ("n1", "P-n1")
    assert (outcome.state, outcome.stage, outcome.reason) == ("done", "write", "")
    assert (outcome.computed, outcome.synthetic, outcome.digest) == (True, True, "ab" * 32)
    assert (outcome.stored_bytes, outcome.unknown_voxels, outcome.patch_voxels) == (3, 2, 1)
    assert outcome.inputs == {"stamp": "s"}
    assert outcome.versions["numpy"] == np.__version__
    assert "halosign" in outcome.versions
    assert find_outcome(store, "n1") == outcome


def test_a_fingerprint_names_source_recipe_and_algorithm(job, nodule):
    fingerprint = input_fingerprint(nodule, job)
    assert set(fingerprint) == {"stamp", "recipe", "algorithm"}
    assert fingerprint["algorithm"] == ALGORITHM_VERSION
    assert fingerprint["recipe"]["crop"]["in_plane_voxels"] == 24
    assert "run" not in fingerprint["recipe"]
    assert fingerprint["stamp"] == input_fingerprint(nodule, job)["stamp"]
    other = take_inventory(job, None).nodules[1]
    assert fingerprint["stamp"] != input_fingerprint(other, job)["stamp"]


@pytest.mark.parametrize(
    ("error", "state", "transient"),
    [
        (InputError("bad", got="a", expected="b", remedy="C."), "refused", False),
        (UnavailableError("503"), "failed", True),
        (ConnectionResetError("reset"), "failed", True),
        (TimeoutError("slow"), "failed", True),
        (WriteError("full"), "failed", False),
        (OSError("disk"), "failed", False),
        (MemoryError("much"), "failed", False),
    ],
)
def test_every_error_becomes_an_outcome(job, nodule, store, error, state, transient):
    with nodule_context(nodule, job) as context:
        context.stage = "solve"
        raise error
    outcome = find_outcome(store, "n1")
    assert outcome == context.outcome
    assert (outcome.state, outcome.stage, outcome.computed) == (state, "solve", False)
    assert context.transient == transient
    expected = str(error) if state == "refused" else f"{type(error).__name__}: {error}"
    assert outcome.reason == expected


def test_an_interruption_is_not_an_outcome(job, nodule, store):
    with pytest.raises(KeyboardInterrupt), nodule_context(nodule, job):
        raise KeyboardInterrupt
    assert find_outcome(store, "n1") is None


STATISTICS = {"seconds": {"solve": 1.5}, "stored_bytes": 9, "unknown_voxels": 8, "patch_voxels": 7}


@pytest.mark.parametrize(
    ("previous_digest", "already_stored", "restored"),
    [("ab" * 32, True, True), ("cd" * 32, True, False), ("ab" * 32, False, False)],
)
def test_statistics_are_those_of_the_run_that_computed_the_case(
    job, nodule, store, previous_digest, already_stored, restored
):
    write_outcome(
        store, Outcome("n1", "P-n1", "done", "write", digest=previous_digest, **STATISTICS)
    )
    mark(store, "ab" * 32)
    with nodule_context(nodule, job) as context:
        context.digest, context.already_stored = "ab" * 32, already_stored
    outcome = context.outcome
    assert outcome.computed != already_stored
    found = {name: getattr(outcome, name) for name in STATISTICS}
    nothing = {"seconds": {}, "stored_bytes": 0, "unknown_voxels": 0, "patch_voxels": 0}
    assert found == (STATISTICS if restored else nothing)


def test_a_case_that_was_stored_without_an_outcome_has_no_statistics(job, nodule):
    with nodule_context(nodule, job) as context:
        context.already_stored = True
    assert (context.outcome.state, context.outcome.seconds) == ("done", {})


def test_a_case_that_is_removed_before_its_outcome_is_written_is_tried_again(job, nodule, store):
    mark(store, "ab" * 32)
    with nodule_context(nodule, job) as context:
        context.digest, context.already_stored = "ab" * 32, True
        store.delete([done_key("n1", "ab" * 32)])
    assert (context.outcome.state, context.outcome.transient) == ("failed", True)
    assert "its case was removed while its outcome was written" in context.outcome.reason
    assert find_outcome(store, "n1") == context.outcome


def test_no_failure_forgets_the_last_finished_case(job, nodule, store):
    mark(store, "ab" * 32)
    with nodule_context(nodule, job) as context:
        context.digest = "ab" * 32
    done = context.outcome
    for error in (InputError("bad", got="a", expected="b", remedy="C."), MemoryError("much")):
        with nodule_context(nodule, job) as context:
            raise error
        assert find_outcome(store, "n1") == context.outcome
        assert context.outcome.finished == context.outcome.last_done == done


@pytest.mark.parametrize(
    ("error", "transient"), [(UnavailableError("503"), True), (WriteError("full"), False)]
)
def test_an_outcome_that_cannot_be_written_is_a_failure(job, nodule, monkeypatch, error, transient):
    def failing(*_):
        raise error

    monkeypatch.setattr(tasks.curation.context, "write_outcome", failing)
    with nodule_context(nodule, job) as context:
        pass
    assert (context.state, context.transient) == ("failed", transient)
    assert context.reason == f"{type(error).__name__}: {error}"

"""Verify a store: read every file that it holds and compare it with its checksum.

Nothing is changed; `storage.maintenance.quarantine` sets aside what is damaged. This module
verifies cases and outcomes, nodule by nodule; `storage.maintenance.verify_records` the rest.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from storage.cases.case import is_done, read_case_files, verify_files
from storage.cases.outcomes import map_concurrently
from storage.errors import CorruptionError, NotFoundError, StoreError
from storage.layout import CASES, OUTCOMES, case_prefix, done_key, outcome_key
from storage.records import Outcome, read_record
from storage.store import Store

_MARK = ".done"

DAMAGED_CASE = (
    "Restore the case from a backup, or set it aside with `halosign store check --repair` and run "
    "`halosign curate` again."
)
LOST_CASE = "Restore {mark} and its files from a backup, or run `halosign curate` again."


@dataclass(frozen=True, slots=True)
class Complaint:
    """What is wrong with a nodule or with another thing that the store holds, and what repairs it.

    Its `aside` names what is damaged, and the mark that says otherwise, by key.
    """

    about: str
    """A nodule, or a key."""
    wrong: str
    remedy: str
    aside: tuple[str, ...] = ()
    with_it: tuple[str, ...] = ()
    """What is copied along and stays: the keys of the rest of a case."""
    then: Callable[[Store, str], None] | None = field(default=None, compare=False)
    """What else to do once that was set aside: gets the store and the folder that holds it now."""

    def __str__(self) -> str:
        """Write it as one line."""
        return f"{self.about}: {self.wrong}. {self.remedy}"


def complaint_of(error: StoreError, about: str, *aside: str) -> Complaint:
    """Make a complaint of an error, which ends in its remedy.

    Args:
        error: What reading raised.
        about: A nodule, or a key.
        *aside: What is to be set aside; nothing where the store did not answer.
    """
    if not isinstance(error, CorruptionError | NotFoundError):
        wrong = f"could not be read: {error}".rstrip(".")
        return Complaint(about, wrong, "Verify again when the store answers.")
    wrong, _, remedy = str(error).rpartition(". ")
    if about == error.key:  # it is said already
        wrong = wrong.rpartition(f"{about} ")[2]
    return Complaint(about, wrong, remedy, aside)


def list_nodules(store: Store) -> list[str]:
    """List every nodule that the store has a case or an outcome of, sorted."""
    outcomes = {name.removesuffix(".json") for name in store.list_dir(OUTCOMES)[1]}
    return sorted(outcomes | set(store.list_dir(CASES)[0]))


def verify_nodules(store: Store, nodule_ids: list[str]) -> Iterator[tuple[Complaint, ...]]:
    """Verify the cases and outcomes of nodules, in order.

    Args:
        store: What to verify.
        nodule_ids: As `list_nodules` returned them.

    Yields:
        The complaints about each nodule; empty where nothing is wrong.
    """
    yield from map_concurrently(lambda name: tuple(_complaints(store, name)), nodule_ids)


def _complaints(store: Store, nodule_id: str) -> Iterator[Complaint]:
    for name in store.list_dir(f"{CASES}/{nodule_id}")[1]:
        if name.endswith(_MARK):
            yield from _case_complaints(store, nodule_id, name.removesuffix(_MARK))
    key = outcome_key(nodule_id)
    try:
        outcome = read_record(store, key, Outcome)
    except NotFoundError:
        return  # an interruption between a case and its outcome leaves none, which is no damage
    except StoreError as error:
        yield complaint_of(error, nodule_id, key)
        return
    if outcome.nodule_id != nodule_id:
        wrong = f"{key} is of another nodule: got {outcome.nodule_id}, expected {nodule_id}"
        yield Complaint(nodule_id, wrong, Outcome.remedy, (key,))
    elif outcome.state == "done" and not is_done(store, nodule_id, str(outcome.digest)):
        mark = done_key(nodule_id, str(outcome.digest))
        wrong = f"{mark} is missing, but the outcome is done"
        yield Complaint(nodule_id, wrong, LOST_CASE.format(mark=mark))


def _case_complaints(store: Store, nodule_id: str, digest: str) -> Iterator[Complaint]:
    mark = done_key(nodule_id, digest)
    rest = tuple(sorted(store.list_prefix(case_prefix(nodule_id, digest))))
    try:
        for wrong in verify_files(store, read_case_files(store, nodule_id, digest)):
            aside = (mark, *changed_file(wrong))
            yield Complaint(nodule_id, wrong, DAMAGED_CASE, aside, rest)
    except StoreError as error:
        yield replace(complaint_of(error, nodule_id, mark), with_it=rest)


def changed_file(wrong: str) -> tuple[str, ...]:
    """Return the key that a complaint of `verify_files` is about, unless it is missing."""
    key, _, what = wrong.partition(": ")
    return () if what == "missing" else (key,)

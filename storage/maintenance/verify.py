"""Verify a store: read every file of every case and compare it with its checksum.

Nothing is changed.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from storage.cases.case import is_done, read_case_files, verify_files
from storage.cases.outcomes import find_outcome, map_concurrently
from storage.errors import CorruptionError, NotFoundError, UnavailableError
from storage.layout import CASES, OUTCOMES, done_key, outcome_key
from storage.records import Outcome
from storage.store import Store

_MARK = ".done"

DAMAGED_CASE = "Restore the case from a backup, or delete {mark} and run `halosign curate` again."
LOST_CASE = "Restore {mark} and its files from a backup, or run `halosign curate` again."


@dataclass(frozen=True, slots=True)
class Complaint:
    """What is wrong with one nodule, and what repairs it."""

    nodule_id: str
    wrong: str
    remedy: str

    def __str__(self) -> str:
        """Write it as one line."""
        return f"{self.nodule_id}: {self.wrong}. {self.remedy}"


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
    outcome = find_outcome(store, nodule_id)
    if outcome is None:
        # An interruption between a case and its outcome leaves no outcome, which is no damage; a
        # damaged one is.
        if store.exists(outcome_key(nodule_id)):
            yield Complaint(nodule_id, f"{outcome_key(nodule_id)} is damaged", Outcome.remedy)
    elif outcome.state == "done" and not is_done(store, nodule_id, str(outcome.digest)):
        mark = done_key(nodule_id, str(outcome.digest))
        wrong = f"{mark} is missing, but the outcome is done"
        yield Complaint(nodule_id, wrong, LOST_CASE.format(mark=mark))


def _case_complaints(store: Store, nodule_id: str, digest: str) -> Iterator[Complaint]:
    remedy = DAMAGED_CASE.format(mark=done_key(nodule_id, digest))
    try:
        for wrong in verify_files(store, read_case_files(store, nodule_id, digest)):
            yield Complaint(nodule_id, wrong, remedy)
    except (CorruptionError, NotFoundError) as error:
        yield Complaint(nodule_id, str(error).rstrip("."), remedy)
    except UnavailableError as error:
        wrong = f"could not be read: {error}".rstrip(".")
        yield Complaint(nodule_id, wrong, "Verify again when the store answers.")

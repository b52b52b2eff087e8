"""Checking a store: does it hold what it says it holds? Reads everything, changes nothing."""

from collections.abc import Iterator
from dataclasses import dataclass

from storage.cases.case import case_files, damage, is_done
from storage.cases.outcomes import read_outcome, side_by_side
from storage.errors import CorruptionError, NotFoundError, UnavailableError
from storage.layout import CASES, OUTCOMES, done_key
from storage.store import Store

_MARK = ".done"

DAMAGED_CASE = "Restore the case from a backup, or delete {mark} and run `halosign curate` again to compute it anew."
LOST_CASE = (
    "Restore {mark} and its files from a backup, or run `halosign curate` again to compute it anew."
)
DAMAGED_OUTCOME = "Run `halosign curate` again, which writes it anew."


@dataclass(frozen=True, slots=True)
class Complaint:
    """What is wrong with one nodule, and what mends it."""

    nodule_id: str
    wrong: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.nodule_id}: {self.wrong}. {self.remedy}"


def nodules_to_verify(store: Store) -> list[str]:
    """Give every nodule that the store has a case or an outcome of, sorted."""
    named = {name.removesuffix(".json") for name in store.children(OUTCOMES)[1]}
    return sorted(named | set(store.children(CASES)[0]))


def verify_nodules(store: Store, nodule_ids: list[str]) -> Iterator[tuple[Complaint, ...]]:
    """Check nodule by nodule, in order: every mark, every file that a mark lists, and that outcomes have their case."""
    yield from side_by_side(lambda nodule_id: tuple(_complaints(store, nodule_id)), nodule_ids)


def _complaints(store: Store, nodule_id: str) -> Iterator[Complaint]:
    marks = [name for name in store.children(f"{CASES}/{nodule_id}")[1] if name.endswith(_MARK)]
    for name in marks:
        yield from _damaged(store, nodule_id, name.removesuffix(_MARK))
    outcome = read_outcome(store, nodule_id)
    if outcome is None:
        # A kill between a case and its outcome leaves none, which is no damage; one that cannot be read is.
        if store.size(f"{OUTCOMES}/{nodule_id}.json") is not None:
            yield Complaint(
                nodule_id, f"{OUTCOMES}/{nodule_id}.json cannot be read", DAMAGED_OUTCOME
            )
    elif outcome.state == "done" and not is_done(store, nodule_id, str(outcome.digest)):
        mark = done_key(nodule_id, str(outcome.digest))
        yield Complaint(
            nodule_id, f"{mark} is missing, but the outcome is done", LOST_CASE.format(mark=mark)
        )


def _damaged(store: Store, nodule_id: str, digest: str) -> Iterator[Complaint]:
    mark = done_key(nodule_id, digest)
    remedy = DAMAGED_CASE.format(mark=mark)
    try:
        for wrong in damage(store, case_files(store, nodule_id, digest)):
            yield Complaint(nodule_id, wrong, remedy)
    except (CorruptionError, NotFoundError) as error:
        yield Complaint(nodule_id, str(error).rstrip("."), remedy)
    except (KeyError, TypeError) as error:
        yield Complaint(nodule_id, f"{mark} lists files without {error}", remedy)
    except UnavailableError as error:
        yield Complaint(
            nodule_id,
            f"could not be read: {error}".rstrip("."),
            "Check again when the store answers.",
        )

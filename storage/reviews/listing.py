"""Every nodule of a store as a row: what came of it, and which matte was chosen."""

from collections.abc import Iterable
from dataclasses import dataclass

from matting.errors import InputError
from storage.cases.outcomes import read_outcomes
from storage.recipe import ReviewSettings
from storage.records import Outcome
from storage.reviews.consensus import find_consensus
from storage.reviews.verdicts import VerdictLog
from storage.store import Store

STATES = {"done": "done", "refused": "invalid", "failed": "failed"}
"""What the states are called in lists."""
EXCLUDED = "excluded"
"""The state of a nodule that the recipe excluded."""

DAMAGED = "damaged"
"""What stands for the choice of a nodule with a verdict that cannot be read."""


@dataclass(frozen=True, slots=True)
class NoduleRow:
    """One nodule."""

    nodule: str
    patient: str
    state: str
    """``done``, ``invalid``, ``failed`` or ``excluded``."""
    stage: str
    """Where it ended."""
    reason: str
    """Why it is not done; of a done one, what people should know of it."""
    digest: str
    """Of its case; empty where the inputs were not read."""
    form: str
    """Of its mattes; empty where there are none."""
    choice: str
    """The method that was chosen, ``discard``, or ``damaged`` where a verdict cannot be read; empty
    where nothing was decided."""
    by: str
    """Who chose."""
    unknown_voxels: int
    megabytes: float
    """Size of the case."""
    seconds: float
    """Wall time of its computation."""


def list_rows(
    store: Store, state: str | None = None, outcomes: Iterable[Outcome] | None = None
) -> list[NoduleRow]:
    """List the nodules of a store, sorted by id; verdicts are joined as in the paper's recipe.

    Args:
        store: Holds outcomes and verdicts.
        state: Only nodules of this state; all where None.
        outcomes: Of the store, sorted by id, where they were read already.

    Raises:
        InputError: There is no such state.
    """
    known = (*STATES.values(), EXCLUDED)
    if state is not None and state not in known:
        raise InputError(
            "there is no such state",
            got=state,
            expected=", ".join(known),
            remedy="Nodules with invalid input are `invalid`."
            if state in STATES
            else "Use one of these.",
        )
    log = VerdictLog(store)
    log.refresh()
    verdicts = log.by_nodule()
    damaged = {error.key.split("/")[-2] for error in log.damaged}
    rows = []
    for outcome in read_outcomes(store) if outcomes is None else outcomes:
        own = EXCLUDED if outcome.is_selection else STATES[outcome.state]
        if state in (None, own):
            found = find_consensus(
                verdicts.get(outcome.nodule_id, ()), str(outcome.digest), ReviewSettings()
            ).verdict
            choice = "" if found is None else found.choice or found.verdict
            by = "" if found is None else found.reviewer
            if outcome.nodule_id in damaged:  # which may be the one that counts
                choice, by = DAMAGED, ""
            rows.append(_row(outcome, own, choice, by))
    return rows


def _row(outcome: Outcome, state: str, choice: str, by: str) -> NoduleRow:
    done = outcome.state == "done"
    return NoduleRow(
        outcome.nodule_id,
        outcome.patient_id,
        state,
        outcome.stage,
        outcome.reason or outcome.note,
        outcome.digest or "",
        outcome.form_name if done else "",
        choice,
        by,
        outcome.unknown_voxels,
        round(outcome.stored_bytes / 1e6, 3),
        round(sum(outcome.seconds.values()), 3),
    )

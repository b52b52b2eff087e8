"""Automatic selection: a matte for every nodule without a verdict of a reviewer."""

from dataclasses import dataclass

from matting.targets import FORMS_OF, Target
from storage.cases.case import read_case
from storage.cases.outcomes import read_outcomes
from storage.errors import CorruptionError
from storage.records import Verdict
from storage.reviews.verdicts import (
    AUTOMATIC_REVIEWER,
    effective_verdicts,
    read_verdicts,
    record_verdict,
)
from storage.store import Store


@dataclass(frozen=True, slots=True)
class AutomaticPicks:
    """What automatic selection did."""

    added: tuple[Verdict, ...]
    """The verdicts that were added."""
    unpicked: tuple[str, ...]
    """Nodules of which no form that answers the question converged; they need a reviewer."""
    damaged: tuple[CorruptionError, ...] = ()
    """Records that cannot be read; nothing is picked for their nodules."""


def pick_automatically(store: Store, target: Target = "density") -> AutomaticPicks:
    """Add a verdict for every finished nodule without one of a reviewer.

    Args:
        store: Holds cases and verdicts.
        target: The question that the pick answers; see `matting.targets.rank`.

    Returns:
        What was added, and the nodules that nothing could be picked for.
    """
    added: list[Verdict] = []
    unpicked: list[str] = []
    damaged: list[CorruptionError] = []
    for outcome in read_outcomes(store):
        if outcome.state != "done" or outcome.digest is None:
            continue
        try:
            needs_pick, pick = _find_pick(store, outcome.nodule_id, outcome.digest, target)
        except CorruptionError as error:
            damaged.append(error)
            continue
        if pick:
            added.append(record_verdict(store, pick))
        elif needs_pick:
            unpicked.append(outcome.nodule_id)
    return AutomaticPicks(tuple(added), tuple(unpicked), tuple(damaged))


def _find_pick(
    store: Store, nodule_id: str, digest: str, target: Target
) -> tuple[bool, Verdict | None]:
    """Return whether a case needs a pick, and the one to add, which may be there already."""
    effective = effective_verdicts(read_verdicts(store, nodule_id))
    verdicts = [verdict for verdict in effective if verdict.choice is not None]
    if any(v.digest == digest and not v.automatic for v in verdicts):
        return False, None
    pick = _pick(store, nodule_id, digest, target)
    if pick and verdicts and pick.equals_apart_from_id(verdicts[-1]):
        return False, None
    return True, pick


def _pick(store: Store, nodule_id: str, digest: str, target: Target) -> Verdict | None:
    ranking = read_case(store, nodule_id, digest).facts.scores.ranking_for(target)
    if not ranking:
        return None
    return Verdict(
        nodule_id,
        digest,
        "choose",
        ranking[0],
        AUTOMATIC_REVIEWER,
        True,
        note=f"first of the {FORMS_OF[target]}, which estimate {target}, by the candidate figures",
    )

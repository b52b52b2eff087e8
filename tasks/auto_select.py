"""Automatic selection: a matte for every nodule without a verdict of a reviewer."""

from dataclasses import dataclass

from matting.targets import FORMS_OF, Target
from storage.cases.case import read_case
from storage.cases.outcomes import read_outcomes
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


def pick_automatically(store: Store, target: Target = "density") -> AutomaticPicks:
    """Add a verdict for every finished nodule without one of a reviewer.

    Args:
        store: Holds cases and verdicts.
        target: The question that the pick answers; see `matting.targets.rank`.

    Returns:
        What was added, and the nodules that nothing could be picked for.
    """
    added, unpicked = [], []
    for outcome in read_outcomes(store):
        if outcome.state != "done" or outcome.digest is None:
            continue
        effective = effective_verdicts(read_verdicts(store, outcome.nodule_id))
        verdicts = [verdict for verdict in effective if verdict.choice is not None]
        if any(v.digest == outcome.digest and not v.automatic for v in verdicts):
            continue
        pick = _pick(store, outcome.nodule_id, outcome.digest, target)
        if pick is None:
            unpicked.append(outcome.nodule_id)
        elif not verdicts or not pick.equals_apart_from_id(verdicts[-1]):
            added.append(record_verdict(store, pick))
    return AutomaticPicks(tuple(added), tuple(unpicked))


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

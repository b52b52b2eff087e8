"""Automatic selection: the best-ranked matte of every nodule without a verdict of a reviewer."""

from storage.cases.case import read_case
from storage.cases.outcomes import read_outcomes
from storage.records import Verdict
from storage.reviews.verdicts import effective_verdicts, read_verdicts, record_verdict
from storage.store import Store

REVIEWER = "auto"


def pick_automatically(store: Store) -> list[Verdict]:
    """Add a verdict for every finished nodule without one of a reviewer; return those added."""
    added = []
    for outcome in read_outcomes(store):
        if outcome.state != "done" or outcome.digest is None:
            continue
        effective = effective_verdicts(read_verdicts(store, outcome.nodule_id))
        verdicts = [verdict for verdict in effective if verdict.choice is not None]
        if any(v.digest == outcome.digest and not v.automatic for v in verdicts):
            continue
        pick = _pick(store, outcome.nodule_id, outcome.digest)
        if not verdicts or not pick.equals_apart_from_id(verdicts[-1]):
            added.append(record_verdict(store, pick))
    return added


def _pick(store: Store, nodule_id: str, digest: str) -> Verdict:
    ranking = read_case(store, nodule_id, digest).facts.scores.ranking
    return Verdict(
        nodule_id,
        digest,
        "choose",
        ranking[0],
        REVIEWER,
        True,
        note="first by the candidate figures",
    )

"""The automatic pick: the best-ranked matte of every nodule, recorded as automatic."""

from storage.cases.case import read_case
from storage.cases.outcomes import read_outcomes
from storage.records import Verdict
from storage.reviews.verdicts import effective_verdicts, read_verdicts, record_verdict
from storage.store import Store

REVIEWER = "auto"


def pick_automatically(store: Store) -> list[Verdict]:
    """Decide every finished nodule that no person decided; gives the verdicts that were added."""
    added = []
    for outcome in read_outcomes(store):
        if outcome.state != "done" or outcome.digest is None:
            continue
        said = [
            d
            for d in effective_verdicts(read_verdicts(store, outcome.nodule_id))
            if d.choice is not None
        ]
        if any(d.digest == outcome.digest and not d.automatic for d in said):
            continue
        pick = _pick(store, outcome.nodule_id, outcome.digest)
        if not said or not pick.equals_apart_from_id(said[-1]):
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

"""Join several people's verdicts on one case into the verdict that counts.

Only verdicts on the case itself count; those on an earlier case of the nodule are stale. Of each
person the latest verdict counts. An automatic pick counts where no person has given a verdict. The
recipe's `review` section has the rule that joins people's verdicts:

        first        the earliest verdict; others may differ and are listed as a dispute
        majority     more than half of the people agree, once enough have given a verdict
        adjudicator  all agree, once enough have given a verdict; else the adjudicator
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from storage.recipe import ReviewSettings
from storage.records import Verdict
from storage.reviews.verdicts import effective_verdicts


@dataclass(frozen=True, slots=True)
class Consensus:
    """The state of the review of one case."""

    verdict: Verdict | None
    """The verdict that counts; None where there is none yet."""
    verdicts: tuple[Verdict, ...]
    """Each person's latest verdict on this case, as they were given."""
    stale: tuple[Verdict, ...]
    """Latest verdicts of people who reviewed an earlier case of the nodule and not this one."""
    flags: tuple[Verdict, ...]
    """Requests for a second look."""
    awaits_review: bool = False
    """True where a damaged verdict was set aside and nobody has given one on the case since."""

    @property
    def is_disputed(self) -> bool:
        """True where people chose differently, whether that is settled or not."""
        return len({verdict.choice for verdict in self.verdicts}) > 1

    def verdict_of(self, reviewer: str) -> Verdict | None:
        """Return a person's own verdict on this case."""
        return next((own for own in self.verdicts if own.reviewer == reviewer), None)


def find_consensus(verdicts: Sequence[Verdict], digest: str, rule: ReviewSettings) -> Consensus:
    """Join the verdicts on a nodule into the one that counts for a case of it.

    Args:
        verdicts: All verdicts on the nodule, in the order in which they were given.
        digest: Of the case.
        rule: How verdicts are joined.
    """
    kept = effective_verdicts(verdicts)
    choices = [verdict for verdict in kept if verdict.choice is not None]
    people = _latest_by_person([v for v in choices if v.digest == digest and not v.automatic])
    picks = [verdict for verdict in choices if verdict.digest == digest and verdict.automatic]
    older = _latest_by_person([v for v in choices if v.digest != digest and not v.automatic])
    current = {verdict.reviewer for verdict in people}
    latest_pick = picks[-1] if picks else None
    flags = tuple(v for v in kept if v.verdict == "flag" and v.digest == digest)
    gaps = [flag.order for flag in flags if flag.automatic]
    newest = max((one.order for one in (*people, *picks)), default=(0, "", ""))
    return Consensus(
        verdict=_join(people, rule) if people else latest_pick,
        verdicts=tuple(people),
        stale=tuple(verdict for verdict in older if verdict.reviewer not in current),
        flags=flags,
        awaits_review=bool(gaps) and newest < max(gaps),
    )


def _latest_by_person(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Keep each person's latest verdict, in the order of people's first ones."""
    latest = {verdict.reviewer: verdict for verdict in verdicts}
    return list(latest.values())


def _join(verdicts: Sequence[Verdict], rule: ReviewSettings) -> Verdict | None:
    match rule.rule:
        case "first":
            return verdicts[0]
        case "majority":
            return _majority(verdicts, rule.reviewers)
        case "adjudicator":
            return _adjudicated(verdicts, rule)


def _majority(verdicts: Sequence[Verdict], reviewers: int) -> Verdict | None:
    choice, count = Counter(verdict.choice for verdict in verdicts).most_common(1)[0]
    if len(verdicts) < reviewers or 2 * count <= len(verdicts):
        return None
    return next(verdict for verdict in verdicts if verdict.choice == choice)


def _adjudicated(verdicts: Sequence[Verdict], rule: ReviewSettings) -> Verdict | None:
    for verdict in verdicts:
        if verdict.reviewer == rule.adjudicator:
            return verdict
    agree = len({verdict.choice for verdict in verdicts}) == 1
    return verdicts[0] if agree and len(verdicts) >= rule.reviewers else None

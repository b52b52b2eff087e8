"""From several people's verdicts on one case to the one that counts.

Only verdicts on the very case count; what was said of an earlier one is stale. Of one person the latest verdict counts.
A rule's automatic pick counts where no person has said anything. The recipe's `review` section says how people's
verdicts are joined:

        first        whoever decided first; others may differ and are listed as a dispute
        majority     more than half of those who decided, once enough have
        adjudicator  all agree, once enough have decided; where they differ, the adjudicator's verdict
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from storage.recipe import ReviewSettings
from storage.reviews.verdicts import Verdict, effective


@dataclass(frozen=True, slots=True)
class Consensus:
    """Where one case stands."""

    decision: Verdict | None
    """The verdict that counts; None where there is none yet."""
    votes: tuple[Verdict, ...]
    """Each person's latest verdict on this case, in order of time."""
    stale: tuple[Verdict, ...]
    """Latest verdicts of people who decided an earlier case of the nodule and not this one."""
    flags: tuple[Verdict, ...]
    """Wishes for a second look."""

    @property
    def is_disputed(self) -> bool:
        """Tell whether people differ, settled or not."""
        return len({vote.answer for vote in self.votes}) > 1

    def vote_of(self, reviewer: str) -> Verdict | None:
        """Give a person's own verdict on this case."""
        return next((vote for vote in self.votes if vote.reviewer == reviewer), None)


def find_consensus(decisions: Sequence[Verdict], digest: str, rule: ReviewSettings) -> Consensus:
    """Join a nodule's verdicts, given in order of time, into what stands for the case of that digest."""
    kept = effective(decisions)
    said = [d for d in kept if d.answer is not None]
    votes = _latest_by_person([d for d in said if d.digest == digest and not d.automatic])
    decided = {vote.reviewer for vote in votes}
    older = _latest_by_person([d for d in said if d.digest != digest and not d.automatic])
    picks = [d for d in said if d.digest == digest and d.automatic]
    winner = _winner(votes, rule) if votes else (picks[-1] if picks else None)
    return Consensus(
        decision=winner,
        votes=tuple(votes),
        stale=tuple(d for d in older if d.reviewer not in decided),
        flags=tuple(d for d in kept if d.verdict == "flag" and d.digest == digest),
    )


def _latest_by_person(decisions: Sequence[Verdict]) -> list[Verdict]:
    """Keep each person's latest verdict, in the order in which people first spoke."""
    latest: dict[str, Verdict] = {}
    for decision in decisions:
        latest[decision.reviewer] = decision
    return list(latest.values())


def _winner(votes: Sequence[Verdict], rule: ReviewSettings) -> Verdict | None:
    if rule.rule == "first":
        return votes[0]
    if rule.rule == "adjudicator":
        ruling = next((vote for vote in votes if vote.reviewer == rule.adjudicator), None)
        others = [vote for vote in votes if vote is not ruling]
        if ruling is not None:
            return ruling
        return (
            others[0]
            if len(others) >= rule.reviewers and len({vote.answer for vote in others}) == 1
            else None
        )
    answer, count = Counter(vote.answer for vote in votes).most_common(1)[0]
    if len(votes) < rule.reviewers or 2 * count <= len(votes):
        return None
    return next(vote for vote in votes if vote.answer == answer)

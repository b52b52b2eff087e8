"""The result of a run, as the client sees it."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from flows.engine.errors import RunAborted
from storage.records import Outcome
from tasks.curation.plan import Plan

STATE_LABELS = {
    "done": "done",
    "computed": "computed",
    "found stored": "up to date",
    "refused": "invalid input",
    "failed": "failed",
}
"""What people read for each state of a nodule; run records and JSON output keep the keys."""


@dataclass(frozen=True, slots=True)
class CurationResult:
    """The plan of a run and what became of it."""

    plan: Plan
    outcomes: tuple[Outcome, ...]
    """Of the nodules that the plan asked to compute."""
    wall_s: float
    error: RunAborted | None = None
    """Why the run was aborted; None where it was not."""

    @property
    def aborted(self) -> str:
        """Why the run was aborted; empty where it was not."""
        return str(self.error or "")

    @property
    def is_clean(self) -> bool:
        """True where the run was not aborted and every nodule that was not excluded is done.

        A nodule that is done but whose source is away is not clean: nobody could check it.
        """
        return (
            not self.aborted
            and not self.plan.kept_without_source
            and all(one.state == "done" and not one.unreachable_since for one in self.outcomes)
            and all(one.state == "done" for one in self.plan.unchanged)
        )

    @property
    def states(self) -> dict[str, int]:
        """Number of nodules by what this run did: computed, found stored, refused, failed."""
        return count_states(self.outcomes)


def count_states(outcomes: Iterable[Outcome]) -> dict[str, int]:
    """Return the number of nodules by what a run did with them, in the order of `STATE_LABELS`."""
    count = Counter("computed" if o.computed else o.state for o in outcomes)
    count["found stored"] = count.pop("done", 0)
    return {state: count[state] for state in ("computed", "found stored", "refused", "failed")}

"""What a run did: the client's account of it."""

from collections import Counter
from dataclasses import dataclass

from storage.records import Outcome
from tasks.curation.plan import Plan


@dataclass(frozen=True, slots=True)
class CurationResult:
    """What a run did."""

    plan: Plan
    outcomes: tuple[Outcome, ...]
    """Of the nodules that were computed now."""
    wall_s: float
    stopped: str = ""
    """Why it stopped early; empty when it went to the end."""

    @property
    def is_clean(self) -> bool:
        """True when no nodule is refused or failed, the selection apart."""
        return not self.stopped and all(
            o.state == "done" for o in (*self.outcomes, *self.plan.kept)
        )

    @property
    def states(self) -> dict[str, int]:
        """Nodules by what this run made of them."""
        count = Counter("computed" if o.computed else o.state for o in self.outcomes)
        count["found stored"] = count.pop("done", 0)
        return {state: count[state] for state in ("computed", "found stored", "refused", "failed")}

"""Counting outcomes while they come in: the progress bar, the failure budget, the summary."""

import threading
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from storage.outcomes import Outcome

FEWEST_FOR_BUDGET = 10
"""Nodules to have seen before their share of failures says anything."""


class BudgetSpent(Exception):
    """More nodules failed than the recipe allows."""


@dataclass(slots=True)
class Tally:
    """What a run has seen so far; shared by the threads that collect outcomes."""

    total: int
    budget: float
    """Share of nodules that may be refused or fail."""
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _bar: Progress = field(init=False)

    def __post_init__(self) -> None:
        self._bar = Progress(
            TextColumn("curating"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )

    def __enter__(self) -> Self:
        self._bar.start()
        self._bar.add_task("", total=self.total)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def add(self, outcome: Outcome) -> None:
        """Count one outcome, the latest of its nodule."""
        with self._lock:
            self.outcomes[outcome.nodule_id] = outcome
            words = ", ".join(f"{count} {state}" for state, count in sorted(self.states.items()))
            self._bar.update(self._bar.task_ids[0], completed=len(self.outcomes), description=words)

    @property
    def states(self) -> Counter[str]:
        """Count of nodules by state."""
        return Counter(outcome.state for outcome in self.outcomes.values())

    def check_budget(self) -> None:
        """Raise BudgetSpent when too large a share failed."""
        # What may pass is tried again and counts when it did not.
        bad = sum(outcome.state != "done" and not outcome.passing for outcome in self.outcomes.values())
        if len(self.outcomes) >= FEWEST_FOR_BUDGET and bad > self.budget * self.total:
            raise BudgetSpent(
                f"stopped early: {bad} of {len(self.outcomes)} nodules were refused or failed, more than "
                f"{self.budget:.0%} of {self.total} (run.failure_budget). See `halosign status`; what is stored stays."
            )

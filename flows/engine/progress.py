"""Counting outcomes while they come in: the progress bar or the log, the failure budget, the summary."""

import threading
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from flows.engine.logs import logger, logs_json
from storage.records import Outcome

FEWEST_FOR_BUDGET = 10
"""Nodules to have seen before their share of failures says anything."""


class RunAborted(Exception):
    """A run ends before its last nodule; the message says why and what to do."""


class FailureBudgetExceeded(RunAborted):
    """More nodules failed than the recipe allows."""


@dataclass(slots=True)
class ProgressTracker:
    """What a run has seen so far; shared by the threads that collect outcomes."""

    total: int
    budget: float
    """Share of nodules that may be refused or fail."""
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    states: Counter[str] = field(default_factory=Counter)
    """Nodules by state."""
    _bad: int = 0
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
            disable=logs_json(),
        )

    def __enter__(self) -> Self:
        self._bar.start()
        self._bar.add_task("", total=self.total)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def add(self, outcome: Outcome) -> None:
        """Count one outcome, the latest of its nodule."""
        with self._lock:
            self._count(self.outcomes.pop(outcome.nodule_id, None), -1)
            self.outcomes[outcome.nodule_id] = outcome.brief
            self._count(outcome, 1)
            self._show(
                ", ".join(
                    f"{count} {state}" for state, count in sorted(self.states.items()) if count
                )
            )
        facts = {
            "state": outcome.state,
            "stage": outcome.stage,
            "seconds": round(sum(outcome.seconds.values()), 3),
        }
        logger.info(
            "nodule",
            extra={
                "nodule": outcome.nodule_id,
                **facts,
                "computed": outcome.computed,
                "reason": outcome.reason,
            },
        )

    def forget(self, nodule_id: str) -> None:
        """Take a nodule's outcome back: it goes again."""
        with self._lock:
            self._count(self.outcomes.pop(nodule_id), -1)

    def say(self, words: str) -> None:
        """Show what the run is waiting for, until the next outcome."""
        with self._lock:
            self._show(words)

    def check_budget(self) -> None:
        """Raise BudgetSpent when too large a share failed."""
        if len(self.outcomes) >= FEWEST_FOR_BUDGET and self._bad > self.budget * self.total:
            raise FailureBudgetExceeded(
                f"stopped early: {self._bad} of {len(self.outcomes)} nodules were refused or failed, more than "
                f"{self.budget:.0%} of {self.total} (run.failure_budget). See `halosign status`; what is stored stays."
            )

    def _count(self, outcome: Outcome | None, step: int) -> None:
        if outcome is not None:
            self.states[outcome.state] += step
            # What may pass is tried again and counts when it did not.
            self._bad += step * (outcome.state != "done" and not outcome.transient)

    def _show(self, words: str) -> None:
        self._bar.update(self._bar.task_ids[0], completed=len(self.outcomes), description=words)

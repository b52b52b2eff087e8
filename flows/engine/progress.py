"""Progress of a run: outcomes counted as they arrive, failure budget."""

import logging
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from flows.engine.errors import FailureBudgetExceeded, RunAborted
from flows.engine.logs import logger
from flows.engine.progress_bar import ProgressBar
from flows.engine.result import STATE_LABELS
from storage.records import Outcome


@dataclass(slots=True)
class ProgressTracker:
    """The outcomes of a run so far; shared by the threads that collect them."""

    total: int
    budget: float
    """Share of nodules that may have invalid input or fail."""
    begin: float = field(default_factory=time.monotonic)
    """When the run began, by the monotonic clock."""
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    states: Counter[str] = field(default_factory=Counter)
    """Nodules by state."""
    error: RunAborted | None = None
    """Why the run was aborted; None where it was not."""
    _stages: dict[str, str] = field(default_factory=dict)
    """The stages of the nodules that workers have in hand, by nodule."""
    _unfit: int = 0
    """Nodules that count against the budget."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _bar: ProgressBar = field(init=False)

    def __post_init__(self) -> None:
        self._bar = ProgressBar("curating", self.total, kept=True)

    def __enter__(self) -> Self:
        self._bar.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.__exit__(kind, error, trace)

    def add(self, outcome: Outcome) -> None:
        """Count an outcome, in place of an earlier one of the same nodule."""
        with self._lock:
            self._count(self.outcomes.pop(outcome.nodule_id, None), -1)
            self.outcomes[outcome.nodule_id] = outcome.brief
            self._count(outcome, 1)
            self._stages.pop(outcome.nodule_id, None)
            self._update_bar(self._counts())
        logger.log(
            logging.WARNING if outcome.transient else logging.INFO,
            _sentence(outcome),
            extra={
                "event": "nodule",
                "nodule": outcome.nodule_id,
                "state": outcome.state,
                "stage": outcome.stage,
                "seconds": round(sum(outcome.seconds.values()), 3),
                "computed": outcome.computed,
                "reason": outcome.reason,
            },
        )

    @property
    def wall_s(self) -> float:
        """Seconds since the run began."""
        return round(time.monotonic() - self.begin, 1)

    def latest(self) -> list[Outcome]:
        """Return the outcomes so far, the latest at the end."""
        with self._lock:
            return list(self.outcomes.values())

    def discard(self, nodule_id: str) -> None:
        """Remove a nodule's outcome, because the nodule will run again."""
        with self._lock:
            self._count(self.outcomes.pop(nodule_id), -1)

    def enter_stage(self, nodule_id: str, stage: str) -> None:
        """Show that a worker begins a stage of a nodule."""
        with self._lock:
            # Told after the outcome, it would be shown for ever.
            if nodule_id not in self.outcomes:
                self._stages[nodule_id] = stage
                self._update_bar(self._counts())

    def show_message(self, text: str) -> None:
        """Show a message beside the bar until a worker goes on, e.g. what the run waits for."""
        with self._lock:
            self._update_bar(text)

    def check_failure_budget(self) -> None:
        """Raise FailureBudgetExceeded where too many nodules have invalid input or failed.

        A single nodule is never too many: then a small run could not go on without it.
        """
        if self._unfit > max(1, self.budget * self.total):
            raise FailureBudgetExceeded(
                f"run aborted: {self._unfit} of {len(self.outcomes)} nodules have invalid input or "
                f"failed, more than {self.budget:.0%} of {self.total} (run.failure_budget). "
                "`halosign status` lists the reasons; stored cases are kept."
            )

    def _count(self, outcome: Outcome | None, step: int) -> None:
        if outcome is not None:
            self.states[outcome.state] += step
            # A transient failure is retried, and counts only where the retries fail too.
            self._unfit += step * (outcome.state != "done" and not outcome.transient)

    def _counts(self) -> str:
        """Return how many nodules there are by state, and at which stages the others are."""
        states = ", ".join(f"{n} {STATE_LABELS[s]}" for s, n in sorted(self.states.items()) if n)
        stages = ", ".join(f"{n} {s}" for s, n in sorted(Counter(self._stages.values()).items()))
        return "; ".join(filter(None, (states, stages and f"now {stages}")))

    def _update_bar(self, text: str) -> None:
        self._bar.update(len(self.outcomes), text=text)


def _sentence(outcome: Outcome) -> str:
    """Return what became of a nodule, for people who read the log."""
    if outcome.state == "done":
        took = f"computed in {sum(outcome.seconds.values()):.1f} s"
        return f"{outcome.nodule_id}: {took if outcome.computed else 'was stored already'}"
    again = "; it will be tried again" if outcome.transient else ""
    where = f"{STATE_LABELS[outcome.state]} at {outcome.stage}"
    return f"{outcome.nodule_id}: {where}: {outcome.reason}{again}"

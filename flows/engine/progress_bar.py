"""How far a piece of work is: a bar on a terminal, elsewhere lines or JSON events."""

import threading
import time
from datetime import timedelta
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

from flows.engine.logs import is_json_logging, logger

LINE_EVERY_S = 30.0
"""How often a line is written where standard error is no terminal."""

_ESTIMATE_PERIOD_S = 600.0
"""The time left is estimated from what was finished within this time: nodules differ much."""


class ProgressBar:
    """Progress of one piece of work, to be used as a context; its methods may be called by threads.

    Args:
        title: What is being done, e.g. "curating".
        total: Number of steps; None while it is unknown.
        kept: Keep the bar on the terminal at the end.
        every_s: Seconds between two lines.
    """

    def __init__(
        self,
        title: str,
        total: int | None = None,
        *,
        kept: bool = False,
        every_s: float = LINE_EVERY_S,
    ) -> None:
        self._title = title
        self._total = total
        self._every_s = every_s
        self.completed = self._before = 0
        self._text = ""
        self._console = Console(stderr=True, soft_wrap=True, highlight=False)
        self._has_lines = is_json_logging() or not self._console.is_terminal
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=not kept,
            disable=self._has_lines,
            speed_estimate_period=_ESTIMATE_PERIOD_S,
        )
        self._task = self._bar.add_task(title, total=total, text="", start=False)
        self._ended = threading.Event()
        self._begin = time.monotonic()

    def __enter__(self) -> Self:
        self._begin = time.monotonic()
        self._bar.start_task(self._task)
        self._bar.start()
        if self._has_lines:
            self._ended.clear()
            threading.Thread(target=self._write_lines, name="progress", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._bar.stop()

    def update(
        self, completed: int | None = None, *, total: int | None = None, text: str | None = None
    ) -> None:
        """Show the steps that are completed, how many there are, and a text beside them."""
        if completed is not None:
            self.completed = completed
        if total is not None:
            self._total = total
        if text is not None:
            self._text = text
        self._bar.update(self._task, completed=self.completed, total=self._total, text=self._text)

    def resume(self, completed: int) -> None:
        """Begin after the steps that an earlier run completed; they tell nothing of the pace."""
        self.completed = self._before = completed
        self._begin = time.monotonic()
        self._bar.reset(self._task, completed=completed)

    def advance(self) -> None:
        """Complete one more step."""
        self.update(self.completed + 1)

    @property
    def seconds_left(self) -> float | None:
        """Estimated from this run's steps so far; None before the first one or without a total."""
        done = self.completed - self._before
        if not done or self._total is None:
            return None
        return (time.monotonic() - self._begin) / done * (self._total - self.completed)

    def _write_lines(self) -> None:
        while not self._ended.wait(self._every_s):
            left = self.seconds_left
            if is_json_logging():
                facts = {"completed": self.completed, "total": self._total, "text": self._text}
                left_s = None if left is None else round(left)
                extra = {"event": "progress", **facts, "seconds_left": left_s}
                logger.info(self._title, extra=extra)
                continue
            parts = [f"{self.completed} of {self._total or '?'}", self._text]
            if left is not None:
                parts.append(f"about {timedelta(seconds=round(left))} left")
            self._console.print(f"{self._title}: {', '.join(filter(None, parts))}", markup=False)

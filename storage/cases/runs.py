"""Runs: a small record of each curation, so that whoever watches a store sees whether its nights went well."""

import os
import socket
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Literal

from storage.layout import RUNS
from storage.store import Store, canonical_json

Ending = Literal["none", "complete", "stopped early"]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


@dataclass(frozen=True, slots=True)
class Run:
    """What one run set out to do and, once it has ended, what it did."""

    source: str
    recipe: str
    to_compute: int
    kept: int
    left_out: int
    ending: Ending = "none"
    """`none` while it goes on, and for ever where it was killed."""
    states: dict[str, int] = field(default_factory=dict)
    """Nodules by what this run made of them: computed, found stored, refused, failed."""
    wall_s: float = 0.0
    stopped: str = ""
    started: str = field(default_factory=_now)
    """UTC, ISO 8601."""
    host: str = field(default_factory=socket.gethostname)
    process: int = field(default_factory=os.getpid)

    @property
    def nodules_per_hour(self) -> float | None:
        """Throughput; None where nothing was computed."""
        done = self.states.get("computed", 0)
        return round(3600 * done / self.wall_s, 1) if done and self.wall_s else None

    @property
    def _key(self) -> str:
        return f"{RUNS}/{self.started.replace(':', '').replace('+0000', 'Z')}-{self.host}-{self.process}.json"


def write_run(store: Store, run: Run) -> None:
    """Record a run, over what was recorded of it before."""
    store.put(run._key, canonical_json(asdict(run)))


def last_run(store: Store) -> Run | None:
    """Give the run that began last; None where there is none."""
    names = store.children(RUNS)[1]
    return Run(**store.get_json(f"{RUNS}/{names[-1]}")) if names else None

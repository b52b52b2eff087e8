"""What became of nodules, and the runs that brought it about."""

import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from os import getpid
from socket import gethostname
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from matting.parameters import FORM_NAMES, Form
from storage.records.codec import FIRST_EDITION, STRICT, UNLESS_NONE, JsonObject

State = Literal["done", "refused", "failed"]
Ending = Literal["none", "complete", "stopped early", "interrupted"]

SELECTION = "select"
"""The stage at which the recipe's selection excludes a nodule, which is no failure."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """`outcomes/<nodule>.json`: what came of a nodule the last time.

    The only thing that a worker sends back.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    noun: ClassVar[str] = "the outcome of a nodule"
    remedy: ClassVar[str] = "Run `halosign curate` again, which writes a new one."

    nodule_id: str
    patient_id: str
    state: State
    stage: str
    """Where it ended: the last stage, the stage that refused the input, or `SELECTION`."""
    reason: str = ""
    """Why it was refused or failed; empty when done."""
    transient: Annotated[bool, Field(alias="passing")] = False
    """True where the cause of the failure may go away, so that trying again makes sense."""
    digest: str | None = None
    """The case's digest, once the inputs were read."""
    inputs: JsonObject = field(default_factory=dict)
    """What was to be computed: fingerprint of the source, recipe, algorithm version; compared as a
    whole."""
    synthetic: Annotated[bool, Field(alias="stand_in")] = False
    computed: bool = False
    """False where the store held the case already."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall time of each stage."""
    stored_bytes: int = 0
    unknown_voxels: int = 0
    patch_voxels: int = 0
    """Of the isotropic patch; with `unknown_voxels` it determines how much memory the nodule
    takes."""
    versions: dict[str, str] = field(default_factory=dict)
    """Of the packages that computed it."""
    form: Annotated[Form | None, UNLESS_NONE] = None
    """Of the mattes that were to be computed; None in the first edition and where a selection
    excluded the nodule."""
    finished: Annotated["Outcome | None", UNLESS_NONE] = None
    """The last outcome that was done, where this one is not; `write_outcome` fills it in."""
    unreachable_since: Annotated[str | None, UNLESS_NONE] = None
    """UTC, ISO 8601: since when a run found the source of a finished case away."""

    @property
    def brief(self) -> "Outcome":
        """The same without what only the store needs.

        A client holds one for each nodule of a run.
        """
        finished = self.finished.brief if self.finished else None
        return replace(self, inputs={}, versions={}, finished=finished)

    @property
    def note(self) -> str:
        """What people should know of a finished case; empty where there is nothing."""
        since = self.unreachable_since
        return f"source not reachable since {since}" if since else ""

    @property
    def last_done(self) -> "Outcome | None":
        """This outcome where it is done, else the last one that was; None where none ever was."""
        return self if self.state == "done" else self.finished

    @property
    def form_name(self) -> str:
        """What the form of its mattes is called."""
        return form_name(self.form)

    @property
    def is_selection(self) -> bool:
        """True where the recipe's selection excluded the nodule, which is no failure."""
        return self.stage == SELECTION


def form_name(form: Form | None) -> str:
    """Return what a form of the methods is called."""
    return FIRST_EDITION if form is None else FORM_NAMES[form]


def now() -> str:
    """Return the time, in UTC, as records have it."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def to_the_second(time: str) -> str:
    """Return a time of a record as people read it: without fractions of a second."""
    return re.sub(r"\.\d+", "", time)


@dataclass(frozen=True, slots=True)
class Run:
    """`runs/<time>-<host>-<process>.json`: what one curation run was to do and did."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    noun: ClassVar[str] = "the record of a run"
    remedy: ClassVar[str] = "Set it aside with `halosign store check --repair`."

    source: str
    recipe: str
    to_compute: int
    kept: int
    excluded: Annotated[int, Field(alias="left_out")]
    ending: Ending = "none"
    """`none` while the run continues, and for good where it was killed; a run that continues writes
    its record again every minute."""
    states: dict[str, int] = field(default_factory=dict)
    """Nodules by what this run did with them: computed, found stored, refused, failed."""
    wall_s: float = 0.0
    stopped: str = ""
    """Why it stopped early."""
    started: str = field(default_factory=now)
    """UTC, ISO 8601."""
    host: str = field(default_factory=gethostname)
    process: int = field(default_factory=getpid)

    @property
    def nodules_per_hour(self) -> float | None:
        """Throughput; None where nothing was computed."""
        done = self.states.get("computed", 0)
        return round(3600 * done / self.wall_s, 1) if done and self.wall_s else None

"""What the report's template is given: every value of the page under a name, and nothing else.

How the values come about is in `qc.report.nodules`, `qc.report.errors` and `qc.report.build`; how they look, in
`templates/report.html`. A value that is not there is None and is shown as a dash.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class RunSummary:
    """How a run went, as its caller saw it; the nodules' own outcomes come from the store."""

    started: str
    """When it began, ISO 8601."""
    wall_s: float
    """Wall time in seconds."""
    workers: int
    """Processes that worked on nodules."""
    store_url: str
    """Where the cases lie."""
    recipe: str
    """Name of the recipe."""


@dataclass(frozen=True, slots=True)
class ReleaseFacts:
    """A published release, as far as a reader of the report needs it."""

    version: str
    """Its name, never used twice."""
    nodules: Mapping[str, int]
    """Number of nodules by split."""
    patients: Mapping[str, int] = field(default_factory=dict)
    """Number of patients by split; may be empty."""
    verified: bool | None = None
    """Whether every file was read back and is what was written; None where nobody checked."""


@dataclass(frozen=True, slots=True)
class TrainingScore:
    """One row of the network's table: means over the nodules it was measured on."""

    matte: str
    """The network, a method or a trivial matte."""
    is_network: bool
    """True for the network."""
    nodules: int
    """How many count: those whose released matte it did not supply."""
    figures: tuple[float, ...]
    """SAD, MSE, Grad and Conn."""


@dataclass(frozen=True, slots=True)
class TrainingFacts:
    """A training and what came of it, as far as a reader of the report needs it."""

    network: str
    """Which network."""
    nodules: int
    """Learned from."""
    epochs: int
    """Passes over them."""
    seconds: float
    """Of training alone."""
    device: str
    """Where it was computed."""
    checkpoint: str
    """Its digest."""
    curves_png: bytes
    """Losses by epoch."""
    samples_png: bytes
    """Mattes after the last epoch."""
    truth: str
    """What the scores are against, in words."""
    region: str
    """Over which region, in words."""
    scores: tuple[TrainingScore, ...]
    """The network first."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why nodules have no case."""

    kind: str
    """Refused, failed, left out, or unreadable."""
    sentence: str
    """What the program said."""
    nodules: tuple[str, ...]
    """Ids of all nodules with this very reason."""


@dataclass(frozen=True, slots=True)
class StageTime:
    """Seconds spent in one stage."""

    stage: str
    """Its name."""
    seconds: float
    """Sum over all nodules."""
    percent: float
    """Share of the time of all stages."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the nodules."""

    done: int
    """A case is stored."""
    computed: int
    """Of these, computed when last looked at; the others were stored already."""
    refused: int
    """Unfit inputs."""
    failed: int
    """Something broke; running again may help."""
    left_out: int
    """Not selected by the recipe."""
    unreadable: int
    """Done by their outcome, yet the case cannot be read."""
    synthetic: int
    """Of the done, those whose CT is simulated."""
    stored_bytes: int
    """Size of the finished cases."""


@dataclass(frozen=True, slots=True)
class Method:
    """One method's row in a nodule's table."""

    name: str
    """As the stored matte is called."""
    picked: bool
    """Chosen for this nodule."""
    stored: bool
    """False where the method gave no matte."""
    rank: int | None
    """1 is best by the candidate figures."""
    iterations: int | None
    """Steps of the solver."""
    residual: float | None
    """What was left of the equations, relative."""
    clipped: float | None
    """How far the matte left 0..1 at worst before it was clipped."""
    figures: tuple[float | None, ...]
    """Candidate figures, in the order of the nodule's `figure_names`."""
    error: float | None
    """Mean absolute error against the known alpha in the unknown region."""
    best: bool
    """Smallest error of the methods."""


@dataclass(frozen=True, slots=True)
class Nodule:
    """One nodule: its row in the overview and its own section."""

    id: str
    """Nodule id."""
    anchor: str
    """Where its section begins."""
    patient: str
    """Patient id."""
    kind: str | None
    """Solid, part-solid or ground-glass, from the readers' mean texture rating."""
    extent_mm: tuple[float, float, float]
    """Size of the readers' union: left to right, front to back, height."""
    unknown_voxels: int | None
    """Voxels whose alpha was solved for."""
    pick: str | None
    """The chosen method, or what else was decided."""
    pick_error: float | None
    """The chosen matte's error."""
    regret: float | None
    """The chosen matte's error minus the smallest of all methods."""
    seconds: float | None
    """Wall time of all stages."""
    synthetic: bool
    """True where the CT is simulated."""
    methods: tuple[Method, ...]
    """One row a method, in stored order."""
    figure_names: tuple[str, ...]
    """Names of the candidate figures."""
    statuses: tuple[tuple[str, str], ...]
    """How the solves ended: methods, sentence."""
    baselines: tuple[tuple[str, float], ...]
    """Trivial mattes and their errors."""
    tied: tuple[str, ...]
    """Groups of methods whose mattes hardly differ."""
    rating_names: tuple[str, ...]
    """What the readers rated."""
    ratings: tuple[tuple[object, ...], ...]
    """One row a reader."""
    facts: tuple[tuple[str, str], ...]
    """Geometry, trimap and provenance as name and value."""
    anatomy_uri: str | None
    """The CT with outlines and trimap as a data URI; None beyond the limit."""
    anatomy_alt: str
    """The same in words."""
    mattes_uri: str | None
    """The mattes as a data URI; None beyond the limit."""
    mattes_alt: str
    """The same in words."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One mean error."""

    error: float | None
    """Mean over nodules; None where no nodule has one."""
    nodules: int
    """How many nodules it is the mean of."""
    best: bool
    """Smallest of its row."""
    behind_trivial: bool
    """A method that loses to a trivial matte."""


@dataclass(frozen=True, slots=True)
class KindErrors:
    """Mean errors of one kind of lesion."""

    kind: str
    """Name of the kind."""
    nodules: int
    """How many there are."""
    cells: tuple[Cell, ...]
    """In the order of the table's columns."""
    regret: float | None
    """Mean of the picks' regrets."""
    remark: str
    """Where the methods stand against the trivial mattes, in words."""


@dataclass(frozen=True, slots=True)
class ErrorTable:
    """Errors against the known alpha, by kind of lesion."""

    methods: tuple[str, ...]
    """Columns of methods."""
    baselines: tuple[str, ...]
    """Columns of trivial mattes, named for people."""
    kinds: tuple[KindErrors, ...]
    """One row a kind; the last is all of them."""


@dataclass(frozen=True, slots=True)
class Page:
    """The whole report."""

    title: str
    """Its heading."""
    counts: Counts
    """Nodules by state."""
    run: RunSummary | None
    """How the run went, if one is reported."""
    stages: tuple[StageTime, ...]
    """Where the time went."""
    reasons: tuple[Reason, ...]
    """Why nodules have no case."""
    release: ReleaseFacts | None
    """The release, if one is reported."""
    training: TrainingFacts | None
    """The network, if one was trained."""
    errors: ErrorTable | None
    """None without a known alpha."""
    nodules: tuple[Nodule, ...]
    """Every finished nodule, sorted by id."""
    limit: int
    """At most this many nodules have pictures."""
    glossary: tuple[tuple[str, str], ...]
    """What the figures in the tables mean."""

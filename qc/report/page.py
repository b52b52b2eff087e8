"""The values that the report's template is filled with.

How the values come about is in `qc.report.nodules`, `qc.report.errors` and `qc.report.build`; how
they look, in `templates/report.html`. A value that is not there is None and is shown as a dash.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from matting.targets import Target


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run as its caller saw it; the nodules' own outcomes come from the store."""

    started: str
    """Start time, ISO 8601."""
    wall_s: float
    """Wall time in seconds."""
    workers: int | None
    """Number of worker processes; None where it is not known."""
    store_url: str
    """Of the store that holds the cases."""
    recipe: str
    """Name of the recipe."""
    ending: str = ""
    """How it ended, where it did not end well."""


@dataclass(frozen=True, slots=True)
class ReleaseFacts:
    """What the report shows of a published release."""

    version: str
    """Its version."""
    nodules: Mapping[str, int]
    """Number of nodules by split."""
    patients: Mapping[str, int] = field(default_factory=dict)
    """Number of patients by split; may be empty."""
    verified: bool | None = None
    """Whether all files match their SHA-256; None if that was not checked."""
    withdrawal: str = ""
    """Who withdrew it, when and why; empty for one in use."""


@dataclass(frozen=True, slots=True)
class TrainingScore:
    """One row of the network's table: means over the nodules it was measured on."""

    matte: str
    """The network, a method or a trivial matte."""
    is_network: bool
    """Whether it is the network."""
    nodules: int
    """Number of nodules that count: those whose released matte it did not supply."""
    metrics: tuple[float, ...]
    """SAD, MSE, Grad and Conn."""


@dataclass(frozen=True, slots=True)
class TrainingFacts:
    """What the report shows of a training and its result."""

    network: str
    """Its label."""
    nodules: int
    """Number of training nodules."""
    mattes: str
    """Which mattes it learned: form and question."""
    epochs: int
    """Number of epochs."""
    seconds: float
    """Duration of the training."""
    device: str
    """Device of the training."""
    checkpoint: str
    """Its digest."""
    curves_png: bytes
    """Losses by epoch."""
    samples_png: bytes
    """Mattes after the last epoch."""
    truth: str
    """Truth of the scores, in words."""
    region: str
    """Region of the scores, in words."""
    scores: tuple[TrainingScore, ...]
    """The network first."""


@dataclass(frozen=True, slots=True)
class ReasonGroup:
    """Why nodules have no case."""

    kind: str
    """Refused, failed, excluded or unreadable."""
    sentence: str
    """The message, or what all messages begin with."""
    nodules: tuple[str, ...]
    """Ids of all nodules with this reason."""
    messages: tuple[str, ...] = ()
    """Their messages in full, where they differ."""


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
class NoduleCounts:
    """Number of nodules by result."""

    done: int
    """A case is stored."""
    computed: int
    """Of these, computed in the last run; the others were up to date."""
    discarded: int | None
    """Rejected by reviewers, in the report of a release, which has none of the next three."""
    refused: int
    """Invalid input."""
    failed: int
    """Other errors; a retry may help."""
    left_out: int
    """Excluded by the recipe."""
    unreadable: int
    """Done by their outcome, but the case cannot be read."""
    synthetic: int
    """Of the done, those whose CT is synthetic."""
    stored_bytes: int
    """Size of the finished cases."""


@dataclass(frozen=True, slots=True)
class MethodRow:
    """One method's row in a nodule's table."""

    name: str
    """Name of the method."""
    picked: bool
    """Whether its matte was chosen."""
    stored: bool
    """Whether it gave a matte."""
    rank: int | None
    """By the candidate metrics, among those that answer the report's question; 1 is best."""
    iterations: int | None
    """Iterations of the solver."""
    residual: float | None
    """Relative residual."""
    clipped: float | None
    """Largest distance of alpha from 0..1 before clipping."""
    metrics: tuple[float | None, ...]
    """Candidate metrics, in the order of the nodule's `metric_names`."""
    error: float | None
    """Mean absolute error against the known alpha in the unknown region."""
    best: bool
    """Whether its error is the smallest of all methods."""


@dataclass(frozen=True, slots=True)
class NoduleSection:
    """One nodule: its row in the overview and its own section."""

    id: str
    """Nodule id."""
    anchor: str
    """Where its section begins."""
    href: str
    """Link from the overview to its section, here or on a page of its own."""
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
    form: str
    """What the form of its mattes is called."""
    pick_error: float | None
    """The chosen matte's error."""
    regret: float | None
    """The chosen matte's error minus the smallest of the methods that answer its question."""
    seconds: float | None
    """Wall time of all stages."""
    synthetic: bool
    """True where the CT is synthetic."""
    methods: tuple[MethodRow, ...]
    """One row a method, in stored order."""
    metric_names: tuple[str, ...]
    """Names of the candidate metrics."""
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
    thumbnail_uri: str | None
    """CT and matte in small as a data URI; None without pictures."""
    anatomy_uri: str | None
    """The CT with outlines and trimap as a data URI; None where it is not on this page."""
    anatomy_alt: str
    """The same in words."""
    mattes_uri: str | None
    """The mattes as a data URI; None where they are not on this page."""
    mattes_alt: str
    """The same in words."""


@dataclass(frozen=True, slots=True)
class ErrorCell:
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
    cells: tuple[ErrorCell, ...]
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
class FormErrors:
    """Mean errors of one method, a column a form."""

    name: str
    """The method or trivial matte, named for people."""
    is_method: bool
    """False for a trivial matte."""
    nodules: int
    """How many nodules the means are over: those on which it converged in all forms."""
    means: tuple[float, ...]
    """In the order of the table's forms."""


@dataclass(frozen=True, slots=True)
class FormTable:
    """Errors of the methods in several forms against the known alpha."""

    forms: tuple[str, ...]
    """Columns, named for people."""
    nodules: int
    """How many nodules there are."""
    rows: tuple[FormErrors, ...]
    """The methods in stored order, then the trivial mattes."""


@dataclass(frozen=True, slots=True)
class ReportPage:
    """The whole report."""

    title: str
    """Its heading."""
    counts: NoduleCounts
    """Nodules by state."""
    run: RunSummary | None
    """How the run went, if one is reported."""
    stages: tuple[StageTime, ...]
    """Where the time went."""
    reasons: tuple[ReasonGroup, ...]
    """Why nodules have no case."""
    release: ReleaseFacts | None
    """The release, if one is reported."""
    training: TrainingFacts | None
    """The network, if one was trained."""
    errors: ErrorTable | None
    """None without a known alpha."""
    forms: FormTable | None
    """Both forms of the methods side by side; None where only one was computed."""
    form_names: tuple[tuple[str, int], ...]
    """Forms of the stored mattes and the number of nodules of each."""
    target: Target
    """The question by which the methods are ranked."""
    nodules: tuple[NoduleSection, ...]
    """Every finished nodule, sorted by id."""
    thumbnails: bool
    """Whether the nodules have thumbnails."""
    folder: str | None
    """Folder with a page for each nodule, beside the report; None where the nodules are in it."""
    glossary: tuple[tuple[str, str], ...]
    """What the columns of the tables mean."""


@dataclass(frozen=True, slots=True)
class NodulePage:
    """The page of one nodule of a large report."""

    title: str
    """Its heading."""
    report: str
    """Address of the report."""
    nodule: NoduleSection
    """The nodule, with its pictures."""
    target: Target
    """The question by which the methods are ranked."""
    glossary: tuple[tuple[str, str], ...]
    """What the columns of its tables mean."""

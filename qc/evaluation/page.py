"""The values that the template of the experiments' report is filled with.

Tables are the rows that the store holds, in the raw units of `matting.measures.metrics`;
`qc.evaluation.tables` converts them to the paper's units, `qc.evaluation.build` renders the page. A
part that was not done is empty or None, and `missing` gives the reason.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, get_args

from matting.parameters import Auxiliary, Variant
from storage.records import Cost
from storage.results.checkpoints import network_label
from storage.results.diagnoses import DiagnosisDifference, DiagnosisRow
from storage.results.experiments import Averages, NetworkDifference
from storage.results.left_out import LeftOutRow


class NetworkName(NamedTuple):
    """A variant of the network."""

    variant: str
    """``3dmm``, ``3dmm-m`` or ``3dmm-mg``."""
    auxiliary: Auxiliary
    """``untold`` for the variants that the paper marks with a dagger."""

    @classmethod
    def of(cls, label: str) -> "NetworkName | None":
        """Parse a table's label; return None for anything but a network of the paper."""
        return next((name for name in NETWORKS if network_label(*name) == label), None)


NETWORKS = tuple(
    NetworkName(variant, auxiliary)
    for variant in get_args(Variant)
    for auxiliary in get_args(Auxiliary)
)
"""In the order of the paper's Table 2."""


@dataclass(frozen=True, slots=True)
class DataFacts:
    """The data that every value was computed on."""

    release: str
    """Version."""
    manifest_sha256: str
    """SHA-256 of the release's manifest."""
    recipe: str
    """Name of the recipe that made its cases."""
    nodules: int
    """In the release."""
    patients: int
    """In the release."""
    synthetic: int
    """Nodules whose CT is synthetic; 0 for real data."""
    form: str
    """What the form of its mattes is called."""
    splits: Mapping[str, int] = field(default_factory=dict)
    """Nodules by split."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One choice in which the experiments may differ from the paper's."""

    name: str
    """What was chosen."""
    ours: str
    """Our choice."""
    paper: str
    """The paper's choice; empty where the paper does not give it."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture with all that a page needs to show it."""

    file: str
    """Its name beside the report."""
    data: bytes
    """PNG."""
    alt: str
    """Alternative text."""
    caption: str
    """What it shows and how to read it."""


@dataclass(frozen=True, slots=True)
class Video:
    """An animation, with a still frame for print and for reduced motion."""

    file: str
    """Name of the GIF beside the report."""
    gif: bytes
    """The animation."""
    still_png: bytes
    """One of its frames."""
    mp4: bytes | None
    """The same as MP4; None where no ffmpeg was found."""
    alt: str
    """Alternative text."""
    caption: str
    """What it shows."""

    @property
    def mp4_file(self) -> str:
        """Name of the MP4 beside the report."""
        return self.file.removesuffix(".gif") + ".mp4"


@dataclass(frozen=True, slots=True)
class StudySection:
    """Figure 3: a clinicians' study with verdicts."""

    name: str
    """Of the study."""
    nodules: int
    """Number of nodules shown to each rater."""
    raters: int
    """Number of raters with verdicts."""
    shares_csv: bytes
    """How often each option was chosen."""
    figure: Picture
    """The shares with intervals."""
    synthetic: int
    """Nodules of the study whose CT is synthetic."""


@dataclass(frozen=True, slots=True)
class EvaluationPage:
    """The whole page."""

    title: str
    """Its heading."""
    data: DataFacts
    """What the values were computed on."""
    reduced: bool
    """Whether anything was reduced compared with the paper's setting."""
    settings: tuple[Setting, ...]
    """Where our choices differ from the paper's."""
    provenance: tuple[tuple[str, str], ...]
    """Digests, versions, devices: name and value."""
    left_out: tuple[LeftOutRow, ...] = ()
    """Mattes and masks against the mask of a reader who was left out."""
    left_out_figure: Picture | None = None
    """The same."""
    table_1: tuple[Averages, ...] = ()
    """Mattes against the released (and the known) ones."""
    table_2: tuple[Averages, ...] = ()
    """The network's variants."""
    network_differences: tuple[NetworkDifference, ...] = ()
    """Between them, and between each and the trivial mattes."""
    table_3: tuple[Cost, ...] = ()
    """What they cost."""
    diagnosis: tuple[DiagnosisRow, ...] = ()
    """Rows of Figure 6: one per run and one for the mean over seeds."""
    diagnosis_differences: tuple[DiagnosisDifference, ...] = ()
    """Between the families of its inputs, by classifier on features."""
    diagnosis_figure: Picture | None = None
    """Figure 6."""
    readers: tuple[Picture, ...] = ()
    """Figure 1: readers against matte, one picture per nodule."""
    methods: Picture | None = None
    """Figure 7: the eight side by side, one row per nodule."""
    network: Picture | None = None
    """Figure 8: the network's outputs, one row per nodule."""
    videos: tuple[Video, ...] = ()
    """Slices and rotations."""
    study: StudySection | None = None
    """Figure 3."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Why a part is missing, by the name of its field; others get a general reason."""
    unfinished: Mapping[str, str] = field(default_factory=dict)
    """What remains to be done for a part that is there, by the name of its field."""
    attachments: Mapping[str, bytes] = field(default_factory=dict)
    """Further files beside the report, by name, such as the scores of single nodules."""

"""What the page of the paper's experiments is given: every value under a name, and nothing else.

Tables are rows in raw units of `matting.metrics`; `qc.evaluation_tables` writes them as CSV and says them in the
paper's units, and `qc.evaluation_report` puts it all on one page. A part that was not done is an empty tuple or None,
and `missing` says why; the page then says so too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

FIGURES = ("sad", "mse", "grad", "conn")
"""The four metrics, in the paper's order."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over partitions of the data."""

    mean: float
    """Mean over the partitions of each partition's mean over nodules."""
    std: float | None
    """Standard deviation over the partitions; None where there is but one."""


@dataclass(frozen=True, slots=True)
class MatteRow:
    """One row of Table 1: a matte against a truth over a region."""

    matte: str
    """A method as stored (``cf+``), a trivial matte, or a network's label."""
    truth: str
    """``released``, or ``known`` where the CT is simulated."""
    region: str
    """``whole`` patch, ``near`` (union and 5 mm) or ``unknown``."""
    nodules: tuple[int, ...]
    """How many counted, one number a partition: those whose released matte this method did not supply."""
    figures: Mapping[str, Spread]
    """By name of `FIGURES`, raw: voxels of full opacity, opacity squared."""


@dataclass(frozen=True, slots=True)
class VariantRow:
    """One row of Table 2: a variant of the network, trained and measured once a partition."""

    variant: str
    """``3dmm``, ``3dmm-m`` or ``3dmm-mg``."""
    auxiliary: bool
    """False for the paper's dagger: without the auxiliary masks."""
    truth: str
    """As in `MatteRow`."""
    region: str
    """As in `MatteRow`."""
    nodules: tuple[int, ...]
    """How many counted, one number a partition trained."""
    figures: Mapping[str, Spread]
    """As in `MatteRow`."""
    epochs: int
    """Passes over the training split."""
    reduced: bool
    """True where it was trained in less than the paper's setting."""


@dataclass(frozen=True, slots=True)
class CostRow:
    """One row of Table 3: what a variant of the network costs at 1 x 96^3."""

    variant: str
    """As in `VariantRow`."""
    auxiliary: bool
    """As in `VariantRow`."""
    parameters: int
    """Numbers that training sets."""
    multiply_adds: int
    """The paper's FLOPs."""
    latency_s: float | None
    """Wall seconds of one pass, the median of several; None where it was not measured."""
    peak_mb: float | None
    """Peak memory of the pass in megabytes; None where it was not measured."""
    device: str
    """Where latency and memory were measured."""


@dataclass(frozen=True, slots=True)
class DiagnosisRow:
    """One training of Figure 6: benign or malignant from one input alone."""

    backbone: str
    """``densenet-121``, ``resnet-34`` or ``resnet-50``."""
    input: str
    """What the network saw: image, a mask, a matte, or a baseline."""
    seed: int
    """Of weights and order."""
    auroc: float
    """Area under the receiver operating characteristic on the test split."""
    low: float | None
    """Lower end of its 95 % interval."""
    high: float | None
    """Upper end of its 95 % interval."""
    nodules: int
    """Of the test split, with a rating above or below 3."""


@dataclass(frozen=True, slots=True)
class DataFacts:
    """The data that every number stands on."""

    release: str
    """Version."""
    manifest_sha256: str
    """Names the release's very bytes."""
    recipe: str
    """Name of the recipe that made its cases."""
    nodules: int
    """In the release."""
    patients: int
    """In the release."""
    stand_in: int
    """Nodules whose CT is simulated; 0 for real data."""
    splits: Mapping[str, int] = field(default_factory=dict)
    """Nodules by split."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One choice of the experiments beside the paper's."""

    name: str
    """What was chosen."""
    ours: str
    """As it was done here."""
    paper: str
    """As the paper has it; empty where the paper is silent."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture with all that a page needs to show it."""

    file: str
    """Its name beside the report."""
    data: bytes
    """PNG."""
    alt: str
    """The same in words, for who cannot see it."""
    caption: str
    """What it shows and how to read it."""


@dataclass(frozen=True, slots=True)
class Video:
    """A moving picture, with a still one for paper and for who wants no motion."""

    file: str
    """Name of the GIF beside the report."""
    gif: bytes
    """The moving picture."""
    still_png: bytes
    """One frame of it."""
    mp4: bytes | None
    """The same as MP4; None where no ffmpeg was found."""
    alt: str
    """The same in words."""
    caption: str
    """What it shows."""


@dataclass(frozen=True, slots=True)
class StudyPart:
    """Figure 3: a clinicians' study with answers."""

    name: str
    """Of the study."""
    nodules: int
    """Shown to each rater."""
    raters: int
    """Who answered."""
    shares_csv: bytes
    """How often each option was chosen."""
    figure: Picture
    """The shares with intervals."""
    stand_in: int
    """Nodules of the study whose CT is simulated."""


@dataclass(frozen=True, slots=True)
class EvaluationPage:
    """The whole page."""

    title: str
    """Its heading."""
    data: DataFacts
    """What the numbers stand on."""
    reduced: bool
    """True where anything was done in less than the paper's setting."""
    settings: tuple[Setting, ...]
    """Ours beside the paper's."""
    provenance: tuple[tuple[str, str], ...]
    """Digests, versions, devices: name and value."""
    table_1: tuple[MatteRow, ...] = ()
    """Mattes against the released (and the known) ones."""
    table_2: tuple[VariantRow, ...] = ()
    """The network's variants."""
    table_3: tuple[CostRow, ...] = ()
    """What they cost."""
    diagnosis: tuple[DiagnosisRow, ...] = ()
    """Figure 6, one row a training."""
    diagnosis_figure: Picture | None = None
    """Figure 6 as drawn by its own module."""
    readers: tuple[Picture, ...] = ()
    """Figure 1: readers against matte, one picture a nodule."""
    methods: tuple[Picture, ...] = ()
    """Figure 7: the eight side by side."""
    network: tuple[Picture, ...] = ()
    """Figure 8: the network's outputs."""
    videos: tuple[Video, ...] = ()
    """Slices and turns."""
    study: StudyPart | None = None
    """Figure 3."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Why a part is not there, by the name of its field; a part without a reason gets a plain one."""
    attachments: Mapping[str, bytes] = field(default_factory=dict)
    """More files beside the report, by name: the nodules' own scores and the like."""

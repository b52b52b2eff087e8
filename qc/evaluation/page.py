"""What the page of the paper's experiments is given: every value under a name, and nothing else.

Tables are the rows that the store holds, in raw units of `matting.measures.metrics`; `qc.evaluation.tables` says them in the
paper's units beside the paper's own, `qc.evaluation.build` puts it all on one page. A part that was not done is empty
or None, and `missing` says why; the page then says so too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from storage.records import Cost
from storage.results.checkpoints import network_label
from storage.results.diagnoses import DiagnosisRow
from storage.results.experiments import Averages


class NetworkName(NamedTuple):
    """A variant of the network."""

    variant: str
    """``3dmm``, ``3dmm-m`` or ``3dmm-mg``."""
    auxiliary: bool
    """False for the paper's dagger: without the auxiliary masks."""

    @classmethod
    def of(cls, label: str) -> "NetworkName | None":
        """Read a table's label; None for a method, a trivial matte or a network of another make."""
        return next((name for name in NETWORKS if network_label(*name) == label), None)


NETWORKS = tuple(
    NetworkName(variant, masks)
    for variant in ("3dmm", "3dmm-m", "3dmm-mg")
    for masks in (True, False)
)
"""In the paper's order."""


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
    synthetic: int
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

    @property
    def mp4_file(self) -> str:
        """Name of the MP4 beside the report."""
        return self.file.removesuffix(".gif") + ".mp4"


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
    synthetic: int
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
    table_1: tuple[Averages, ...] = ()
    """Mattes against the released (and the known) ones."""
    table_2: tuple[Averages, ...] = ()
    """The network's variants."""
    table_3: tuple[Cost, ...] = ()
    """What they cost."""
    diagnosis: tuple[DiagnosisRow, ...] = ()
    """Figure 6: a row for each run and one for the mean over seeds."""
    diagnosis_figure: Picture | None = None
    """Figure 6 as drawn by its own module."""
    readers: tuple[Picture, ...] = ()
    """Figure 1: readers against matte, one picture a nodule."""
    methods: Picture | None = None
    """Figure 7: the eight side by side, one row a nodule."""
    network: Picture | None = None
    """Figure 8: the network's outputs, one row a nodule."""
    videos: tuple[Video, ...] = ()
    """Slices and turns."""
    study: StudyPart | None = None
    """Figure 3."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Why a part is not there, by the name of its field; a part without a reason gets a plain one."""
    unfinished: Mapping[str, str] = field(default_factory=dict)
    """What of a part that is there is still to be done, by the name of its field."""
    attachments: Mapping[str, bytes] = field(default_factory=dict)
    """More files beside the report, by name: the nodules' own scores and the like; the page lists them."""

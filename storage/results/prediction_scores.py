"""Scores of predictions that somebody brought, as the tables that are written beside their page.

Unlike the scores of methods and networks they are not kept in the store.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReaderScore:
    """One matte of a nodule as the probability that each of its readers marks a voxel."""

    nodule: str
    matte: str
    region: str
    """``near`` or ``unknown``."""
    readers: int
    voxels: int
    brier: float
    log_loss: float
    bin_voxels: str
    """Ten counts of voxels by probability, once for each reader, separated by spaces."""
    bin_expected: str
    """Ten sums of probabilities."""
    bin_marked: str
    """Ten counts of marks."""


@dataclass(frozen=True, slots=True)
class MeanScore:
    """One metric of one matte over a group of nodules."""

    group: str
    """``all``, a kind of nodule, or a class of slice distance."""
    truth: str
    """``released``, ``known`` where the CT is simulated, or ``readers``."""
    region: str
    """``whole`` patch, ``near`` (union and 5 mm) or ``unknown``."""
    matte: str
    """``prediction``, or what it is compared with."""
    metric: str
    nodules: int
    patients: int
    mean: float
    low: float | None
    high: float | None
    """Ends of its 95 % interval, by patient; None for one patient and for the calibration error."""
    pairs: int
    """Nodules for which both the prediction and this matte have scores."""
    difference: float | None
    """Mean over them of the prediction's minus this matte's; None for the prediction itself."""
    difference_low: float | None
    difference_high: float | None


@dataclass(frozen=True, slots=True)
class NotScored:
    """A nodule or a file that was not scored."""

    nodule: str
    file: str
    kind: str
    """``missing``, ``refused``, ``unknown nodule``, ``not read`` or ``other split``."""
    reason: str


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """How often readers marked the voxels of one range of probability."""

    matte: str
    region: str
    bin: int
    """From 0: probabilities from bin / 10."""
    voxels: int
    probability: float
    """Mean of the matte."""
    frequency: float
    """Share of the readers' marks."""

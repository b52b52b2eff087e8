"""How well mattes and masks foretell the mask of a reader who was left out.

    metrics/<version>/left-out-<n>/<nodule>.csv             one nodule; written once
    experiments/<version>/<recipe>/left-out.csv             the table of all nodules

<n> is the version of the measurement, a hash of all that decides it.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from storage.layout import METRICS
from storage.records import JsonObject, canonical_json
from storage.results.csv_rows import from_csv, seal_csv, to_csv
from storage.results.experiments import experiment_prefix
from storage.results.listed_files import write_listed_files
from storage.store import Store

_TABLE = "left-out.csv"


@dataclass(frozen=True, slots=True)
class LeftOutScore:
    """One matte of a nodule, made without one of its readers, against the mask of that reader."""

    nodule: str
    reader: int
    """The reader who was left out, from 0."""
    matte: str
    """A method with its form, or a mean of the other readers' masks."""
    voxels: int
    """Unknown in either form's trimap; all mattes are compared over these."""
    brier: float
    log_loss: float
    bin_voxels: str
    """Ten counts of voxels by probability, separated by spaces."""
    bin_expected: str
    """Ten sums of probabilities."""
    bin_marked: str
    """Ten counts of voxels that the reader marked."""


@dataclass(frozen=True, slots=True)
class LeftOutRow:
    """One matte over a group of nodules."""

    group: str
    """``all``, a kind of nodule, or a class of slice distance."""
    matte: str
    nodules: int
    patients: int
    brier: float
    """Mean over nodules of the mean over readers."""
    log_loss: float
    calibration_error: float
    """Over all voxels of the group."""
    difference: float
    """Relative difference of the Brier score from that of the blurred mean of the readers."""
    low: float
    high: float
    """Ends of its 95 % interval, paired and by patient."""


def left_out_id(content_key: JsonObject) -> str:
    """Return the id of a measurement: the hash of all that decides it."""
    return hashlib.sha256(canonical_json(content_key)).hexdigest()[:16]


def write_left_out(
    store: Store, version: str, measurement: str, nodule_id: str, scores: Iterable[LeftOutScore]
) -> None:
    """Store the scores of one nodule; none where no reader could be left out."""
    store.put(
        f"{_prefix(version, measurement)}/{nodule_id}.csv", seal_csv(to_csv(LeftOutScore, scores))
    )


def list_left_out(store: Store, version: str, measurement: str) -> set[str]:
    """List the nodules that were measured."""
    names = store.list_dir(_prefix(version, measurement))[1]
    return {name.removesuffix(".csv") for name in names}


def read_left_out(
    store: Store, version: str, measurement: str, nodule_ids: Iterable[str]
) -> list[LeftOutScore]:
    """Read the scores of nodules, in their order; raises NotFoundError or CorruptionError."""
    scores: list[LeftOutScore] = []
    for nodule_id in nodule_ids:
        key = f"{_prefix(version, measurement)}/{nodule_id}.csv"
        scores += from_csv(LeftOutScore, store.get(key), key)
    return scores


def write_left_out_table(
    store: Store, version: str, recipe: str, rows: Sequence[LeftOutRow]
) -> None:
    """Store the table of all nodules, replacing what was there."""
    prefix = experiment_prefix(version, recipe)
    write_listed_files(store, prefix, {_TABLE: to_csv(LeftOutRow, rows)})


def read_left_out_table(store: Store, version: str, recipe: str) -> list[LeftOutRow]:
    """Read the table of all nodules; raises NotFoundError or CorruptionError."""
    key = _table_key(version, recipe)
    return from_csv(LeftOutRow, store.get(key), key)


def _prefix(version: str, measurement: str) -> str:
    return f"{METRICS}/{version}/left-out-{measurement}"


def _table_key(version: str, recipe: str) -> str:
    return f"{experiment_prefix(version, recipe)}/{_TABLE}"

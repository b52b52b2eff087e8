"""Benign or malignant: what classifiers learn from and how they score each nodule.

Below experiments/<version>/diagnosis/<id>:

    …/nodules.csv                       who is benign or malignant, and how large
    …/inputs/<input>.npy                cubes (n, z, y, x) in 0..1, half precision
    …/inputs.json                       names of the inputs; written last
    …/<backbone>/<input>-<seed>.csv     scores of one run, complete or absent

<id> is a hash of the release and all settings but the backbones and seeds, so that more of these
are added to what is there. The cubes can be made again from the release and may be removed.
"""

import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from matting.errors import InputError
from storage.errors import CorruptionError, NotFoundError
from storage.layout import EXPERIMENTS
from storage.records import CaseFacts, JsonObject, TableFacts, canonical_json
from storage.results.csv_rows import from_csv, seal_csv, to_csv
from storage.results.listed_files import write_listed_files
from storage.store import Store

Cubes = NDArray[np.float16]
Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class RatedNodule:
    """One nodule with the readers' rating of its malignancy."""

    nodule: str
    patient: str
    rating: float
    """Mean malignancy over the readers, 1..5."""
    malignant: bool
    """Whether the mean is above 3; nodules at 3 are excluded."""
    volume_mm3: float
    """Mean volume over the readers."""


@dataclass(frozen=True, slots=True)
class NoduleScore:
    """Score of one nodule in one run, by a classifier that was not trained on it."""

    nodule: str
    fold: int
    score: float
    """Log odds of malignancy."""


@dataclass(frozen=True, slots=True)
class DiagnosisRow:
    """One row of Figure 6: an area under the ROC curve."""

    backbone: str
    """``none`` for nodule volume, which needs none."""
    input: str
    """As the paper names it; ours beside them."""
    seed: int | None
    """None: the mean over the seeds."""
    auroc: float
    low: float
    high: float
    """Ends of the 95 % interval."""
    nodules: int
    malignant: int


@dataclass(frozen=True, slots=True)
class DiagnosisDifference:
    """Difference of areas between two families of inputs, for one classifier."""

    backbone: str
    """The classifier, e.g. ``boosting + volume``."""
    first: str
    """A family of inputs, over which areas are averaged."""
    second: str
    """The family whose area is subtracted."""
    difference: float
    low: float
    high: float
    """Ends of the 95 % interval, paired and by patient."""
    nodules: int


def diagnosis_id(content_key: JsonObject) -> str:
    """Return the id of a diagnosis: the hash of all that determines its runs."""
    return hashlib.sha256(canonical_json(content_key)).hexdigest()[:16]


def diagnosis_prefix(version: str, name: str) -> str:
    """Return the prefix of a diagnosis, by version of the release and id."""
    return f"{EXPERIMENTS}/{version}/diagnosis/{name}"


def reader_ratings(facts: CaseFacts, name: str) -> tuple[float, ...]:
    """Return each reader's rating of a nodule, 1..5; empty where there are none.

    LIDC's annotations have them; a table of files may, as a column such as ``5 4 4 3``.

    Args:
        facts: Of the nodule's case.
        name: What was rated: ``malignancy``, ``texture``.

    Raises:
        InputError: There are values that are not ratings.
    """
    if isinstance(facts.source, TableFacts):
        column = facts.source.columns.get(name, "")
        given = [*column.replace(",", " ").replace(";", " ").split()]
    else:
        values = [rating.get(name) for rating in facts.ratings]
        given = [str(value) for value in values if value is not None]
    ratings = tuple(_number(text) for text in given)
    if not all(1 <= rating <= 5 for rating in ratings):
        raise InputError(
            f"invalid {name}",
            got=" ".join(given),
            expected="ratings from 1 to 5",
            remedy=f"Correct the table's column `{name}` and curate again.",
        )
    return ratings


def write_inputs(
    store: Store,
    prefix: str,
    nodules: Sequence[RatedNodule],
    cubes: Iterable[tuple[str, Cubes]],
) -> None:
    """Store what classifiers learn from; the list of inputs is written last.

    Args:
        store: Where to.
        prefix: Of the diagnosis.
        nodules: In the order of the cubes.
        cubes: Name and cubes (n, z, y, x) of each input.
    """
    store.put(f"{prefix}/nodules.csv", seal_csv(to_csv(RatedNodule, nodules)))
    names = []
    for name, values in cubes:
        names.append(name)
        data = io.BytesIO()
        np.save(data, values, allow_pickle=False)
        write_listed_files(store, prefix, {_cubes_name(name): data.getvalue()})
    write_listed_files(store, prefix, {"inputs.json": json.dumps(names).encode()})


def find_rated_nodules(store: Store, prefix: str) -> tuple[RatedNodule, ...] | None:
    """Read the nodules in the order of the cubes.

    None where the inputs are incomplete. Raises CorruptionError.
    """
    if not store.exists(f"{prefix}/inputs.json"):
        return None
    return tuple(_read_rows(store, f"{prefix}/nodules.csv", RatedNodule))


def read_cubes(store: Store, prefix: str, name: str) -> Cubes:
    """Read the cubes of one input (n, z, y, x); raises CorruptionError."""
    key = _cubes_key(prefix, name)
    try:
        cubes: Cubes = np.load(io.BytesIO(store.get(key)), allow_pickle=False)
    except (NotFoundError, ValueError, EOFError) as error:
        raise CorruptionError(
            f"{key} is missing or damaged. Remove {prefix}/inputs.json to have it made again.",
            key=key,
        ) from error
    return cubes


def write_run_scores(
    store: Store, prefix: str, backbone: str, name: str, seed: int, scores: Sequence[NoduleScore]
) -> None:
    """Store the scores of one run.

    Args:
        store: Where to.
        prefix: Of the diagnosis.
        backbone: Of the classifier.
        name: Of the input.
        seed: Of the run.
        scores: One for each nodule.
    """
    store.put(_run_key(prefix, backbone, name, seed), seal_csv(to_csv(NoduleScore, scores)))


def find_run_scores(
    store: Store, prefix: str, backbone: str, name: str, seed: int
) -> tuple[NoduleScore, ...] | None:
    """Read the scores of one run; None where it was not done. Raises CorruptionError.

    Args:
        store: Where from.
        prefix: Of the diagnosis.
        backbone: Of the classifier.
        name: Of the input.
        seed: Of the run.
    """
    key = _run_key(prefix, backbone, name, seed)
    return tuple(_read_rows(store, key, NoduleScore)) if store.exists(key) else None


def _read_rows(store: Store, key: str, kind: type[Row]) -> list[Row]:
    try:
        rows = from_csv(kind, store.get(key), key)
    except NotFoundError as error:
        raise CorruptionError(
            f"{key} is missing. Remove its folder and run the same command again.", key=key
        ) from error
    if not rows:
        raise CorruptionError(
            f"{key} has no rows. Remove it and run the same command again.", key=key
        )
    return rows


def _cubes_key(prefix: str, name: str) -> str:
    return f"{prefix}/{_cubes_name(name)}"


def _cubes_name(name: str) -> str:
    return f"inputs/{_slug(name)}.npy"


def _run_key(prefix: str, backbone: str, name: str, seed: int) -> str:
    return f"{prefix}/{_slug(backbone)}/{_slug(name)}-{seed}.csv"


def _slug(name: str) -> str:
    """Return the name of an input as it may be part of a key."""
    return name.lower().replace("+", "-plus").replace(" ", "-")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")

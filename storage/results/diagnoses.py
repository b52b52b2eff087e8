"""What classifiers made of each input: benign or malignant, nodule by nodule.

    experiments/<version>/diagnosis/<id>/nodules.csv                       who is benign or malignant, and how large
    experiments/<version>/diagnosis/<id>/inputs/<input>.npy                cubes (n, z, y, x) in 0..1, half precision
    experiments/<version>/diagnosis/<id>/inputs.json                       which there are; written last
    experiments/<version>/diagnosis/<id>/<backbone>/<input>-<seed>.csv     one run's scores, written whole or not at all

<id> names the release and all settings but the backbones and seeds, so that more of these are added to what is there.
The cubes can be made again from the release and may be removed.
"""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matting.errors import InputError
from storage.errors import CorruptionError, NotFoundError
from storage.layout import EXPERIMENTS
from storage.store import Store, canonical_json

Cubes = NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class Diagnosed:
    """One nodule as the readers rated it."""

    nodule: str
    patient: str
    rating: float
    """Mean malignancy over the readers, 1..5."""
    malignant: bool
    """The mean is above 3; nodules at 3 are left out."""
    volume_mm3: float
    """Mean volume over the readers."""


@dataclass(frozen=True, slots=True)
class Scored:
    """What one run said of a nodule that its classifier had not learned from."""

    nodule: str
    fold: int
    score: float
    """Log odds of malignancy."""


@dataclass(frozen=True, slots=True)
class DiagnosisRow:
    """One line of Figure 6: an area under the ROC curve."""

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


def diagnosis_id(decides: Mapping[str, Any]) -> str:
    """Name a diagnosis by all that decides its runs."""
    return hashlib.sha256(canonical_json(decides)).hexdigest()[:16]


def diagnosis_prefix(version: str, name: str) -> str:
    """Give the folder of a diagnosis."""
    return f"{EXPERIMENTS}/{version}/diagnosis/{name}"


def malignancy_ratings(source: Mapping[str, Any]) -> tuple[float, ...]:
    """Give what each reader rated, 1..5, from what a case says of its source; empty where nobody did.

    LIDC's annotations carry them; a table of files may, as a column `malignancy` such as ``5 4 4 3``.

    Raises:
        InputError: They are there and are no ratings.
    """
    if "annotations" in source:
        given = [annotation.get("malignancy") for annotation in source["annotations"]]
    else:
        given = (
            str(source.get("columns", {}).get("malignancy", ""))
            .replace(",", " ")
            .replace(";", " ")
            .split()
        )
    try:
        ratings = tuple(float(value) for value in given if value is not None)
    except (TypeError, ValueError):
        ratings = (float("nan"),)
    if not all(1 <= value <= 5 for value in ratings):
        raise InputError(
            "malignancy cannot be read",
            got=" ".join(str(value) for value in given),
            expected="ratings from 1 to 5",
            remedy="Correct the table's column `malignancy` and curate again.",
        )
    return ratings


def write_inputs(
    store: Store, prefix: str, nodules: Sequence[Diagnosed], cubes: Iterable[tuple[str, Cubes]]
) -> None:
    """Store what is to be learned from; the list of inputs comes last."""
    store.put(f"{prefix}/nodules.csv", _table(Diagnosed, nodules))
    names = []
    for name, values in cubes:
        names.append(name)
        data = io.BytesIO()
        np.save(data, values, allow_pickle=False)
        store.put(f"{prefix}/inputs/{_slug(name)}.npy", data.getvalue())
    store.put(f"{prefix}/inputs.json", json.dumps(names).encode())


def read_nodules(store: Store, prefix: str) -> tuple[Diagnosed, ...] | None:
    """Give the nodules in the order of the cubes; None where the inputs are not whole. Raises CorruptionError."""
    if store.size(f"{prefix}/inputs.json") is None:
        return None
    return tuple(
        Diagnosed(
            row["nodule"],
            row["patient"],
            float(row["rating"]),
            row["malignant"] == "True",
            float(row["volume_mm3"]),
        )
        for row in _rows(store, f"{prefix}/nodules.csv", Diagnosed)
    )


def read_input(store: Store, prefix: str, name: str) -> Cubes:
    """Give the cubes of one input (n, z, y, x). Raises CorruptionError."""
    key = f"{prefix}/inputs/{_slug(name)}.npy"
    try:
        cubes: Cubes = np.load(io.BytesIO(store.get(key)), allow_pickle=False)
    except (NotFoundError, ValueError, EOFError) as error:
        raise CorruptionError(
            f"{key} is missing or spoiled. Remove {prefix}/inputs.json to have it made again."
        ) from error
    return cubes


def write_run(
    store: Store, prefix: str, backbone: str, name: str, seed: int, scores: Sequence[Scored]
) -> None:
    """Store one run's scores."""
    store.put(_run_key(prefix, backbone, name, seed), _table(Scored, scores))


def read_run(
    store: Store, prefix: str, backbone: str, name: str, seed: int
) -> tuple[Scored, ...] | None:
    """Give one run's scores; None where it has not been. Raises CorruptionError."""
    key = _run_key(prefix, backbone, name, seed)
    if store.size(key) is None:
        return None
    return tuple(
        Scored(row["nodule"], int(row["fold"]), float(row["score"]))
        for row in _rows(store, key, Scored)
    )


def _run_key(prefix: str, backbone: str, name: str, seed: int) -> str:
    return f"{prefix}/{backbone}/{_slug(name)}-{seed}.csv"


def _slug(name: str) -> str:
    """Name an input so that it may stand in any path."""
    return name.lower().replace("+", "-plus").replace(" ", "-")


def _table(kind: type[Diagnosed] | type[Scored], rows: Iterable[Diagnosed | Scored]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(kind)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue().encode()


def _rows(store: Store, key: str, kind: type[Diagnosed] | type[Scored]) -> list[dict[str, str]]:
    rows = list(csv.DictReader(io.StringIO(store.get(key).decode())))
    if not rows or list(rows[0]) != [field.name for field in fields(kind)]:
        raise CorruptionError(
            f"{store.url}/{key} is no table of ours. Remove it and run the same command again."
        )
    return rows

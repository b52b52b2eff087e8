"""Scores: how far mattes are from those of a release. They lie beside releases, which never change.

    metrics/<version>/nodules-<n>/<what>/<nodule>.csv   one nodule: one row for each matte and region; written once
    metrics/<version>/<side>/<what>.csv                 the same of all nodules of a side
    metrics/<version>/<side>/<what>.json                their means and what was measured; written last

<what> is `methods` for the stored mattes and the trivial ones, or the digest of a checkpoint; <n> the version of the
metrics; <side> a split, such as `test`, a split of another partition, such as `test-2`, or `all`.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, pstdev
from typing import Any

from storage.errors import CorruptionError, NotFoundError
from storage.layout import METRICS
from storage.results.tabular import from_csv, to_csv
from storage.store import Store

METRICS_VERSION = 1
"""Raised whenever the same mattes get other figures than before."""
ALL = "all"
"""The side that holds every nodule of a release."""
METRIC_NAMES = ("sad", "mse", "grad", "conn")
METHOD_SCORES = "methods"


@dataclass(frozen=True, slots=True)
class Score:
    """One matte of one nodule against one truth over one region."""

    nodule: str
    matte: str
    """A method, a trivial matte, or the network's variant."""
    truth: str
    """``released``, or ``known`` where the CT is simulated."""
    region: str
    """``whole`` patch, ``near`` (union and 5 mm) or ``unknown``."""
    voxels: int
    sad: float
    mse: float
    grad: float
    conn: float


@dataclass(frozen=True, slots=True)
class Line:
    """Mean and standard deviation over the nodules that count."""

    matte: str
    truth: str
    region: str
    nodules: int
    means: dict[str, float]
    deviations: dict[str, float]


def summarise(scores: Sequence[Score]) -> list[Line]:
    """Average the scores of each matte, truth and region over the nodules."""
    groups: dict[tuple[str, str, str], list[Score]] = {}
    for score in scores:
        groups.setdefault((score.truth, score.region, score.matte), []).append(score)
    lines = []
    for (truth, region, matte), members in groups.items():
        values = {name: [float(getattr(score, name)) for score in members] for name in METRIC_NAMES}
        means = {name: fmean(found) for name, found in values.items()}
        lines.append(
            Line(
                matte,
                truth,
                region,
                len(members),
                means,
                {name: pstdev(found) for name, found in values.items()},
            )
        )
    return lines


def save_nodule(
    store: Store, version: str, what: str, nodule_id: str, scores: Iterable[Score]
) -> None:
    """Store the scores of one nodule, so that they need not be measured again."""
    store.put(f"{_nodules(version, what)}/{nodule_id}.csv", to_csv(Score, scores))


def nodules_scored(store: Store, version: str, what: str) -> set[str]:
    """Name the nodules whose scores are stored."""
    return {name.removesuffix(".csv") for name in store.children(_nodules(version, what))[1]}


def read_nodules(store: Store, version: str, what: str, nodule_ids: Iterable[str]) -> list[Score]:
    """Give the scores of nodules, in their order. Raises NotFoundError for one that has none, or CorruptionError."""
    keys = [f"{_nodules(version, what)}/{nodule_id}.csv" for nodule_id in nodule_ids]
    return [
        score for key in keys for score in from_csv(Score, store.get(key), f"{store.url}/{key}")
    ]


def side_of(split: str, partition: int) -> str:
    """Name a split of a partition: the release's own splits have their plain names."""
    return split if partition == 0 else f"{split}-{partition}"


def write_scores(
    store: Store,
    version: str,
    split: str,
    what: str,
    scores: Sequence[Score],
    facts: dict[str, Any],
) -> list[Line]:
    """Store scores; measured again they are the same and take the place of themselves."""
    lines = summarise(scores)
    prefix = _prefix(version, split, what)
    store.put(f"{prefix}.csv", to_csv(Score, scores))
    about = {"release": version, "split": split, "metrics_version": METRICS_VERSION}
    summary = {**facts, **about, "lines": [asdict(line) for line in lines]}
    store.put(f"{prefix}.json", json.dumps(summary, indent=1).encode())
    return lines


def read_summary(store: Store, version: str, split: str, what: str) -> dict[str, Any] | None:
    """Give the means and facts of what was measured; None where it was not. Raises CorruptionError."""
    try:
        summary = store.get_json(f"{_prefix(version, split, what)}.json")
        if summary.get("metrics_version", 1) != METRICS_VERSION:
            return None
        return {**summary, "lines": [Line(**line) for line in summary["lines"]]}
    except NotFoundError:
        return None
    except (KeyError, TypeError) as error:
        raise CorruptionError(
            f"{_prefix(version, split, what)}.json holds no scores. Remove it and measure again."
        ) from error


def read_lines(store: Store, version: str, split: str, *whats: str) -> list[Line]:
    """Give the lines of all that was measured under these names, in their order."""
    found = [read_summary(store, version, split, what) for what in whats]
    return [line for summary in found if summary for line in summary["lines"]]


def scored(store: Store, version: str, split: str) -> list[str]:
    """Name what was measured of a release: `methods` and digests of checkpoints."""
    names = store.children(f"{METRICS}/{version}/{split}")[1]
    return [name.removesuffix(".json") for name in names if name.endswith(".json")]


def scores_place(store: Store, version: str) -> str:
    """Tell where the scores of a release lie."""
    return f"{store.url}/{METRICS}/{version}"


def _nodules(version: str, what: str) -> str:
    return f"{METRICS}/{version}/nodules-{METRICS_VERSION}/{what}"


def _prefix(version: str, split: str, what: str) -> str:
    return f"{METRICS}/{version}/{split}/{what}"

"""Scores: errors of mattes against those of a release.

They are stored beside releases, which never change.

    metrics/<version>/nodules-<n>/<what>/<nodule>.csv   one nodule; written once
    metrics/<version>/<side>/<what>.csv                 the same for all nodules of a side
    metrics/<version>/<side>/<what>.json                their means; written last

<what> is `methods` for the stored mattes and the trivial ones, or the digest of a checkpoint; <n>
is the version of the metrics; <side> is a split, such as `test`, a split of another partition,
such as `test-2`, or `all`.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

from storage.errors import NotFoundError
from storage.layout import METRICS
from storage.records import Line, ScoreSummary, encode, read_record
from storage.results.csv_rows import from_csv, seal_csv, to_csv
from storage.store import Store

METRICS_VERSION = 2
"""Raised whenever the same mattes get other scores than before."""
ALL = "all"
"""The side with every nodule of a release."""
METRIC_NAMES = ("sad", "mse", "grad", "conn")
METHOD_SCORES = "methods"


@dataclass(frozen=True, slots=True)
class Score:
    """Errors of one matte of one nodule against one truth over one region."""

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


def summarise(scores: Sequence[Score]) -> tuple[Line, ...]:
    """Average the scores of each matte, truth and region over the nodules."""
    groups: dict[tuple[str, str, str], list[Score]] = {}
    for score in scores:
        groups.setdefault((score.truth, score.region, score.matte), []).append(score)
    return tuple(_line(group) for group in groups.values())


def _line(scores: list[Score]) -> Line:
    first = scores[0]
    values = {name: [float(getattr(score, name)) for score in scores] for name in METRIC_NAMES}
    return Line(
        first.matte,
        first.truth,
        first.region,
        len(scores),
        means={name: fmean(found) for name, found in values.items()},
        deviations={name: pstdev(found) for name, found in values.items()},
    )


def write_nodule_scores(
    store: Store, version: str, what: str, nodule_id: str, scores: Iterable[Score]
) -> None:
    """Store the scores of one nodule, so that they need not be measured again.

    Args:
        store: Where to.
        version: Of the release.
        what: `METHOD_SCORES` or the digest of a checkpoint.
        nodule_id: Which nodule.
        scores: Of the nodule.
    """
    store.put(f"{_nodules_prefix(version, what)}/{nodule_id}.csv", seal_csv(to_csv(Score, scores)))


def list_scored_nodules(store: Store, version: str, what: str) -> set[str]:
    """List the nodules whose scores are stored."""
    names = store.list_dir(_nodules_prefix(version, what))[1]
    return {name.removesuffix(".csv") for name in names}


def read_nodule_scores(
    store: Store, version: str, what: str, nodule_ids: Iterable[str]
) -> list[Score]:
    """Read the scores of nodules, in their order.

    Args:
        store: Where from.
        version: Of the release.
        what: `METHOD_SCORES` or the digest of a checkpoint.
        nodule_ids: Which nodules.

    Raises:
        NotFoundError: A nodule has no scores.
        CorruptionError: A file of scores is damaged.
    """
    scores: list[Score] = []
    for nodule_id in nodule_ids:
        key = f"{_nodules_prefix(version, what)}/{nodule_id}.csv"
        scores += from_csv(Score, store.get(key), key)
    return scores


def side_of(split: str, partition: int) -> str:
    """Return the side of a split of a partition.

    The release's own splits have their plain names.
    """
    return split if partition == 0 else f"{split}-{partition}"


def write_scores(
    store: Store,
    version: str,
    side: str,
    what: str,
    scores: Sequence[Score],
    *,
    synthetic: bool,
    network: str | None = None,
    epochs: int | None = None,
) -> tuple[Line, ...]:
    """Store the scores of a side and their means; measured again they are the same.

    Args:
        store: Where to.
        version: Of the release.
        side: Whose nodules were measured.
        what: `METHOD_SCORES` or the digest of a checkpoint.
        scores: Of all these nodules.
        synthetic: Whether the release has simulated scans.
        network: Label of the network, where it is one.
        epochs: How long it was trained.

    Returns:
        The means.
    """
    lines = summarise(scores)
    prefix = _prefix(version, side, what)
    table = to_csv(Score, scores)
    store.put(f"{prefix}.csv", table)
    summary = ScoreSummary(
        synthetic=synthetic,
        network=network,
        epochs=epochs,
        release=version,
        split=side,
        metrics_version=METRICS_VERSION,
        table_sha256=hashlib.sha256(table).hexdigest(),
        lines=lines,
    )
    store.put(f"{prefix}.json", encode(summary, indent=1))
    return lines


def find_summary(store: Store, version: str, side: str, what: str) -> ScoreSummary | None:
    """Read the means of what was measured.

    None where it was not, or with other metrics. Raises CorruptionError.
    """
    try:
        summary = read_record(store, f"{_prefix(version, side, what)}.json", ScoreSummary)
    except NotFoundError:
        return None
    return summary if summary.metrics_version == METRICS_VERSION else None


def read_lines(store: Store, version: str, side: str, *whats: str) -> list[Line]:
    """Read the means of all that was measured under some names, in their order."""
    found = [find_summary(store, version, side, what) for what in whats]
    return [line for summary in found if summary for line in summary.lines]


def list_measured(store: Store, version: str, side: str) -> list[str]:
    """List what was measured on a side: `methods` and digests of checkpoints."""
    names = store.list_dir(f"{METRICS}/{version}/{side}")[1]
    return [name.removesuffix(".json") for name in names if name.endswith(".json")]


def scores_url(store: Store, version: str) -> str:
    """Return where the scores of a release are."""
    return f"{store.url}/{METRICS}/{version}"


def _nodules_prefix(version: str, what: str) -> str:
    return f"{METRICS}/{version}/nodules-{METRICS_VERSION}/{what}"


def _prefix(version: str, side: str, what: str) -> str:
    return f"{METRICS}/{version}/{side}/{what}"

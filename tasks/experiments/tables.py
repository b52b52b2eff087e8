"""Averages of nodule scores: a mean for each partition, then mean and deviation over these."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from matting.estimate import METHODS
from storage.releases.reader import ReleaseReader
from storage.results.experiments import Averages
from storage.results.scores import METRIC_NAMES, Score

Groups = dict[tuple[str, str, str], list[Score]]


def average_scores(
    by_partition: Mapping[int, Sequence[Score]],
    *,
    checkpoints: str = "",
    training: str = "",
) -> list[Averages]:
    """Average scores, one row for each truth, region and matte.

    Args:
        by_partition: Scores of the nodules of each partition's test split.
        checkpoints: A network's checkpoints, for its rows.
        training: A network's training settings, for its rows.

    Returns:
        The rows; methods come first, in their order.
    """
    groups = {partition: _grouped(scores) for partition, scores in by_partition.items() if scores}
    rows = []
    for key in _in_order(key for found in groups.values() for key in found):
        truth, region, matte = key
        members = {partition: found[key] for partition, found in groups.items() if key in found}
        rows.append(
            Averages(
                matte,
                truth,
                region,
                partitions=" ".join(map(str, members)),
                nodules=" ".join(str(len(scores)) for scores in members.values()),
                **_metric_columns(list(members.values())),
                checkpoints=checkpoints,
                training=training,
            )
        )
    return rows


def measured_nodules(reader: ReleaseReader, at_most: int | None) -> tuple[str, ...]:
    """Return the test nodules on which networks are scored: all, or a sample.

    The sample is chosen by a hash of the ids, so it is the same for every network.
    """
    nodules = reader.nodules("test")
    if at_most is None or at_most >= len(nodules):
        return nodules
    return tuple(
        sorted(sorted(nodules, key=lambda name: hashlib.sha256(name.encode()).digest())[:at_most])
    )


def _in_order(keys: Iterable[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Sort rows by truth and region as they come, within these the methods first."""
    known = list(dict.fromkeys(keys))
    tables = list(dict.fromkeys(key[:2] for key in known))
    rank = {method: place for place, method in enumerate(METHODS)}
    return sorted(known, key=lambda key: (tables.index(key[:2]), rank.get(key[2], len(rank))))


def _grouped(scores: Iterable[Score]) -> Groups:
    groups: Groups = {}
    for score in scores:
        groups.setdefault((score.truth, score.region, score.matte), []).append(score)
    return groups


def _metric_columns(partitions: list[list[Score]]) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for name in METRIC_NAMES:
        means = [fmean(float(getattr(score, name)) for score in scores) for scores in partitions]
        columns[name] = fmean(means)
        columns[f"{name}_deviation"] = stdev(means) if len(means) > 1 else None
    return columns

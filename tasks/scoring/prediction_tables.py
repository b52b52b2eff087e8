"""Means of the scores of predictions over nodules, with intervals by patient."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from matting.estimate import METHODS
from matting.measures.metrics import paper_sized_mse
from matting.measures.probability import calibration_error, mean_intervals
from storage.releases.reader import ReleaseReader
from storage.releases.release import Release
from storage.results.prediction_scores import CalibrationBin, MeanScore, ReaderScore
from storage.results.scores import METRIC_NAMES
from tasks.scoring.calibration import sum_bins
from tasks.scoring.mattes import HU_LINEAR, READERS_MEAN, TRIMAP_PRIOR
from tasks.scoring.nodule_classes import ALL, group_by_class
from tasks.scoring.predictions import PREDICTION, RELEASED, ScoredNodule

READERS = "readers"
"""The truth of Brier score, log loss and calibration error."""
PAPER_SIZED = "mse_paper_sized"
CALIBRATION = "calibration_error"
_ORDER = (PREDICTION, RELEASED, *METHODS, READERS_MEAN, HU_LINEAR, TRIMAP_PRIOR)
"""Of the mattes in every table; any other name comes last."""


@dataclass(frozen=True, slots=True)
class _Column:
    """What one mean is of."""

    truth: str
    region: str
    matte: str
    metric: str


def tabulate_predictions(release: Release, scored: Sequence[ScoredNodule]) -> list[MeanScore]:
    """Return the rows of all mattes for all nodules, then by kind and by slice distance.

    Args:
        release: The release.
        scored: The nodules, each with scores of the prediction.
    """
    reader = ReleaseReader(release)
    nodules = [one.nodule_id for one in scored]
    patients = np.array([reader.member(name).patient_id for name in nodules])
    values: dict[_Column, list[float]] = {}
    for place, one in enumerate(scored):
        for column, value in _values(reader, one):
            values.setdefault(column, [np.nan] * len(nodules))[place] = value
    groups = group_by_class(reader, nodules)
    place_of = {name: place for place, name in enumerate(nodules)}
    values = dict(sorted(values.items(), key=lambda item: _rank(item[0].matte)))
    rows: list[MeanScore] = []
    for label in sorted(groups, key=lambda name: (name != ALL, name)):
        places = [place_of[name] for name in groups[label]]
        table = {column: np.array(found)[places] for column, found in values.items()}
        rows += _rows(label, table, patients[places])
        rows += _calibration_rows(label, [scored[place] for place in places], patients[places])
    return rows


def calibration_bins(scored: Sequence[ScoredNodule]) -> list[CalibrationBin]:
    """Return the bins of every matte and region over all nodules; empty bins are left out."""
    rows: list[CalibrationBin] = []
    for (region, matte), own in _by_matte(scored).items():
        voxels, expected, marked = sum_bins(own)
        rows += [
            CalibrationBin(
                matte,
                region,
                place,
                int(voxels[place]),
                float(expected[place] / voxels[place]),
                float(marked[place] / voxels[place]),
            )
            for place in np.flatnonzero(voxels).tolist()
        ]
    return rows


def _values(reader: ReleaseReader, one: ScoredNodule) -> Iterator[tuple[_Column, float]]:
    """Yield every value of a nodule of which means are taken."""
    spacing_mm = reader.grid(one.nodule_id).spacing_mm
    for score in one.scores:
        for metric in METRIC_NAMES:
            column = _Column(score.truth, score.region, score.matte, metric)
            yield column, float(getattr(score, metric))
            if (metric, score.region) == ("mse", "whole"):
                sized = _Column(score.truth, score.region, score.matte, PAPER_SIZED)
                yield sized, paper_sized_mse(score.mse, score.voxels, spacing_mm)
    for found in one.readers:
        yield _Column(READERS, found.region, found.matte, "brier"), found.brier
        yield _Column(READERS, found.region, found.matte, "log_loss"), found.log_loss


def _rows(
    group: str, table: Mapping[_Column, NDArray[np.float64]], patients: NDArray[np.str_]
) -> Iterator[MeanScore]:
    """Yield a row for each column that has a value in this group."""
    columns = [column for column, values in table.items() if not np.isnan(values).all()]
    values = np.stack([table[column] for column in columns], axis=1)
    ours = [
        table[_Column(column.truth, column.region, PREDICTION, column.metric)] for column in columns
    ]
    differences = np.stack(ours, axis=1) - values
    means = mean_intervals(values, patients)
    paired = mean_intervals(differences, patients)
    for place, column in enumerate(columns):
        has = ~np.isnan(values[:, place])
        compared = column.matte != PREDICTION
        mean, low, high = (_number(value) for value in means[:, place])
        difference, least, most = (_number(value) for value in paired[:, place])
        yield MeanScore(
            group=group,
            truth=column.truth,
            region=column.region,
            matte=column.matte,
            metric=column.metric,
            nodules=int(has.sum()),
            patients=len(set(patients[has].tolist())),
            mean=float(means[0, place]) if mean is None else mean,
            low=low,
            high=high,
            pairs=int((~np.isnan(differences[:, place])).sum()),
            difference=difference if compared else None,
            difference_low=least if compared else None,
            difference_high=most if compared else None,
        )


def _rank(matte: str) -> int:
    return _ORDER.index(matte) if matte in _ORDER else len(_ORDER)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _calibration_rows(
    group: str, scored: Sequence[ScoredNodule], patients: NDArray[np.str_]
) -> Iterator[MeanScore]:
    """Yield the calibration error of each matte over all voxels of a group."""
    found = _by_matte(scored)
    errors = {key: calibration_error(*sum_bins(own)) for key, own in found.items()}
    for (region, matte), own in found.items():
        compared = matte != PREDICTION
        yield MeanScore(
            group=group,
            truth=READERS,
            region=region,
            matte=matte,
            metric=CALIBRATION,
            nodules=len(own),
            patients=len(set(patients.tolist())),
            mean=errors[region, matte],
            low=None,
            high=None,
            pairs=len(own),
            difference=errors[region, PREDICTION] - errors[region, matte] if compared else None,
            difference_low=None,
            difference_high=None,
        )


def _by_matte(scored: Iterable[ScoredNodule]) -> dict[tuple[str, str], list[ReaderScore]]:
    """Group the scores against readers by region and matte."""
    found: dict[tuple[str, str], list[ReaderScore]] = {}
    for one in scored:
        for score in one.readers:
            found.setdefault((score.region, score.matte), []).append(score)
    return found

"""The table of left-out readers: means over nodules, by kind and by slice distance."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

from matting.measures.probability import calibration_error, relative_difference
from storage.releases.reader import ReleaseReader
from storage.releases.release import Release
from storage.results.left_out import LeftOutRow, LeftOutScore, list_left_out, read_left_out
from tasks.experiments.left_out import BASELINE, measurement_of
from tasks.scoring.calibration import sum_bins
from tasks.scoring.nodule_classes import ALL, group_by_class

GROUPS = (ALL, "solid", "part-solid", "ground-glass")
"""Come first in the table, in this order; then the classes of slice distance."""


def tabulate_left_out(release: Release) -> list[LeftOutRow]:
    """Return the rows of all mattes for all nodules, then by kind and by slice distance.

    Only nodules that were measured count.
    """
    measurement = measurement_of(release)
    reader = ReleaseReader(release)
    done = list_left_out(release.store, release.version, measurement)
    nodules = [name for name in reader.nodules() if name in done]
    by_nodule: dict[str, list[LeftOutScore]] = defaultdict(list)
    for score in read_left_out(release.store, release.version, measurement, nodules):
        by_nodule[score.nodule].append(score)
    groups = group_by_class(reader, by_nodule)
    patients = {name: reader.member(name).patient_id for name in by_nodule}
    rows: list[LeftOutRow] = []
    for label in sorted(groups, key=_place):
        rows += _rows(label, {name: by_nodule[name] for name in groups[label]}, patients)
    return rows


def _place(group: str) -> tuple[int, str]:
    return (GROUPS.index(group), "") if group in GROUPS else (len(GROUPS), group)


def _rows(
    group: str, scores: Mapping[str, Sequence[LeftOutScore]], patients: Mapping[str, str]
) -> Iterator[LeftOutRow]:
    """Yield a row for each matte of a group of nodules, the best first."""
    mattes = dict.fromkeys(score.matte for own in scores.values() for score in own)
    owners = [patients[nodule] for nodule in scores]
    brier = {matte: _means(scores, matte, "brier") for matte in mattes}
    for matte in sorted(mattes, key=lambda name: fmean(brier[name])):
        own = [score for found in scores.values() for score in found if score.matte == matte]
        yield LeftOutRow(
            group,
            matte,
            len(scores),
            len(set(owners)),
            fmean(brier[matte]),
            fmean(_means(scores, matte, "log_loss")),
            calibration_error(*sum_bins(own)),
            *relative_difference(brier[matte], brier[BASELINE], owners),
        )


def _means(scores: Mapping[str, Sequence[LeftOutScore]], matte: str, measure: str) -> list[float]:
    """Return each nodule's mean of a measure over the readers left out."""
    return [
        fmean(float(getattr(score, measure)) for score in own if score.matte == matte)
        for own in scores.values()
    ]

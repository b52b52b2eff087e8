"""The table of left-out readers: means over nodules, by kind and by slice distance."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from matting.measures.probability import calibration_error, relative_difference
from matting.phantoms import Ratings
from storage.records import CaseFacts, LidcFacts
from storage.releases.reader import ReleaseReader
from storage.releases.release import Release
from storage.results.diagnoses import reader_ratings
from storage.results.left_out import LeftOutRow, LeftOutScore, list_left_out, read_left_out
from tasks.experiments.left_out import BASELINE, measurement_of

ALL = "all"
GROUPS = (ALL, "solid", "part-solid", "ground-glass")
"""Come first in the table, in this order; then the classes of slice distance."""
THICK_MM = 2.0
"""Distance of slices from which a scan counts as thick."""
SLICE_COLUMN = "slice_mm"
"""Column of a table of volumes with the distance of the scan's slices."""


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
    groups: dict[str, list[str]] = {ALL: list(by_nodule)}
    for nodule in by_nodule:
        for label in classes_of(reader.facts(nodule)):
            groups.setdefault(label, []).append(nodule)
    patients = {name: reader.member(name).patient_id for name in by_nodule}
    rows: list[LeftOutRow] = []
    for label in sorted(groups, key=_place):
        rows += _rows(label, {name: by_nodule[name] for name in groups[label]}, patients)
    return rows


def classes_of(facts: CaseFacts) -> Iterator[str]:
    """Yield the classes of a nodule that are known: its kind, and its scan's slice distance."""
    textures = reader_ratings(facts, "texture")
    if textures:
        yield Ratings(texture=fmean(textures), margin=0, spiculation=0, calcification=0).kind
    slice_mm = _slice_mm(facts)
    if slice_mm is not None:
        yield f"slices {'from' if slice_mm >= THICK_MM else 'below'} {THICK_MM:g} mm"


def _place(group: str) -> tuple[int, str]:
    return (GROUPS.index(group), "") if group in GROUPS else (len(GROUPS), group)


def _slice_mm(facts: CaseFacts) -> float | None:
    if isinstance(facts.source, LidcFacts):
        gaps = np.diff(np.sort(facts.source.slice_positions_mm))
        return float(np.median(gaps)) if len(gaps) else None
    try:
        return float(facts.source.columns[SLICE_COLUMN])
    except (KeyError, ValueError):
        return None


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
            calibration_error(
                _sum(score.bin_voxels for score in own),
                _sum(score.bin_expected for score in own),
                _sum(score.bin_marked for score in own),
            ),
            *relative_difference(brier[matte], brier[BASELINE], owners),
        )


def _means(scores: Mapping[str, Sequence[LeftOutScore]], matte: str, measure: str) -> list[float]:
    """Return each nodule's mean of a measure over the readers left out."""
    return [
        fmean(float(getattr(score, measure)) for score in own if score.matte == matte)
        for own in scores.values()
    ]


def _sum(texts: Iterable[str]) -> NDArray[np.float64]:
    total: NDArray[np.float64] = np.sum([np.array(t.split(), np.float64) for t in texts], axis=0)
    return total

"""Classes of nodules by which scores are tabulated: kind, and distance of the scan's slices."""

from collections.abc import Iterable, Iterator
from statistics import fmean

import numpy as np

from matting.phantoms import Ratings
from storage.records import CaseFacts, LidcFacts
from storage.releases.reader import ReleaseReader
from storage.results.diagnoses import reader_ratings

ALL = "all"
THICK_MM = 2.0
"""Distance of slices from which a scan counts as thick."""
SLICE_COLUMN = "slice_mm"
"""Column of a table of volumes with the distance of the scan's slices."""


def group_by_class(reader: ReleaseReader, nodules: Iterable[str]) -> dict[str, list[str]]:
    """Return the nodules of each class that has any, and all of them as `ALL`, which is first."""
    groups: dict[str, list[str]] = {ALL: list(nodules)}
    for nodule in groups[ALL]:
        for label in classes_of(reader.facts(nodule)):
            groups.setdefault(label, []).append(nodule)
    return groups


def classes_of(facts: CaseFacts) -> Iterator[str]:
    """Yield the classes of a nodule that are known: its kind, and its scan's slice distance."""
    textures = reader_ratings(facts, "texture")
    if textures:
        yield Ratings(texture=fmean(textures), margin=0, spiculation=0, calcification=0).kind
    slice_mm = _slice_mm(facts)
    if slice_mm is not None:
        yield f"slices {'from' if slice_mm >= THICK_MM else 'below'} {THICK_MM:g} mm"


def _slice_mm(facts: CaseFacts) -> float | None:
    if isinstance(facts.source, LidcFacts):
        gaps = np.diff(np.sort(facts.source.slice_positions_mm))
        return float(np.median(gaps)) if len(gaps) else None
    try:
        return float(facts.source.columns[SLICE_COLUMN])
    except (KeyError, ValueError):
        return None

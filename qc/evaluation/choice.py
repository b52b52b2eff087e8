"""Choose the nodules that the figures show, from the statistics of the release alone."""

from collections.abc import Collection
from dataclasses import dataclass
from io import BytesIO

import pandas as pd

TISSUE_HU = 40.0
"""Radiodensity of soft tissue."""


@dataclass(frozen=True, slots=True)
class ChosenNodule:
    """A nodule that the figures show, and why."""

    nodule_id: str
    why: str
    """In words, with the value that decided."""


def choose_from(
    fingerprint_csv: bytes, among: Collection[str] | None = None
) -> tuple[ChosenNodule, ...]:
    """Return up to three nodules: of least reader agreement, of lowest and of solid density.

    Only nodules of at least the median size are considered. Ties go to the smaller id.

    Args:
        fingerprint_csv: The release's ``fingerprint.csv``, one row per nodule.
        among: Consider these nodules only.
    """
    rows = pd.read_csv(BytesIO(fingerprint_csv)).sort_values("nodule")
    if among is not None:
        rows = rows[rows["nodule"].isin(among)]
    rows = rows[rows["union_mm3"] >= rows["union_mm3"].median()]
    rows = rows.assign(from_tissue_hu=(rows["hu_median"] - TISSUE_HU).abs())
    wishes = {
        "dice": "lowest reader agreement: Dice {dice:.2f}",
        "hu_median": "lowest density, as in ground glass: median {hu_median:.0f} HU",
        "from_tissue_hu": "closest to soft tissue, as in solid nodules: median {hu_median:.0f} HU",
    }
    chosen: list[ChosenNodule] = []
    for column, words in wishes.items():
        left = rows[~rows["nodule"].isin([choice.nodule_id for choice in chosen])].dropna(
            subset=[column]
        )
        if len(left):
            best = left.sort_values(column, kind="stable").iloc[0]
            chosen.append(ChosenNodule(str(best["nodule"]), words.format_map(best)))
    return tuple(chosen)

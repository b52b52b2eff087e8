"""Which nodules the figures show: chosen by what they are like, from the release's fingerprint alone."""

from collections.abc import Collection
from dataclasses import dataclass
from io import BytesIO

import pandas as pd

TISSUE_HU = 40.0
"""Radiodensity of soft tissue."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A nodule that is shown, and why."""

    nodule_id: str
    why: str
    """In words, with the figure that decided."""


def choose(fingerprint_csv: bytes, among: Collection[str] | None = None) -> tuple[Choice, ...]:
    """Choose up to three nodules: the one on which readers agree least, the faintest, and a solid one.

    Only nodules of at least the median size count, so that there is something to see. Ties go to the smaller id.

    Args:
        fingerprint_csv: The release's ``fingerprint.csv``.
        among: Choose from these nodules only.
    """
    rows = pd.read_csv(BytesIO(fingerprint_csv)).sort_values("nodule")
    if among is not None:
        rows = rows[rows["nodule"].isin(among)]
    rows = rows[rows["union_mm3"] >= rows["union_mm3"].median()]
    rows = rows.assign(from_tissue_hu=(rows["hu_median"] - TISSUE_HU).abs())
    wishes = {
        "dice": "the readers agree least: Dice {dice:.2f}",
        "hu_median": "the faintest, as ground glass is: median {hu_median:.0f} HU",
        "from_tissue_hu": "nearest to soft tissue, as solid nodules are: median {hu_median:.0f} HU",
    }
    chosen: list[Choice] = []
    for column, words in wishes.items():
        left = rows[~rows["nodule"].isin([choice.nodule_id for choice in chosen])].dropna(
            subset=[column]
        )
        if len(left):
            best = left.sort_values(column, kind="stable").iloc[0]
            chosen.append(Choice(str(best["nodule"]), words.format_map(best)))
    return tuple(chosen)

"""Bins of probability as rows of a table hold them: ten numbers as text, separated by spaces."""

from collections.abc import Iterable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from matting.measures.probability import ProbabilityErrors


class Binned(Protocol):
    """A row with bins."""

    @property
    def bin_voxels(self) -> str:
        """Ten counts of voxels by probability."""

    @property
    def bin_expected(self) -> str:
        """Ten sums of probabilities."""

    @property
    def bin_marked(self) -> str:
        """Ten counts of marks."""


def bin_columns(errors: ProbabilityErrors) -> dict[str, str]:
    """Return the three columns of a row."""
    return {
        "bin_voxels": " ".join(map(str, errors.voxels)),
        "bin_expected": " ".join(f"{value:.6g}" for value in errors.expected),
        "bin_marked": " ".join(map(str, errors.marked)),
    }


def sum_bins(rows: Iterable[Binned]) -> tuple[NDArray[np.float64], ...]:
    """Return voxels, sums of probabilities and marks, (10,) each, over rows."""
    texts = [(row.bin_voxels, row.bin_expected, row.bin_marked) for row in rows]
    return tuple(
        np.sum([np.array(text.split(), np.float64) for text in column], axis=0)
        for column in zip(*texts, strict=True)
    )

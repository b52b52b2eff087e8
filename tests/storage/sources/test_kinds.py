"""Inputs as people store them, by kind: each is read right, or refused in words.

The numbers are those of a survey of public reports. What is read is held against the truth that
the tests wrote: HU within 0.5, places within 0.1 mm.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from matting.errors import InputError
from matting.geometry.grid import Grid
from matting.geometry.hounsfield import check_hounsfield
from storage.sources.base import Reading
from storage.sources.ct import read_ct
from storage.sources.table import FilesSource
from tests import kinds_dicom, kinds_files, kinds_readers
from tests.kinds import RADII_MM, SPACING_MM, centroid_lps, ct_hu, masks, to_lps

Make = Callable[[Path], Path]
READ = ""
"""Stands for: read, and right."""
BALL = (slice(None), slice(0, 26))
"""Rows without the chest wall."""


def _centroid(image_hu: Any, grid: Grid) -> Any:
    """Return where the ball lies by its CT, in mm."""
    return grid.to_patient(np.argwhere(image_hu > -300).mean(axis=0))


@pytest.mark.parametrize(
    ("make", "words"), [pytest.param(m, w, id=i) for i, m, w in kinds_dicom.KINDS]
)
def test_a_kind_of_dicom_is_read_right_or_refused_in_words(
    tmp_path: Path, make: Make, words: str
) -> None:
    place = make(tmp_path / "ct")
    if words:
        with pytest.raises(InputError, match=words) as caught:
            _read_dicom(place)
        assert "object has no attribute" not in str(caught.value)
        return
    ct = _read_dicom(place)
    assert ct.grid.spacing_mm == pytest.approx(SPACING_MM, abs=1e-4)
    assert np.abs(ct.image_hu - ct_hu())[ct.valid].max() <= 0.5
    assert np.mean(ct.valid) > 0.9
    truth = to_lps(np.argwhere(ct_hu()[BALL] > -300).mean(axis=0))
    assert _centroid(ct.image_hu[BALL], ct.grid) == pytest.approx(truth, abs=0.1)


def _read_dicom(place: Path) -> Any:
    ct = read_ct(place)
    check_hounsfield(ct.image_hu, ct.valid, remedy="")
    return ct


@pytest.mark.parametrize(
    ("make", "words"),
    [pytest.param(m, w, id=i) for i, m, w in kinds_files.KINDS + kinds_readers.KINDS],
)
def test_a_kind_of_table_is_read_right_or_refused_in_words(
    tmp_path: Path, make: Make, words: str
) -> None:
    table = make(tmp_path / "files")
    if words:
        with pytest.raises(InputError, match=words):
            _read_table(table)
        return
    patch = _read_table(table).patch
    assert patch.grid.spacing_mm == pytest.approx(SPACING_MM, abs=1e-4)
    for mask, truth in zip(patch.readers, masks(), strict=True):
        found = patch.grid.to_patient(np.argwhere(mask).mean(axis=0))
        assert found == pytest.approx(centroid_lps(truth), abs=0.1)
        assert mask.sum() == truth.sum()
    ball = patch.readers[-1]
    truth = ct_hu()[masks()[-1]]
    assert np.abs(np.sort(patch.image_hu[ball]) - np.sort(truth)).max() <= 0.5


def _read_table(table: Path) -> Reading:
    source = FilesSource(table)
    (nodule,) = source.inventory(readers=len(RADII_MM)).nodules
    reading = source.read(nodule, padding_slices=3)
    patch = reading.patch
    check_hounsfield(patch.image_hu, patch.valid, np.any(patch.readers, axis=0), remedy="")
    return reading

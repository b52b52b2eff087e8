"""Slices that show text or drawings are refused unless the recipe allows them."""

from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from matting.errors import InputError
from storage.recipe import SourceSettings
from storage.sources.burned_in import check_burned_in
from storage.sources.dicom_series import find_series
from storage.sources.dicom_volume import read_slice_stack
from tests.dicom import SERIES, slice_dataset, write_series

SLICE = Path("1.dcm")
ANNOTATED = SourceSettings(allow_burned_in_annotations=True)
OVERLAID = SourceSettings(allow_overlays=True)


def with_overlay(group: int) -> Dataset:
    dataset = slice_dataset(0.0)
    dataset.add_new((group, 0x3000), "OW", b"\0\0")
    return dataset


def test_burned_in_annotations_are_refused():
    dataset = slice_dataset(0.0, BurnedInAnnotation="YES")
    with pytest.raises(InputError, match=r"Burned In Annotation YES in 1\.dcm.*allow_burned_in"):
        check_burned_in(SLICE, dataset, OVERLAID)
    check_burned_in(SLICE, dataset, ANNOTATED)


@pytest.mark.parametrize("group", [0x6000, 0x6002, 0x601E])
def test_overlays_are_refused(group):
    with pytest.raises(InputError, match=r"an overlay in 1\.dcm.*allow_overlays"):
        check_burned_in(SLICE, with_overlay(group), ANNOTATED)
    check_burned_in(SLICE, with_overlay(group), OVERLAID)


def test_other_slices_are_taken():
    for dataset in (slice_dataset(0.0), slice_dataset(0.0, BurnedInAnnotation="NO")):
        check_burned_in(SLICE, dataset, SourceSettings())


def test_a_stack_is_checked_slice_by_slice(tmp_path):
    write_series(tmp_path, (0.0, 1.0, 2.0))
    write_series(tmp_path / "x", (3.0,), BurnedInAnnotation="YES")
    series = find_series([tmp_path, tmp_path / "x"])[SERIES]
    assert read_slice_stack(series, 0, 3).grid.shape[0] == 3
    with pytest.raises(InputError, match="identifies a patient"):
        read_slice_stack(series, 0, 4)
    assert read_slice_stack(series, 0, 4, allowed=ANNOTATED).grid.shape[0] == 4

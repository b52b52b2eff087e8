"""Inputs as people store them, by kind: each is read right, or refused in words.

The numbers are those of a survey of public reports. What is read is held against the truth that
the tests wrote: HU within 0.5, places within 0.1 mm.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from matting.errors import InputError
from matting.geometry.crop import crop_to_nodule
from matting.geometry.grid import Grid
from matting.geometry.hounsfield import check_hounsfield
from matting.geometry.resample import resample_patch
from matting.geometry.trimap import build_trimap
from matting.parameters import CropSettings, ResampleSettings, TrimapSettings
from storage.sources.base import Reading
from storage.sources.ct import read_ct
from storage.sources.lidc import LidcSource
from storage.sources.table import FilesSource
from tests import kinds_archive, kinds_dicom, kinds_files, kinds_readers, kinds_tables
from tests.dicom import write_lidc
from tests.kinds import (
    RADII_MM,
    SPACING_MM,
    centroid_lps,
    ct_hu,
    masks,
    to_lps,
    write_files,
    write_image,
)

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
    [
        pytest.param(m, w, id=i)
        for i, m, w in kinds_files.KINDS + kinds_readers.KINDS + kinds_tables.KINDS
    ],
)
def test_a_kind_of_table_is_read_right_or_refused_in_words(
    tmp_path: Path, make: Make, words: str
) -> None:
    table = make(tmp_path / "files")
    if words:
        with pytest.raises(InputError, match=words):
            _draw_trimap(_read_table(table))
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


def _draw_trimap(reading: Reading) -> None:
    fine = resample_patch(crop_to_nodule(reading.patch, CropSettings()), ResampleSettings())
    build_trimap(
        fine.readers,
        fine.valid,
        spacing_mm=fine.grid.spacing_mm,
        parameters=TrimapSettings(),
    )


@pytest.mark.parametrize(
    ("first", "last"),
    [(2, 8), (3, 5), (4, 5)],
    ids=["71 up to the ends of the CT", "71 two slices", "71 one slice"],
)
def test_nodules_of_few_slices_and_at_the_ends_of_the_ct_are_read(
    tmp_path: Path, first: int, last: int
) -> None:
    """The CT has just the slices of which readers marked some."""
    slab = slice(first, last)
    origin = to_lps((first, 0, 0))
    table = write_files(tmp_path / "files")
    write_image(table.parent / "ct.nii.gz", ct_hu()[slab], origin=origin)
    for number, mask in enumerate(masks()[:, slab], 1):
        write_image(table.parent / f"r{number}.nii.gz", mask.astype(np.uint8), origin=origin)
    patch = _read_table(table).patch
    assert patch.readers.sum() == masks()[:, slab].sum()
    for mask, truth in zip(patch.readers, masks(), strict=True):
        truth[:first] = truth[last:] = False
        found = patch.grid.to_patient(np.argwhere(mask).mean(axis=0))
        assert found == pytest.approx(centroid_lps(truth), abs=0.1)


@pytest.fixture(scope="module")
def plain_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("plain")
    write_lidc(root, kinds_archive.PATIENT, kinds_archive.INDICES)
    return root


@pytest.mark.parametrize(
    ("make", "words"), [pytest.param(m, w, id=i) for i, m, w in kinds_archive.KINDS]
)
def test_a_kind_of_archive_is_read_right_or_refused_in_words(
    tmp_path: Path,
    plain_archive: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: kinds_archive.Make,
    words: str,
) -> None:
    root = make(tmp_path / "archive", plain_archive, monkeypatch)
    if words:
        assert re.search(words, _refusal(root))
        return
    wanted, found = _read_archive(plain_archive), _read_archive(root)
    assert found.content_sha256 == wanted.content_sha256
    assert np.array_equal(found.patch.readers, wanted.patch.readers)
    assert found.patch.grid == wanted.patch.grid


def _read_archive(root: Path) -> Reading:
    source = LidcSource(root)
    nodules = {nodule.id: nodule for nodule in source.inventory(readers=4).nodules}
    return source.read(nodules[kinds_archive.NODULE], padding_slices=1)


def _refusal(root: Path) -> str:
    """Return what is said of the nodule, or of the archive in which it is not found."""
    try:
        found = LidcSource(root).inventory(readers=4)
    except InputError as error:
        return str(error)
    if kinds_archive.NODULE not in [nodule.id for nodule in found.nodules]:
        return "\n".join(exclusion.reason for exclusion in found.exclusions)
    with pytest.raises(InputError) as caught:
        _read_archive(root)
    return str(caught.value)


def test_every_kind_of_the_survey_has_a_test() -> None:
    kinds = (
        kinds_archive.KINDS
        + kinds_dicom.KINDS
        + kinds_files.KINDS
        + kinds_readers.KINDS
        + kinds_tables.KINDS
    )
    # Nodules of few slices (71) have their truth above. A file whose end was overwritten with
    # zeros (23) holds values that a CT can have: nobody can know.
    assert {int(name[:2]) for name, _, _ in kinds} == set(range(1, 71)) - {23}

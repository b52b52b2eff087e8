"""What a folder of DICOM files is taken for, before any pixel is read."""

import os
from pathlib import Path
from typing import Any

import pytest

import storage.sources.dicom_headers
from storage.sources.dicom_headers import SYNTHETIC_MANUFACTURER
from storage.sources.dicom_series import Series, find_series, survey_tree
from tests.dicom import SERIES, write_series, write_slice


def only_series(folder: Path) -> Series:
    (series,) = find_series([folder]).values()
    return series


def names(series: Series) -> list[str]:
    return [header.path.name for header in series.slices]


def test_slices_are_ordered_by_position_not_by_name_or_number(tmp_path: Path) -> None:
    for name, z, number in (
        ("a.dcm", 5.0, 1),
        ("b.dcm", -2.5, 2),
        ("c.dcm", 2.5, 3),
        ("d.dcm", 0.0, 4),
    ):
        write_slice(tmp_path / name, z, number=number)
    series = only_series(tmp_path)
    assert names(series) == ["b.dcm", "d.dcm", "c.dcm", "a.dcm"]
    assert series.positions_mm().tolist() == [-2.5, 0.0, 2.5, 5.0]
    assert series.step_mm() == 2.5
    assert series.uid == SERIES


def test_order_follows_the_normal_of_the_slices(tmp_path: Path) -> None:
    write_series(tmp_path, [0, 1, 2], ImageOrientationPatient=[1, 0, 0, 0, -1, 0])
    series = only_series(tmp_path)
    assert series.normal == (0, 0, -1)
    assert names(series) == ["002.dcm", "001.dcm", "000.dcm"]


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        ({"number": 7}, {"number": 3}, "b.dcm"),
        ({"number": ""}, {"number": 9}, "b.dcm"),
        ({"number": None, "InstanceNumber": None}, {"number": 9}, "b.dcm"),
        ({"SOPInstanceUID": "1.2.4"}, {"SOPInstanceUID": "1.2.3"}, "b.dcm"),
        ({"SOPInstanceUID": "1.2.3"}, {"SOPInstanceUID": "1.2.3"}, "a.dcm"),
    ],
    ids=["smaller number", "empty number loses", "absent number loses", "smaller SOP UID", "path"],
)
def test_of_two_slices_at_one_position_a_stated_rule_keeps_one(
    tmp_path: Path, first: dict[str, object], second: dict[str, object], kept: str
) -> None:
    write_slice(tmp_path / "a.dcm", 1.0, **first)
    write_slice(tmp_path / "b.dcm", 1.0, **second)
    write_slice(tmp_path / "c.dcm", 2.0)
    series = only_series(tmp_path)
    assert names(series) == [kept, "c.dcm"]
    assert [header.path.name for header in series.duplicates] == [
        {"a.dcm": "b.dcm", "b.dcm": "a.dcm"}[kept]
    ]


@pytest.mark.parametrize(("apart_mm", "slices"), [(0.04, 1), (0.06, 2)])
def test_positions_closer_than_the_tolerance_are_the_same(
    tmp_path: Path, apart_mm: float, slices: int
) -> None:
    write_slice(tmp_path / "a.dcm", 1.0, number=1)
    write_slice(tmp_path / "b.dcm", 1.0 + apart_mm, number=2)
    assert len(only_series(tmp_path).slices) == slices


def test_files_that_are_no_slices_are_passed_over_and_remembered(tmp_path: Path) -> None:
    write_series(tmp_path, [0, 1, 2])
    whole = (tmp_path / "002.dcm").read_bytes()
    (tmp_path / "002.dcm").write_bytes(whole[: whole.index(b"\x28\x00\x10\x00")])
    (tmp_path / "note.txt").write_text("not a slice")
    (tmp_path / "069.xml").write_text("<LidcReadMessage/>")
    (tmp_path / "empty.dcm").write_bytes(b"")
    (tmp_path / ".hidden").write_text("of no interest")
    write_slice(tmp_path / "scout.dcm", 5, ImagePositionPatient=None)
    write_slice(tmp_path / "short.dcm", 6, PixelSpacing=[1.0, 1.0, 1.0])
    series = only_series(tmp_path)
    assert names(series) == ["000.dcm", "001.dcm"]
    assert {name: reason.split(":")[0] for name, reason in series.ignored.items()} == {
        "002.dcm": "header without PixelSpacing, Rows, Columns",
        "note.txt": "not DICOM",
        "069.xml": "not DICOM",
        "empty.dcm": "empty file",
        "scout.dcm": "header without ImagePositionPatient",
        "short.dcm": "PixelSpacing is not 2 numbers",
    }
    assert (
        "002.dcm (header without PixelSpacing, Rows, Columns), 069.xml (not DICOM)"
        in series.ignored_files()
    )
    assert series.ignored_files().endswith("and 3 more.")


def test_two_series_in_one_folder_and_one_series_in_two_folders(tmp_path: Path) -> None:
    write_series(tmp_path / "a", [0, 1])
    write_series(tmp_path / "b", [2, 3])
    write_slice(tmp_path / "b" / "other.dcm", 0, series="1.2.3")
    found = survey_tree(tmp_path).series
    assert {uid: len(series.slices) for uid, series in found.items()} == {SERIES: 4, "1.2.3": 1}


def test_the_mark_of_a_stand_in_is_its_manufacturer(tmp_path: Path) -> None:
    write_series(tmp_path / "a", [0, 1], Manufacturer=SYNTHETIC_MANUFACTURER)
    write_series(tmp_path / "b", [0, 1], Manufacturer="GE MEDICAL SYSTEMS")
    assert only_series(tmp_path / "a").synthetic
    assert not only_series(tmp_path / "b").synthetic


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files whose headers have been read."""
    files: list[str] = []
    original = storage.sources.dicom_headers.read_dicom

    def spy(path: Path, **how: Any) -> object:
        files.append(path.name)
        return original(path, **how)

    monkeypatch.setattr(storage.sources.dicom_headers, "read_dicom", spy)
    return files


def test_a_known_folder_is_not_read_again(tmp_path: Path, opened: list[str]) -> None:
    write_series(tmp_path, [0, 1, 2])
    (tmp_path / "note.txt").write_text("not a slice")
    first = only_series(tmp_path)
    assert len(opened) == 4
    assert only_series(tmp_path) == first
    assert len(opened) == 4


def test_only_changed_files_are_read_again(tmp_path: Path, opened: list[str]) -> None:
    write_series(tmp_path, [0, 1, 2])
    only_series(tmp_path)
    opened.clear()
    time_ns = (tmp_path / "001.dcm").stat().st_mtime_ns
    write_slice(tmp_path / "001.dcm", 1.5, number=2)
    os.utime(tmp_path / "001.dcm", ns=(time_ns, time_ns + 1))
    (tmp_path / "002.dcm").unlink()
    assert only_series(tmp_path).positions_mm().tolist() == [0, 1.5]
    assert opened == ["001.dcm"]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[]", b'{"key": "another folder", "facts": []}']
)
def test_a_broken_cache_costs_time_only(
    tmp_path: Path, cache: Path, opened: list[str], content: bytes
) -> None:
    write_series(tmp_path, [0, 1])
    before = set(cache.rglob("*.json"))
    first = only_series(tmp_path)
    (file,) = set(cache.rglob("*.json")) - before
    file.write_bytes(content)
    assert only_series(tmp_path) == first
    assert len(opened) == 4
    assert only_series(tmp_path) == first
    assert len(opened) == 4, "the cache was not mended"


def test_rows_of_another_version_are_read_again(
    tmp_path: Path, cache: Path, opened: list[str]
) -> None:
    write_series(tmp_path, [0, 1])
    before = set(cache.rglob("*.json"))
    first = only_series(tmp_path)
    (file,) = set(cache.rglob("*.json")) - before
    file.write_text(file.read_text().replace("sop_uid", "former_name"))
    assert only_series(tmp_path) == first
    assert len(opened) == 4


def test_a_cache_that_cannot_be_written_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_series(tmp_path / "ct", [0, 1])
    (tmp_path / "file").write_text("where a folder should be")
    monkeypatch.setenv("HALOSIGN_CACHE", str(tmp_path / "file"))
    assert len(only_series(tmp_path / "ct").slices) == 2
    assert (tmp_path / "file").read_text() == "where a folder should be"


def test_a_folder_that_may_not_be_listed_is_named_and_costs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_series(tmp_path / "open", [0, 1])
    write_series(tmp_path / "shut", [2, 3])
    original = os.scandir

    def scandir(path: Any) -> Any:
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied", str(path))
        return original(path)

    monkeypatch.setattr(os, "scandir", scandir)
    survey = survey_tree(tmp_path)
    assert [len(series.slices) for series in survey.series.values()] == [2]
    assert survey.ignored == {str(tmp_path / "shut"): "folder cannot be listed: Permission denied"}


def test_a_file_that_may_not_be_opened_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_series(tmp_path, [0, 1])
    original = storage.sources.dicom_headers.read_dicom

    def refuse(path: Path, **how: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(storage.sources.dicom_headers, "read_dicom", refuse)
    survey = survey_tree(tmp_path)
    assert not survey.series
    assert set(survey.ignored.values()) == {"cannot be opened: Permission denied"}
    monkeypatch.setattr(storage.sources.dicom_headers, "read_dicom", original)
    assert len(only_series(tmp_path).slices) == 2


def test_duplicates_and_image_sets_are_noted(tmp_path: Path) -> None:
    write_series(tmp_path / "a", [0, 1, 2], AcquisitionNumber=10)
    write_series(tmp_path / "b", [0, 1, 2], AcquisitionNumber=9, hu=500)
    write_series(tmp_path / "c", [1, 2], AcquisitionNumber=9, hu=500, SOPInstanceUID="1.2.3")
    (series,) = survey_tree(tmp_path).series.values()
    assert "a" not in {header.path.parent.name for header in series.slices}
    assert series.image_set == "AcquisitionNumber 9 of 9, 10"
    assert series.notes == [
        f"2 duplicates with equal pixels left out of series {SERIES}",
        f"AcquisitionNumber 9 of 9, 10 used of series {SERIES}",
    ]
    assert "of another image set than AcquisitionNumber 9" in series.ignored.values()
    write_series(tmp_path / "d", [2], AcquisitionNumber=9, hu=501, SOPInstanceUID="1.2.4")
    (series,) = survey_tree(tmp_path).series.values()
    assert series.ambiguous_positions == 3
    assert "different images at 3 positions" in series.notes[-1]

"""What a folder of DICOM files is taken for, before any pixel is read."""

import os
from pathlib import Path

import pytest

import storage.sources.dicom_series
from storage.sources.dicom_series import (
    SYNTHETIC_MANUFACTURER,
    Series,
    find_series,
    folders_with_files,
)
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
        "empty.dcm": "not DICOM",
        "scout.dcm": "header without ImagePositionPatient",
        "short.dcm": "unreadable",
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
    found = find_series(folders_with_files(tmp_path))
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
    original = storage.sources.dicom_series.dcmread

    def spy(path: Path, **how: object) -> object:
        files.append(path.name)
        return original(path, **how)

    monkeypatch.setattr(storage.sources.dicom_series, "dcmread", spy)
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

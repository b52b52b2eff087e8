"""What readers' files, series and table cells call things may name people: no message shows it."""

import shutil
import traceback
from pathlib import Path

import pytest
from pydicom import dcmread

from matting.errors import InputError
from storage.sources.ct import read_ct
from storage.sources.table import FilesSource
from tests import kinds_readers
from tests.kinds import RADII_MM, write_dicom, write_files, write_table

NAME = "KOWALCZYK"
FOUR = "{0}:9;{0}:2;{0}:3;{0}:4"


def named_segments(folder):
    kinds_readers._seg_of_all(folder)
    dataset = dcmread(folder / "seg.dcm")
    for segment in dataset.SegmentSequence:
        segment.SegmentLabel = f"{NAME} {segment.SegmentNumber}"
        segment.SegmentDescription = segment.TrackingID = NAME
    dataset.SeriesDescription = dataset.ContentLabel = NAME
    dataset.save_as(folder / "seg.dcm")
    return write_table(folder, image="ct", readers=FOUR.format("seg.dcm"))


def named_twice(folder):
    named_segments(folder)
    dataset = dcmread(folder / "seg.dcm")
    for segment in dataset.SegmentSequence:
        segment.SegmentLabel = NAME
    dataset.save_as(folder / "seg.dcm")
    return write_table(folder, image="ct", readers=f"seg.dcm:{NAME};seg.dcm:2;seg.dcm:3;seg.dcm:4")


def broken_segments(folder):
    named_segments(folder)
    dataset = dcmread(folder / "seg.dcm")
    dataset.SegmentsOverlap = dataset.SegmentationType = NAME
    dataset.save_as(folder / "seg.dcm")
    return folder / "table.csv"


def named_regions(folder):
    kinds_readers._regions(folder)
    dataset = dcmread(folder / "rt.dcm")
    for roi in dataset.StructureSetROISequence:
        roi.ROIName = roi.ROIDescription = f"{NAME} {roi.ROINumber}"
    dataset.StructureSetLabel = dataset.StructureSetName = NAME
    dataset.save_as(folder / "rt.dcm")
    return write_table(folder, image="ct", readers=FOUR.format("rt.dcm"))


def named_slicer(folder):
    write_files(folder)
    kinds_readers._slicer(folder)
    file = folder / "two.seg.nrrd"
    file.write_bytes(file.read_bytes().replace(b"Name:=Reader", f"Name:={NAME}".encode()))
    readers = "two.seg.nrrd:9;r2.nii.gz;r3.nii.gz;two.seg.nrrd:2"
    return write_table(folder, readers=readers)


def named_header(folder):
    write_files(folder)
    header = f"NRRD0004\ntype: {NAME}\ndimension: 3\nsizes: 2 2 2\nencoding: raw\n\n"
    (folder / "r1.nrrd").write_bytes(header.encode() + bytes(16))
    return write_table(folder, readers="r1.nrrd;r2.nii.gz;r3.nii.gz;r4.nii.gz")


def asked(readers):
    """The table asks for a label, which it says by a name."""

    def make(folder):
        write_files(folder)
        kinds_readers._label_maps(folder)
        kinds_readers._stack(folder)
        return write_table(folder, readers=readers)

    return make


def asked_of_segments(folder):
    named_segments(folder)
    readers = f"seg.dcm:{NAME} Jan;seg.dcm:2;seg.dcm:3;seg.dcm:4"
    return write_table(folder, image="ct", readers=readers)


def several_series(folder):
    kinds_readers._seg_of_all(folder)
    for n in range(2):
        write_dicom(folder / "ct" / NAME / str(n), series=f"1.2.3.{n}", SeriesDescription=NAME)
    return write_table(folder, image="ct", readers="seg.dcm")


def another_modality(folder):
    write_dicom(folder / "ct" / NAME, Modality="MR", SeriesDescription=NAME)
    return write_table(folder, image="ct", readers="seg.dcm")


def aside(path):
    dataset = dcmread(path)
    dataset.ImagePositionPatient[0] += 3
    dataset.save_as(path)


def named_slice(change):
    """One slice is called by a name, and unlike the others."""

    def make(folder):
        kinds_readers._seg_of_all(folder)
        one = folder / "ct" / f"{NAME}.dcm"
        shutil.move(folder / "ct" / "05.dcm", one)
        change(one)
        return write_table(folder, image="ct", readers="seg.dcm")

    return make


def with_tags(**tags):
    def change(path):
        dataset = dcmread(path)
        for name, value in tags.items():
            setattr(dataset, name, value)
        dataset.save_as(path)

    return change


REFUSED = {
    "segments by another number": (
        named_segments,
        "of none of 4 segments in file 1, 2, 3, 4 of column `readers`:9,",
    ),
    "segments of one name": (named_twice, "a name of 4 of 4 segments in file 1, 2, 3, 4 of column"),
    "segments by another name": (
        asked_of_segments,
        "of none of 4 segments in file 1, 2, 3, 4 of column",
    ),
    "no type of segments": (broken_segments, "a DICOM segmentation cannot be read"),
    "regions": (named_regions, "of none of 4 segments in file 1, 2, 3, 4 of column `readers`:9,"),
    "segments of 3D Slicer": (
        named_slicer,
        "of none of 2 segments in file 1, 4 of column `readers`:9,",
    ),
    "header of a volume": (named_header, 'couldn\'t parse type "...", expected a whole'),
    "label of a mask": (
        asked(f"l1.mhd:{NAME};l2.mhd:2;l3.mhd:2;l4.mhd:2"),
        "a label does not occur in its mask: got a label of file 1 of column `readers`, expected",
    ),
    "date as a label": (
        asked("l1.mhd:19230417;l2.mhd:2;l3.mhd:2;l4.mhd:2"),
        "a label does not occur in its mask: got a label of file 1 of column `readers`, expected",
    ),
    "one of a stack": (
        asked(f"stack.nii.gz:{NAME};stack.nii.gz:1;stack.nii.gz:2;stack.nii.gz:3"),
        "holds several masks: got 4 in file 1, 2, 3, 4 of column `readers`, expected",
    ),
    "several series": (several_series, "the folder holds several CT series"),
    "no CT": (another_modality, "there is no CT: got the file of column `image` with"),
    "slice aside": (
        named_slice(aside),
        "slices step aside from their stack: got a file of column `image` at",
    ),
    "slice of another size": (
        named_slice(with_tags(PixelSpacing=[0.9, 0.9])),
        "differ in pixel spacing: got (0.9, 0.9) in a file of column `image`",
    ),
    "slice that is none": (
        named_slice(lambda path: path.write_bytes(b"nothing of use")),
        "Files passed over: a file of column `image` (not DICOM)",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_no_name_is_in_a_refusal(tmp_path, kind):
    make, words = REFUSED[kind]
    table = make(tmp_path / "files")
    source = FilesSource(table)
    (nodule,) = source.inventory(readers=len(RADII_MM)).nodules
    with pytest.raises(InputError) as caught:
        source.read(nodule, padding_slices=3)
    text = "".join(traceback.format_exception_only(caught.value))
    assert words in text, text
    for word in (NAME, "19230417"):
        assert word not in text


def test_no_description_is_in_a_list_of_series(tmp_path: Path):
    for n in range(2):
        write_dicom(tmp_path / str(n), series=f"1.2.3.{n}", SeriesDescription=NAME)
    with pytest.raises(
        InputError, match=r"\n  .*0: 10 slices 2\.50 mm apart, 1\.2\.3\.0"
    ) as caught:
        read_ct(tmp_path)
    assert NAME not in str(caught.value)


def test_the_cache_holds_no_description(tmp_path, monkeypatch):
    monkeypatch.setenv("HALOSIGN_CACHE", str(tmp_path / "cache"))
    write_dicom(tmp_path / "ct", SeriesDescription=NAME)
    read_ct(tmp_path / "ct")
    cached = [path.read_text() for path in (tmp_path / "cache").rglob("*.json")]
    assert cached
    assert NAME not in "".join(cached)

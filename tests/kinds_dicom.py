"""Kinds of DICOM that people hold: the number in the survey, how to make it, what is to happen."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gdcm
import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    RLELossless,
    RTDoseStorage,
    SegmentationStorage,
)

from tests.dicom import write_slice
from tests.kinds import ORIGIN_LPS_MM, SHAPE, SPACING_MM, ct_hu, slice_of, slice_with, write_dicom

Make = Callable[[Path], Path]


def _z(k: float) -> float:
    return ORIGIN_LPS_MM[2] + k * SPACING_MM[0]


def _series(**tags: Any) -> Make:
    return lambda folder: write_dicom(folder, **tags)


def _saved(change: Callable[[Dataset, int], None]) -> Make:
    """Write the series after a change to each data set."""

    def make(folder: Path) -> Path:
        folder.mkdir()
        for k in range(SHAPE[0]):
            dataset = slice_with(k)
            dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            change(dataset, k)
            dataset.save_as(folder / f"{k:02d}.dcm", enforce_file_format=True)
        return folder

    return make


def _bare(*, keep_meta: bool) -> Make:
    """Write data sets without preamble, with or without the meta information."""

    def make(folder: Path) -> Path:
        write_dicom(folder)
        for file in sorted(folder.iterdir()):
            content = file.read_bytes()[132:]
            file.write_bytes(content if keep_meta else content[content.index(b"\x08\0\x16\0") :])
        return folder

    return make


def _second_set(hu: int = 300, every: int = 1, **tags: Any) -> Make:
    """Write another image at the positions of the slices, brighter by `hu`, with these tags."""

    def make(folder: Path) -> Path:
        usual = {"AcquisitionNumber": 1, "ConvolutionKernel": "B30f"}
        write_dicom(folder, **usual)
        for k in range(0, SHAPE[0], every):
            other = {**usual, "hu": ct_hu()[k] + hu, "SOPInstanceUID": f"1.9.{k}", **tags}
            how = slice_of(k, other)
            write_slice(folder / f"b{k:02d}.dcm", _z(k), **how)
        return folder

    return make


def _between(**tags: Any) -> Make:
    """Write a second set half a step above the first."""

    def make(folder: Path) -> Path:
        usual = {"AcquisitionNumber": 1, "ConvolutionKernel": "B30f"}
        write_dicom(folder, **usual)
        for k in range(SHAPE[0]):
            how = slice_of(k, {**usual, "hu": ct_hu()[k] + 300, **tags})
            write_slice(folder / f"b{k:02d}.dcm", _z(k + 0.5), **how)
        return folder

    return make


def _moved(index: int, xy: tuple[float, float]) -> Make:
    def make(folder: Path) -> Path:
        write_dicom(folder)
        place = (ORIGIN_LPS_MM[0] + xy[0], ORIGIN_LPS_MM[1] + xy[1])
        write_slice(folder / f"{index:02d}.dcm", _z(index), **slice_of(index, {"xy": place}))
        return folder

    return make


def _jittered(off_mm: float) -> Make:
    """Write slices of which every other lies above its place, but not the last."""

    def make(folder: Path) -> Path:
        for k in range(SHAPE[0]):
            z = _z(k) + (off_mm if k % 2 and k < SHAPE[0] - 1 else 0)
            write_slice(folder / f"{k:02d}.dcm", z, **slice_of(k))
        return folder

    return make


def _unsigned(dataset: Dataset, k: int) -> None:
    """Declare signed pixels unsigned; outside the field of view they are -2000."""
    stored = ct_hu()[k].astype(np.int32) + 1024
    stored[:2] = -2000
    dataset.PixelData = stored.astype("<i2").tobytes()
    dataset.PixelRepresentation = 0


def _unsigned_with_tag(dataset: Dataset, k: int) -> None:
    _unsigned(dataset, k)
    dataset.add_new("PixelPaddingValue", "SS", -2000)


def _unsigned_tag_of_its_own(dataset: Dataset, k: int) -> None:
    """Store unsigned pixels; outside the field of view they are 63536, as the header says."""
    stored = (ct_hu()[k].astype(np.int32) + 1024).astype(np.uint16)
    stored[:2] = 63536
    dataset.PixelData, dataset.PixelRepresentation = stored.astype("<u2").tobytes(), 0
    dataset.add_new("PixelPaddingValue", "US", 63536)


def _two_paddings(dataset: Dataset, k: int) -> None:
    dataset.add_new("PixelPaddingValue", "SS", [-2000, -2000])


def _numbered(dataset: Dataset, k: int) -> None:
    dataset.AcquisitionNumber = k + 5


def _in_two_steps(dataset: Dataset, k: int) -> None:
    dataset.AcquisitionNumber = 1 + (k > 4)


def _compressed(syntax: str) -> Make:
    def compress(dataset: Dataset, k: int) -> None:
        dataset.compress(syntax, generate_instance_uid=False)

    return _saved(compress)


def _by_gdcm(name: str, syntax: str) -> Make:
    """Write the series, compressed by GDCM."""

    def make(folder: Path) -> Path:
        write_dicom(folder)
        for file in sorted(folder.iterdir()):
            reader, change = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax()
            writer = gdcm.ImageWriter()
            reader.SetFileName(str(file))
            reader.Read()
            change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, name)))
            change.SetInput(reader.GetImage())
            change.Change()
            writer.SetFileName(str(file))
            writer.SetFile(reader.GetFile())
            writer.SetImage(change.GetOutput())
            writer.Write()
        assert dcmread(folder / "00.dcm").file_meta.TransferSyntaxUID == syntax
        return folder

    return make


def _cut(make: Make) -> Make:
    """Cut the compressed stream of one file short."""

    def cut(folder: Path) -> Path:
        file = make(folder) / "03.dcm"
        file.write_bytes(file.read_bytes()[:-900])
        return folder

    return cut


def _implicit(dataset: Dataset, k: int) -> None:
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian


def _big_endian(folder: Path) -> Path:
    folder.mkdir()
    for k in range(SHAPE[0]):
        dataset = slice_with(k)
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<i2").astype(">i2").tobytes()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.save_as(folder / f"{k}.dcm", enforce_file_format=True)
    return folder


def _enhanced(folder: Path) -> Path:
    """Write the whole CT as one enhanced multi-frame object, last slice first."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = slice_with(0)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(whole, keyword)
    for keyword in ("SliceThickness", "RescaleSlope", "RescaleIntercept"):
        delattr(whole, keyword)
    whole.SOPClassUID = EnhancedCTImageStorage
    whole.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    whole.NumberOfFrames = SHAPE[0]
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [*SPACING_MM[1:]], SPACING_MM[0]
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence = [measures]
    shared.PlaneOrientationSequence = [orientation]
    whole.SharedFunctionalGroupsSequence = [shared]
    frames, pixels = [], []
    for k in reversed(range(SHAPE[0])):
        frame, place, values = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = [*ORIGIN_LPS_MM[:2], _z(k)]
        values.RescaleSlope, values.RescaleIntercept = 1, -1000 - k
        frame.PlanePositionSequence = [place]
        frame.PixelValueTransformationSequence = [values]
        frames.append(frame)
        pixels.append((ct_hu()[k].astype(np.int32) + 1000 + k).astype("<i2"))
    whole.PerFrameFunctionalGroupsSequence = frames
    whole.PixelData = np.stack(pixels).tobytes()
    whole.file_meta.MediaStorageSOPClassUID = whole.SOPClassUID
    whole.file_meta.MediaStorageSOPInstanceUID = whole.SOPInstanceUID
    whole.save_as(folder / "enhanced.dcm", enforce_file_format=True)
    return folder


def _linked(folder: Path) -> Path:
    """Write the series elsewhere, with a link to its folder and one that leads back."""
    write_dicom(folder.parent / "elsewhere" / "series")
    folder.mkdir()
    (folder / "series").symlink_to(folder.parent / "elsewhere" / "series")
    (folder / "series" / "back").symlink_to(folder)
    (folder / "lost.dcm").symlink_to(folder / "nowhere")
    return folder


def _two_series(folder: Path) -> Path:
    write_dicom(folder / "a", SeriesDescription="LUNG 1.0")
    write_dicom(folder / "b", series="1.2.3", SeriesDescription="MEDIASTINUM")
    return folder


def _packed(folder: Path) -> Path:
    folder.mkdir()
    for k in range(2):
        (folder / f"{k:02d}.dcm.gz").write_bytes(b"\x1f\x8b\x08\0")
    return folder


def _zipped(folder: Path) -> Path:
    write_dicom(folder / "series")
    return Path(shutil.make_archive(str(folder), "zip", folder))


def _lone(folder: Path) -> Path:
    write_dicom(folder)
    return folder / "03.dcm"


def _with_localizer(folder: Path) -> Path:
    write_dicom(folder)
    sagittal = [0, 1, 0, 0, 0, -1]
    write_slice(folder / "scout.dcm", -200, ImageOrientationPatient=sagittal)
    write_slice(folder / "topogram.dcm", -210, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    return folder


def _only(storage_class: str, modality: str) -> Make:
    return _series(SOPClassUID=storage_class, Modality=modality)


def _uneven(folder: Path) -> Path:
    """Write slices 4 and 7 mm apart, as some scanners do."""
    z = 0.0
    for k in range(SHAPE[0]):
        write_slice(folder / f"{k}.dcm", z, **slice_of(k))
        z += 4 if k < 5 else 7
    return folder


def _with_junk(folder: Path) -> Path:
    """Write what systems leave beside a series, and other objects of the study."""
    write_dicom(folder)
    for name in ("._00.dcm", "Thumbs.db", "069.xml", "empty.dcm", "__MACOSX/._00.dcm"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"" if name == "empty.dcm" else b"<junk/>")
    write_slice(folder / "seg.dcm", 0, SOPClassUID=SegmentationStorage, Modality="SEG")
    write_slice(folder / "dose.dcm", 0, SOPClassUID=RTDoseStorage, Modality="RTDOSE")
    return folder


def _without_syntax(folder: Path) -> Path:
    folder.mkdir()
    for k in range(SHAPE[0]):
        dataset = slice_with(k)
        del dataset.file_meta.TransferSyntaxUID
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.preamble = bytes(128)
        dataset.save_as(folder / f"{k:02d}.dcm", implicit_vr=False, little_endian=True)
    return folder


def _twelve_bits(dataset: Dataset, k: int) -> None:
    """Store 12 bits, with an overlay's rest in the high ones."""
    stored = (ct_hu()[k].astype(np.int32) + 1024).astype(np.uint16) | 0xA000
    dataset.PixelData = stored.astype("<u2").tobytes()
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, 0


def _slope_of_its_own(dataset: Dataset, k: int) -> None:
    stored = (ct_hu()[k].astype(np.int32) + 1000 + k) * 4
    dataset.PixelData = stored.astype("<i2").tobytes()
    dataset.RescaleSlope, dataset.RescaleIntercept = 0.25, -1000 - k


def _cut_short(folder: Path) -> Path:
    file = write_dicom(folder) / "03.dcm"
    file.write_bytes(file.read_bytes()[:-7])
    return folder


def _without_one(folder: Path) -> Path:
    (write_dicom(folder) / "04.dcm").unlink()
    return folder


def _leaning(folder: Path) -> Path:
    for k in range(SHAPE[0]):
        place = (ORIGIN_LPS_MM[0], ORIGIN_LPS_MM[1] + 0.8 * k)
        write_slice(folder / f"{k}.dcm", _z(k), **slice_of(k, {"xy": place}))
    return folder


READ = ""
_MULTIPLE = r"several images at one position, or .*: got different images at \d+ of 10 positions"
JPEG_LOSSLESS = _by_gdcm("JPEGLosslessProcess14_1", JPEGLosslessSV1)
JPEG_2000 = _by_gdcm("JPEG2000Lossless", JPEG2000Lossless)
KINDS: list[tuple[str, Make, str]] = [
    ("06 plain", _series(), READ),
    ("08 symbolic links to folders, with a loop", _linked, READ),
    ("05 zip archive", _zipped, READ),
    ("09 junk beside the slices", _with_junk, READ),
    ("10 duplicates with equal pixels", _second_set(hu=0), READ),
    ("11 two sets without an attribute", _second_set(), _MULTIPLE),
    ("11 some positions twice", _second_set(every=3), _MULTIPLE),
    ("11 two acquisitions", _second_set(AcquisitionNumber=2), READ),
    ("11 the second acquisition is a part", _second_set(every=2, AcquisitionNumber=2), READ),
    ("11 two kernels", _second_set(ConvolutionKernel="B70f"), READ),
    ("11 two kernels that alternate", _between(ConvolutionKernel="B70f"), READ),
    ("11 two acquisitions that alternate", _between(AcquisitionNumber=2), READ),
    ("11 an acquisition a slice", _saved(_numbered), READ),
    ("11 step and shoot", _saved(_in_two_steps), READ),
    ("12 a derived object on a slice", _second_set(every=4, ImageType=["DERIVED", "MIP"]), READ),
    ("12 secondary", _second_set(ImageType=["ORIGINAL", "SECONDARY"]), READ),
    ("12 computed from others", _second_set(SourceImageSequence=[Dataset()]), READ),
    ("13 localizers in the series", _with_localizer, READ),
    ("15 no preamble", _bare(keep_meta=True), READ),
    ("16 no meta information", _bare(keep_meta=False), READ),
    ("17 no transfer syntax", _without_syntax, READ),
    ("18 implicit", _saved(_implicit), READ),
    ("18 big endian", _big_endian, READ),
    ("19 run length", _compressed(RLELossless), READ),
    ("19 JPEG-LS", _compressed(JPEGLSLossless), READ),
    ("19 JPEG 2000", JPEG_2000, READ),
    ("20 JPEG lossless", JPEG_LOSSLESS, READ),
    ("21 JPEG lossless, cut short", _cut(JPEG_LOSSLESS), "cannot be decoded|slice is broken"),
    ("21 JPEG-LS, cut short", _cut(_compressed(JPEGLSLossless)), "cannot be decoded|is broken"),
    ("21 JPEG 2000, cut short", _cut(JPEG_2000), "cannot be decoded|is broken"),
    ("21 run length, cut short", _cut(_compressed(RLELossless)), "cannot be decoded|is broken"),
    ("22 cut short", _cut_short, r"cut short: got 1913 bytes in .*03\.dcm, expected 1920 bytes"),
    ("24 no slope", _series(RescaleSlope=None), "how to turn its values into HU: got .*None"),
    ("25 slope 0", _series(RescaleSlope=0), "HU: got RescaleSlope 0"),
    ("26 unsigned flag, padding tag unsigned", _saved(_unsigned_tag_of_its_own), READ),
    ("27 unsigned flag, padding tag signed", _saved(_unsigned_with_tag), READ),
    ("27 unsigned flag, no tag", _saved(_unsigned), r"not in HU: got .* to 62512: .*unsigned"),
    ("28 two padding values", _saved(_two_paddings), r"several padding values: got \[-2000, -2000"),
    ("29 12 bits with junk above", _saved(_twelve_bits), READ),
    ("30 slope and intercept a slice", _saved(_slope_of_its_own), READ),
    ("31 tilted gantry", _leaning, r"lean by 17\.74 degrees, as of a tilted gantry"),
    ("32 uneven slices", _uneven, "unevenly spaced|gap between"),
    ("33 two series", _two_series, r"(?s)2 in .*a: 10 slices \d.*apart.*b: 10 slices"),
    ("34 a middle slice aside", _moved(5, (3.0, 0.0)), r"step aside.*got 05\.dcm at \(-117\.300"),
    ("34 a middle slice aside by 0.06 mm", _moved(4, (0.0, 0.06)), "step aside"),
    ("35 the last slice aside", _moved(9, (0.0, 4.0)), "step aside|tilted gantry"),
    ("36 slices up to 0.04 mm off their place", _jittered(0.04), READ),
    (
        "36 slices up to 0.3 mm off their place",
        _jittered(0.3),
        "got 2.800 mm between|unevenly spaced",
    ),
    ("37 no InstanceNumber", _series(InstanceNumber=None), READ),
    ("37 one InstanceNumber", _series(number=1), READ),
    ("38 no position", _series(ImagePositionPatient=None), "10 files: header without ImagePos"),
    ("38 no spacing", _series(PixelSpacing=None), "10 files: header without PixelSpacing"),
    ("42 a lost slice", _without_one, r"a gap between .* got 5\.000 mm .*Fetch the whole series"),
    ("45 packed by gzip", _packed, r"2 files: compressed with gzip: unpack it \(.*00\.dcm\.gz"),
    ("46 enhanced, folder", _enhanced, READ),
    ("46 enhanced, file", lambda folder: _enhanced(folder) / "enhanced.dcm", READ),
    ("47 PET", _only(PositronEmissionTomographyImageStorage, "PT"), "10 files: Positron .* PT"),
    ("47 MR", _only(MRImageStorage, "MR"), "10 files: MR Image Storage, Modality MR"),
    ("47 SEG", _only(SegmentationStorage, "SEG"), "10 files: Segmentation Storage, Modality SEG"),
    ("47 dose", _only(RTDoseStorage, "RTDOSE"), "10 files: RT Dose Storage, Modality RTDOSE"),
    ("47 only the modality is another", _only(CTImageStorage, "PT"), "CT Image .*, Modality PT"),
    ("47 localizers", _series(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), "10 .*localizer"),
    ("47 one slice", _lone, "a single slice: got .*03.dcm"),
]

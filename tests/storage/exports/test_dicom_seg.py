"""From synthetic DICOM to DICOM SEG, read back by highdicom and pydicom.

And no patient data on the way.
"""

import gzip
import io
import re
import shutil
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import mlcroissant
import numpy as np
import pandas as pd
import pytest
from pydicom import dcmread
from scipy.spatial.transform import Rotation

from flows.curate import curate_nodule
from flows.export import export
from matting.errors import InputError
from matting.geometry.patch import Patch
from storage.cases.case import NewCase, read_case, read_case_files, write_case
from storage.exports.dicom_seg import dicom_seg_files
from storage.exports.export import FORMATS
from storage.exports.released_nodule import ReleasedNodule
from storage.recipe import Recipe, recipe_from
from storage.records import Member
from storage.releases.index import write_parquet
from storage.releases.release import Draft, Release, publish_release
from storage.sources.registry import SourceSpec
from storage.sources.synthetic import write_synthetic
from storage.store import open_store
from tasks.auto_select import pick_automatically
from tasks.curation.context import CurationJob
from tasks.curation.inventory import take_inventory
from tasks.publish import draft_release
from tasks.reproduce import compare_with_release
from tests.cases import new_case

NODULE = "LIDC-IDRI-0789-a5855"
PLANTED = {
    "PatientName": "Kowalczyk^Bronislawa",
    "PatientBirthDate": "19230417",
    "PatientAddress": "Seepromenade 77",
    "InstitutionName": "Sankt-Ottilien-Spital",
    "ReferringPhysicianName": "Oberhuber^Xaver",
    "OtherPatientIDs": "MRN-88231177",
    "StudyDescription": "Verlaufskontrolle Kowalczyk",
    "AccessionNumber": "ACC5520943",
    "OtherPatientNames": "Zielinska^Bronislawa",
    "PatientBirthName": "Wisniewska",
    "PatientMotherBirthName": "Jablonska",
    "PatientTelephoneNumbers": "0049-7531-884422",
    "PatientComments": "Enkelin heisst Roswitha",
    "PatientReligiousPreference": "altkatholisch",
    "Occupation": "Goldschmiedin",
    "AdditionalPatientHistory": "Asbest bei Huttenlocher",
    "MedicalRecordLocator": "Regal-Q-4711",
    "RegionOfResidence": "Hinterzarten",
    "CountryOfResidence": "Liechtenstein",
    "MilitaryRank": "Oberstabsgefreite",
    "PerformingPhysicianName": "Quetschlich^Hannelore",
    "OperatorsName": "Unterwurzacher^Sepp",
    "NameOfPhysiciansReadingStudy": "Trautmannsdorff^Egon",
    "RequestingPhysician": "Zwettler^Ambros",
    "InstitutionAddress": "Klostergasse 12b",
    "InstitutionalDepartmentName": "Pneumologie-Ost",
    "StationName": "CTKELLER9",
    "DeviceSerialNumber": "SN-770-431-X",
    "ProtocolName": "Sonderprotokoll Kowalczyk",
    "RequestedProcedureDescription": "Abklaerung Rundherd",
}


def plant(folder):
    """Write the planted words into the headers of all slices below a folder."""
    for path in folder.rglob("*.dcm"):
        header = dcmread(path)
        for name, value in PLANTED.items():
            setattr(header, name, value)
        header.save_as(path)


@pytest.fixture(scope="module")
def dicom(tmp_path_factory):
    """Synthetic scans whose headers name a patient, as scans from a clinic do."""
    folder = tmp_path_factory.mktemp("dicom")
    write_synthetic(folder, ("LIDC-IDRI-0789",), 20221011)
    plant(folder)
    return folder


@pytest.fixture(scope="module")
def released(dicom, tmp_path_factory):
    store = open_store(str(tmp_path_factory.mktemp("released") / "store"), create=True)
    job = CurationJob(SourceSpec("lidc", str(dicom)), store.url, Recipe())
    for nodule in take_inventory(job, None).nodules:
        assert curate_nodule(nodule, job).state == "done"
    pick_automatically(store)
    publish_release(store, "0.1.0", draft_release(store, "0.1.0", job.recipe), publisher="ann")
    return store


@pytest.fixture(scope="module")
def exported(released, dicom, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    for format_ in FORMATS:
        export(
            released.url,
            "0.1.0",
            format_,
            folder / format_,
            dicom if format_ == "dicom-seg" else None,
        )
    return folder


def case_of(store):
    member = Release.open(store, "0.1.0").members[NODULE]
    return read_case(store, NODULE, member.digest), member.method


def check_place(segmentation, case, method):
    """Compare every voxel of a SEG with the matte at the same position in the patient."""
    volume = segmentation.get_volume(combine_segments=False)
    assert sorted(volume.spatial_shape) == sorted(case.grid.shape)
    ours = np.argwhere(np.ones(case.grid.shape, bool))
    theirs = volume.map_reference_to_indices(case.grid.to_patient(ours))
    assert np.abs(theirs - np.rint(theirs)).max() * min(case.grid.spacing_mm) < 1e-3
    values = volume.array[..., 0][tuple(np.rint(theirs).astype(int).T)].reshape(case.grid.shape)
    assert np.abs(values - case.alpha(method)).max() <= 0.5 / 255 + 1e-6


def test_highdicom_reads_the_matte_in_its_place(released, exported):
    case, method = case_of(released)
    check_place(hd.seg.segread(exported / "dicom-seg" / NODULE / "alpha.dcm"), case, method)


def test_a_tilted_acquisition_keeps_its_place(released, dicom, tmp_path):
    """The whole scan is rotated, headers and case alike: LIDC-IDRI has no such series."""
    turn = Rotation.from_euler("xzy", (17, -8, 5), degrees=True).as_matrix()
    case, method = case_of(released)
    for path in dicom.rglob("*.dcm"):
        header = dcmread(path)
        header.ImagePositionPatient = [f"{mm:.9g}" for mm in turn @ header.ImagePositionPatient]
        along_rows = turn @ header.ImageOrientationPatient[:3]
        along_columns = turn @ header.ImageOrientationPatient[3:]
        header.ImageOrientationPatient = [f"{part:.9g}" for part in (*along_rows, *along_columns)]
        to = tmp_path / "dicom" / path.relative_to(dicom)
        to.parent.mkdir(parents=True, exist_ok=True)
        header.save_as(to)
    grid = replace(
        case.grid,
        origin_lps_mm=tuple(turn @ case.grid.origin_lps_mm),
        axes_lps=tuple(tuple(turn @ axis) for axis in case.grid.axes_lps),
    )
    patch = Patch(
        grid, case.array("image"), case.array("validity") > 0, case.array("labels/readers/0") > 0
    )
    alphas = {name: case.alpha(name).astype(np.float64) for name in case.methods}
    facts = replace(case.facts, digest="e" * 64, geometry=grid, synthetic=True)
    store = open_store(str(tmp_path / "store"), create=True)
    write_case(store, NewCase(facts, patch, case.array("labels/trimap/0"), alphas))
    tilted = read_case(store, NODULE, "e" * 64)
    member = replace(Release.open(released, "0.1.0").members[NODULE], digest="e" * 64)
    nodule = ReleasedNodule(
        store,
        tilted,
        member,
        version="0.1.0",
        published_at="2026-01-31T09:30:00+00:00",
        dicom=tmp_path / "dicom",
    )
    data = dicom_seg_files(nodule)["alpha.dcm"]
    segmentation = hd.seg.segread(io.BytesIO(data))
    check_place(segmentation, tilted, method)
    shared = (
        segmentation.SharedFunctionalGroupsSequence[0]
        .PlaneOrientationSequence[0]
        .ImageOrientationPatient
    )
    source = dcmread(next((tmp_path / "dicom").rglob("*.dcm")), stop_before_pixels=True)
    assert (
        np.abs(
            np.cross(shared[:3], shared[3:]) @ np.reshape(source.ImageOrientationPatient, (2, 3)).T
        ).max()
        < 1e-6
    )
    assert abs(shared[2]) > 0.01, "the rows are tilted"


def test_a_release_is_reproduced_from_its_scans_byte_for_byte(released, dicom, tmp_path):
    release = Release.open(released, "0.1.0")
    recipe = recipe_from(release.manifest.recipe, "of release 0.1.0")
    recomputed = open_store(str(tmp_path / "recomputed"), create=True)
    job = CurationJob(SourceSpec("lidc", str(dicom)), recomputed.url, recipe)
    for nodule in take_inventory(job, frozenset({"LIDC-IDRI-0789"})).nodules:
        curate_nodule(nodule, job)
    assert {one.nodule_id: one.difference for one in compare_with_release(release, recomputed)} == {
        NODULE: ""
    }


def test_another_pixel_in_the_scans_is_found_when_a_release_is_reproduced(
    released, dicom, tmp_path
):
    shutil.copytree(dicom, tmp_path / "dicom")
    used = set(case_of(released)[0].facts.source.sop_instance_uids)
    path = next(
        p
        for p in (tmp_path / "dicom").rglob("*.dcm")
        if dcmread(p, stop_before_pixels=True).SOPInstanceUID in used
    )
    scan = dcmread(path)
    scan.PixelData = (scan.pixel_array + 1).astype(scan.pixel_array.dtype).tobytes()
    scan.save_as(path)
    recomputed = open_store(str(tmp_path / "recomputed"), create=True)
    job = CurationJob(SourceSpec("lidc", str(tmp_path / "dicom")), recomputed.url, Recipe())
    for nodule in take_inventory(job, None).nodules:
        curate_nodule(nodule, job)
    (found,) = compare_with_release(Release.open(released, "0.1.0"), recomputed)
    assert found.difference.startswith("source"), found


def test_pydicom_reads_a_fractional_occupancy_of_the_right_series(released, exported, dicom):
    case, method = case_of(released)
    made = dcmread(exported / "dicom-seg" / NODULE / "alpha.dcm")
    source = dcmread(next(dicom.rglob("*.dcm")), stop_before_pixels=True)
    assert (made.SegmentationType, made.SegmentationFractionalType) == ("FRACTIONAL", "OCCUPANCY")
    assert made.StudyInstanceUID == source.StudyInstanceUID
    assert made.FrameOfReferenceUID == source.FrameOfReferenceUID
    (series,) = made.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == source.SeriesInstanceUID
    referenced = {item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence}
    assert referenced == set(case.facts.source.sop_instance_uids)
    alpha = case.alpha(method)
    for frame, groups in zip(made.pixel_array, made.PerFrameFunctionalGroupsSequence, strict=True):
        k, j, i = case.grid.to_index(groups.PlanePositionSequence[0].ImagePositionPatient)
        assert np.abs([k - round(k), j, i]).max() < 1e-3
        assert np.abs(frame / 255 - alpha[round(k)]).max() <= 0.5 / 255 + 1e-6
    assert made.SeriesDescription.startswith("synthetic data")


def test_it_is_the_same_bytes_again(released, exported, dicom, tmp_path):
    export(released.url, "0.1.0", "dicom-seg", tmp_path / "again", dicom)
    name = f"{NODULE}/alpha.dcm"
    assert (tmp_path / "again" / name).read_bytes() == (exported / "dicom-seg" / name).read_bytes()


@pytest.mark.parametrize("place", ["release", *FORMATS])
def test_the_cards_example_reads_the_release_wherever_it_was_put(
    released, exported, tmp_path, monkeypatch, place
):
    """The whole folder is copied: nothing of the example depends on where it was made."""
    folder = tmp_path / "copy"
    shutil.copytree(released.url if place == "release" else exported / place, folder)
    if place == "release":
        folder = folder / "releases" / "0.1.0"
    monkeypatch.chdir(folder)
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    names: dict = {}
    exec(code, names)
    case, method = case_of(released)
    along_zyx = place not in ("nifti", "nnunet")
    alpha = names["alpha"] if along_zyx else names["alpha"].transpose()
    if (
        place == "dicom-seg"
    ):  # in its own order of axes; test_highdicom_reads_the_matte_in_its_place
        assert sorted(alpha.shape) == sorted(case.grid.shape)
        assert abs(alpha.sum() - case.alpha(method).sum()) < 0.01 * alpha.sum()
        return
    assert (alpha == case.alpha(method)).all()
    image_hu = names["image_hu"] if along_zyx else names["image_hu"].transpose()
    assert (image_hu == case.array("image")).all()
    if place != "release":
        assert code in (folder / "FORMAT.md").read_text()


# rdflib, under mlcroissant, warns of its own future
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("place", FORMATS)
def test_the_metadata_of_an_export_describe_its_own_files(exported, place):
    folder = exported / place
    dataset = mlcroissant.Dataset(str(folder / "croissant.json"))
    (record,) = dataset.records("nodules")
    index = pd.read_parquet(folder / "index.parquet")
    assert record["nodules/alpha_path"].decode() == index.loc[0, "alpha_path"]
    for column in ("image_path", "alpha_path"):
        path = index.loc[0, column]
        assert (folder / path).exists() if path else (place, column) == ("dicom-seg", "image_path")


def test_a_mixed_release_is_exported_without_what_is_not_from_dicom(
    released, dicom, tmp_path, capsys
):
    shutil.copytree(released.url, tmp_path / "store")
    store = open_store(str(tmp_path / "store"))
    first = Release.open(store, "0.1.0")
    write_case(store, new_case("e" * 64, nodule="T-1", patient="T"))
    other = Member("T-1", "T", "e" * 64, "cf", "ann", False, "train", False)
    table = pd.read_parquet(io.BytesIO(store.get("releases/0.1.0/index.parquet")))
    more = table.assign(nodule_id="T-1", patient_id="T", digest="e" * 64, method="cf")
    more = more.assign(reviewer="ann", automatic=False, split="train", stand_in=False)
    own = {"index.parquet": write_parquet(pd.concat([table, more.assign(form=None)]))}
    files = {**first.manifest.case_files, **read_case_files(store, "T-1", "e" * 64)}
    members = (*first.members.values(), other)
    publish_release(store, "0.2.0", Draft(members, (), files, own, {}), publisher="ann")
    export(store.url, "0.2.0", "dicom-seg", tmp_path / "out", dicom)
    said = capsys.readouterr()
    assert "left out, without a DICOM series: T-1" in said.out + said.err
    assert [path.parent.name for path in (tmp_path / "out").rglob("alpha.dcm")] == [NODULE]
    assert "do not come from a DICOM series: T-1." in (tmp_path / "out/FORMAT.md").read_text()
    assert pd.read_parquet(tmp_path / "out/index.parquet")["nodule_id"].tolist() == [NODULE]
    with pytest.raises(InputError, match=r"none of the nodules has a DICOM series .*nifti"):
        export(store.url, "0.2.0", "dicom-seg", tmp_path / "none", dicom, nodules=["T-1"])


def test_it_is_refused_without_the_scans(released, dicom, tmp_path):
    for folder in (None, tmp_path / "nowhere"):
        with pytest.raises(InputError, match="DICOM SEG refers to the CT"):
            export(released.url, "0.1.0", "dicom-seg", tmp_path / "out", folder)
    with pytest.raises(
        InputError, match=r"slices of the CT are missing .*: got 0 slices of LIDC-IDRI-0789-a5855"
    ):
        export(released.url, "0.1.0", "dicom-seg", tmp_path / "out", tmp_path)


def readable(path):
    """A file's bytes, and what they say once unpacked."""
    data = path.read_bytes()
    if path.suffix == ".gz":
        return data + gzip.decompress(data)
    if path.suffix == ".parquet":
        return data + pd.read_parquet(io.BytesIO(data)).to_csv().encode()
    return data


def planted_words():
    """Return the planted words that are too long to occur by chance."""
    return [
        part.encode()
        for value in PLANTED.values()
        for part in value.replace("^", " ").split()
        if len(part) > 4
    ]


def test_no_patient_data_leaves_in_any_format(released, exported, dicom, shared_cache):
    assert len(PLANTED) == 30
    planted = planted_words()
    assert all(word in next(dicom.rglob("*.dcm")).read_bytes() for word in planted)
    files = [
        path
        for folder in (exported, Path(released.url), shared_cache)
        for path in folder.rglob("*")
        if path.is_file()
    ]
    assert {
        path.relative_to(exported).parts[0] for path in files if path.is_relative_to(exported)
    } == set(FORMATS)
    for path in files:
        data = readable(path)
        assert [word for word in planted if word in data] == [], path

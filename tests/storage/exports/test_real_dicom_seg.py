"""The DICOM SEG of a real scan, checked by highdicom and by the validator dciodvfy."""

import shutil
import subprocess

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread

import storage.exports.dicom_seg
from flows.curate import curate_nodule
from flows.export import export
from storage.cases.case import read_case
from storage.recipe import Recipe
from storage.releases.release import Release, publish_release
from storage.sources.registry import SourceSpec
from storage.store import open_store
from tasks.auto_select import pick_automatically
from tasks.curation.context import CurationJob
from tasks.curation.inventory import take_inventory
from tasks.publish import draft_release

PATIENT = "LIDC-IDRI-0003"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def exported(real_data, tmp_path_factory):
    """Its three nodules with four readers, released and exported; how often a header was read."""
    folder = tmp_path_factory.mktemp("real")
    store = open_store(str(folder / "store"), create=True)
    job = CurationJob(SourceSpec("lidc", str(real_data / "lidc_dicom")), store.url, Recipe())
    for nodule in take_inventory(job, frozenset({PATIENT})).nodules:
        assert curate_nodule(nodule, job).state == "done"
    pick_automatically(store)
    publish_release(store, "0.1.0", draft_release(store, "0.1.0", job.recipe), publisher="ann")
    read, reads = storage.exports.dicom_seg.dcmread, []

    def counting(path, **how):
        reads.append(path)
        return read(path, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage.exports.dicom_seg, "dcmread", counting)
        export(store.url, "0.1.0", "dicom-seg", folder / "seg", real_data / "lidc_dicom")
    assert len(reads) == len(set(reads)), "headers are read once a series, not once a nodule"
    return store, folder / "seg"


def test_it_lies_where_its_series_does(exported, real_data):
    store, folder = exported
    headers = [
        dcmread(path, stop_before_pixels=True)
        for path in (real_data / "lidc_dicom" / PATIENT).rglob("*.dcm")
    ]
    slices = {header.SOPInstanceUID: header for header in headers}
    members = Release.open(store, "0.1.0").members
    assert len(members) == 3
    for nodule_id, member in members.items():
        case = read_case(store, nodule_id, member.digest)
        segmentation = hd.seg.segread(folder / nodule_id / "alpha.dcm")
        (series,) = segmentation.ReferencedSeriesSequence
        referenced = [
            slices[item.ReferencedSOPInstanceUID] for item in series.ReferencedInstanceSequence
        ]
        assert {header.FrameOfReferenceUID for header in referenced} == {
            segmentation.FrameOfReferenceUID
        }
        assert {header.StudyInstanceUID for header in referenced} == {segmentation.StudyInstanceUID}
        volume = segmentation.get_volume(combine_segments=False)
        here = case.grid.to_patient(np.argwhere(np.ones(case.grid.shape, bool)))
        index = volume.map_reference_to_indices(here)
        assert np.abs(index - np.rint(index)).max() * min(case.grid.spacing_mm) < 1e-3
        values = volume.array[..., 0][tuple(np.rint(index).astype(int).T)].reshape(case.grid.shape)
        assert np.abs(values - case.alpha(member.method)).max() <= 0.5 / 255 + 1e-6
        # What the matte calls lesion lies within the slices that it refers to
        z = here[case.alpha(member.method).ravel() > 0.5][:, 2]
        heights = [header.ImagePositionPatient[2] for header in referenced]
        assert min(heights) <= z.min() <= z.max() <= max(heights)


def test_an_independent_validator_reports_no_error(exported):
    validator = shutil.which("dciodvfy")
    if validator is None:
        pytest.skip("dciodvfy is not installed (Debian: dicom3tools)")
    files = sorted(exported[1].rglob("*.dcm"))
    assert len(files) == 3
    for path in files:
        said = subprocess.run(
            [validator, "-new", path], capture_output=True, text=True, check=False
        )
        assert said.returncode == 0
        assert "Segmentation" in said.stderr, "the validator names the kind of object it checked"
        assert [line for line in said.stderr.splitlines() if line.startswith("Error")] == []

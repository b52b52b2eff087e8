"""A nodule as DICOM SEG: the chosen matte as fractional occupancy, in the study that its CT belongs to.

The matte lies on its own isotropic lattice, in the patient coordinates and the frame of reference of the CT. Only the
headers of the CT's slices are read, and only what a segmentation must repeat (study, frame of reference, the public
patient id) is taken from them: every other patient field is left empty.
"""

import io
import uuid
from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache
from pathlib import Path

import highdicom as hd
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.sr.codedict import codes

from matting.errors import InputError
from storage.exports.released_nodule import STAND_IN_NOTE, ReleasedNodule

STEPS = 255
"""A stored value of so much means 1; a matte is kept within half a step."""

UID_ROOT = "halosign/"
"""Begins what our UIDs are made from, so that the same matte has the same UID."""

_EMPTY = ("PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber", "StudyID",
          "ReferringPhysicianName")  # fmt: skip
_KEPT = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality",
         "Rows", "Columns", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "SliceThickness",
         "PositionReferenceIndicator")  # fmt: skip


def dicom_seg_files(exhibit: ReleasedNodule) -> dict[str, bytes]:
    """Give ``alpha.dcm``; the same bytes whenever nodule, release and headers are the same.

    Raises:
        InputError: The nodule comes from a table of volumes, its slices are not in the folder, or they have no frame of
            reference.
    """
    segmentation = _segmentation(exhibit, _source_headers(exhibit))
    buffer = io.BytesIO()
    segmentation.save_as(buffer, enforce_file_format=True)
    return {"alpha.dcm": buffer.getvalue()}


def check_dicom(exhibit: ReleasedNodule) -> None:
    """Refuse a nodule that no DICOM series belongs to."""
    if "sop_instance_uids" not in exhibit.case.facts["source"]:
        raise InputError(
            "a segmentation needs the CT it belongs to",
            got=f"{exhibit.case.nodule_id}, which comes from a table of volumes",
            expected="a nodule of LIDC-IDRI's DICOM",
            remedy="Export the release as nifti, zarr or npz.",
        )


def _source_headers(exhibit: ReleasedNodule) -> list[Dataset]:
    """Find the slices that the case was made from, by their UIDs."""
    check_dicom(exhibit)
    facts = exhibit.case.facts
    uids = facts["source"]["sop_instance_uids"]
    folder = (exhibit.dicom or Path()) / facts["patient"]
    found = _headers_by_uid(folder)
    usable = [
        _public(found[uid], facts["patient"])
        for uid in uids
        if "FrameOfReferenceUID" in found.get(uid, ())
    ]
    if len(usable) < len(uids):
        raise InputError(
            "slices of the CT are missing or have no frame of reference",
            got=f"{len(usable)} of {exhibit.case.nodule_id}'s in {folder}",
            expected=f"its {len(uids)} slices, series {facts['source']['series_instance_uid']}",
            remedy="Give --dicom the folder that `halosign curate` read.",
        )
    return usable


@lru_cache(maxsize=1)
def _headers_by_uid(folder: Path) -> dict[str, Dataset]:
    """Read a patient's headers once for all of its nodules, which an export takes one after another."""
    return {str(header.SOPInstanceUID): header for header in _headers(folder)}


def _headers(folder: Path) -> Iterator[Dataset]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            try:
                header = dcmread(path, stop_before_pixels=True, specific_tags=list(_KEPT))
            except InvalidDicomError:
                continue
            if "SOPInstanceUID" in header:
                yield header


def _public(header: Dataset, patient_id: str) -> Dataset:
    """Keep what places the slice; of the patient, the public id alone."""
    public = Dataset()
    for name in _KEPT:
        if name in header:
            setattr(public, name, header[name].value)
    for name in _EMPTY:
        setattr(public, name, "")
    public.PatientID = patient_id
    return public


def _segmentation(exhibit: ReleasedNodule, sources: list[Dataset]) -> hd.seg.Segmentation:
    name = f"{UID_ROOT}{exhibit.version}/{exhibit.case.digest}/{exhibit.method}"
    about = (
        STAND_IN_NOTE + ", "
    ) * exhibit.stand_in + f"Halosign {exhibit.version} {exhibit.method}"
    made = hd.seg.Segmentation(
        source_images=sources,
        pixel_array=_volume(exhibit, sources[0].FrameOfReferenceUID),
        segmentation_type=hd.seg.SegmentationTypeValues.FRACTIONAL,
        fractional_type=hd.seg.SegmentationFractionalTypeValues.OCCUPANCY,
        max_fractional_value=STEPS,
        segment_descriptions=[_description(exhibit)],
        series_instance_uid=_uid(f"{name}/series"),
        series_number=1,
        sop_instance_uid=_uid(name),
        instance_number=1,
        manufacturer="Halosign",
        manufacturer_model_name="Halosign",
        software_versions=exhibit.version,
        device_serial_number="none",
        content_label="ALPHA_MATTE",
        content_description=about[:64],
        series_description=about[:64],
        omit_empty_frames=False,
    )
    return _repeatable(made, exhibit)


def _volume(exhibit: ReleasedNodule, frame_of_reference: str) -> hd.Volume:
    """Return the matte with its position; highdicom's affine maps (z, y, x) indices to LPS."""
    return hd.Volume(exhibit.matte, exhibit.grid.affine, "PATIENT", frame_of_reference)


def _description(exhibit: ReleasedNodule) -> hd.seg.SegmentDescription:
    return hd.seg.SegmentDescription(
        segment_number=1,
        segment_label=exhibit.case.nodule_id[:64],
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Nodule,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.SEMIAUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=f"3D matting, {exhibit.method}",
            version=exhibit.version,
            family=codes.DCM.NeighborhoodAnalysis,
        ),
        tracking_uid=_uid(f"{UID_ROOT}{exhibit.case.nodule_id}"),
        tracking_id=exhibit.case.nodule_id,
        anatomic_regions=[codes.SCT.Lung],
    )


def _repeatable(made: hd.seg.Segmentation, exhibit: ReleasedNodule) -> hd.seg.Segmentation:
    """Replace the time of writing and what was drawn at random: the same matte gives the same bytes."""
    published = datetime.fromisoformat(exhibit.published_at)
    for name in ("Content", "InstanceCreation", "Series"):
        setattr(made, f"{name}Date", f"{published:%Y%m%d}")
        setattr(made, f"{name}Time", f"{published:%H%M%S}")
    for equipment in made.ContributingEquipmentSequence:
        equipment["ContributionDateTime"].value = f"{published:%Y%m%d%H%M%S}"
    organization = _uid(f"{made.SOPInstanceUID}/dimensions")
    for item in (*made.DimensionOrganizationSequence, *made.DimensionIndexSequence):
        item.DimensionOrganizationUID = organization
    return made


def _uid(name: str) -> str:
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_URL, name).int}"

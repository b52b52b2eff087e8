"""Export a nodule as DICOM SEG: the released matte as fractional occupancy, in the study of its CT.

The matte has its own isotropic lattice, in the patient coordinates and the frame of reference of
the CT. Only the headers of the CT's slices are read, and only what a segmentation must repeat
(study, frame of reference, the public patient id) is taken from them: every other patient field is
left empty.
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
from storage.exports.released_nodule import SYNTHETIC_NOTE, ReleasedNodule
from storage.records import LidcFacts

STEPS = 255
"""The stored value that means 1; a matte is exact to half a step."""

UID_ROOT = "halosign/"
"""Prefix of the names that UIDs are derived from, so that the same matte has the same UID."""

_EMPTY = (
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "StudyID",
    "ReferringPhysicianName",
)
_KEPT = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "Modality",
    "Rows",
    "Columns",
    "PixelSpacing",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "SliceThickness",
    "PositionReferenceIndicator",
)


def dicom_seg_files(nodule: ReleasedNodule) -> dict[str, bytes]:
    """Return ``alpha.dcm``; the same nodule, release and headers give the same bytes.

    Raises:
        InputError: The nodule comes from a table of volumes, its slices are not in the folder, or
            they have no frame of reference.
    """
    segmentation = _segmentation(nodule, _source_headers(nodule))
    buffer = io.BytesIO()
    segmentation.save_as(buffer, enforce_file_format=True)
    return {"alpha.dcm": buffer.getvalue()}


def has_dicom(nodule: ReleasedNodule) -> bool:
    """Return whether a nodule comes from a DICOM series that is known by its UIDs."""
    return isinstance(nodule.case.facts.source, LidcFacts)


def _lidc_facts(nodule: ReleasedNodule) -> LidcFacts:
    source = nodule.case.facts.source
    if not isinstance(source, LidcFacts):
        raise InputError(
            "a DICOM segmentation refers to a DICOM series",
            got=f"{nodule.case.nodule_id}, which comes from a table of volumes",
            expected="a nodule of LIDC-IDRI",
            remedy="Export the release as nifti, zarr or npz.",
        )
    return source


def _source_headers(nodule: ReleasedNodule) -> list[Dataset]:
    """Read the headers of the slices that the case was made from."""
    source = _lidc_facts(nodule)
    patient = nodule.case.facts.patient
    folder = (nodule.dicom or Path()) / patient
    found = _headers_by_uid(folder)
    usable = [
        _public(found[uid], patient)
        for uid in source.sop_instance_uids
        if "FrameOfReferenceUID" in found.get(uid, ())
    ]
    if len(usable) < len(source.sop_instance_uids):
        raise InputError(
            "slices of the CT are missing or have no frame of reference",
            got=f"{len(usable)} slices of {nodule.case.nodule_id} in {folder}",
            expected=f"its {len(source.sop_instance_uids)} slices of series "
            f"{source.series_instance_uid}",
            remedy="Give --dicom the folder that `halosign curate` read.",
        )
    return usable


@lru_cache(maxsize=1)
def _headers_by_uid(folder: Path) -> dict[str, Dataset]:
    """Read a patient's headers.

    Cached, for an export takes a patient's nodules one after another.
    """
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
    """Keep what locates the slice and, of the patient, only the public id."""
    public = Dataset()
    for name in _KEPT:
        if name in header:
            setattr(public, name, header[name].value)
    for name in _EMPTY:
        setattr(public, name, "")
    public.PatientID = patient_id
    return public


def _segmentation(nodule: ReleasedNodule, sources: list[Dataset]) -> hd.seg.Segmentation:
    name = f"{UID_ROOT}{nodule.version}/{nodule.case.digest}/{nodule.member.method}"
    about = f"Halosign {nodule.version} {nodule.member.method}"
    if nodule.member.synthetic:
        about = f"{SYNTHETIC_NOTE}, {about}"
    made = hd.seg.Segmentation(
        source_images=sources,
        pixel_array=_volume(nodule, sources[0].FrameOfReferenceUID),
        segmentation_type=hd.seg.SegmentationTypeValues.FRACTIONAL,
        fractional_type=hd.seg.SegmentationFractionalTypeValues.OCCUPANCY,
        max_fractional_value=STEPS,
        segment_descriptions=[_description(nodule)],
        series_instance_uid=_uid(f"{name}/series"),
        series_number=1,
        sop_instance_uid=_uid(name),
        instance_number=1,
        manufacturer="Halosign",
        manufacturer_model_name="Halosign",
        software_versions=nodule.version,
        device_serial_number="none",
        content_label="ALPHA_MATTE",
        content_description=about[:64],
        series_description=about[:64],
        omit_empty_frames=False,
    )
    return _repeatable(made, nodule)


def _volume(nodule: ReleasedNodule, frame_of_reference: str) -> hd.Volume:
    """Return the matte with its position; highdicom's affine maps (z, y, x) indices to LPS."""
    return hd.Volume(nodule.matte, nodule.grid.affine, "PATIENT", frame_of_reference)


def _description(nodule: ReleasedNodule) -> hd.seg.SegmentDescription:
    return hd.seg.SegmentDescription(
        segment_number=1,
        segment_label=nodule.case.nodule_id[:64],
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Nodule,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.SEMIAUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=f"3D matting, {nodule.member.method}",
            version=nodule.version,
            family=codes.DCM.NeighborhoodAnalysis,
        ),
        tracking_uid=_uid(f"{UID_ROOT}{nodule.case.nodule_id}"),
        tracking_id=nodule.case.nodule_id,
        anatomic_regions=[codes.SCT.Lung],
    )


def _repeatable(made: hd.seg.Segmentation, nodule: ReleasedNodule) -> hd.seg.Segmentation:
    """Replace times and random UIDs, so that the same matte gives the same bytes."""
    published = datetime.fromisoformat(nodule.published_at)
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

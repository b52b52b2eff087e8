"""Export folders: a release as files of another format, each file whole or not there, the sums last.

A folder says in `export.json`, its first file, what it holds. A file that is there with the right sum is not written
again, so an export that was interrupted goes on; `checksums.sha256`, its last file, is what `sha256sum -c` reads.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matting.errors import InputError
from storage.errors import WriteError
from storage.exports.dicom_seg import check_dicom, dicom_seg_files
from storage.exports.nifti import nifti_files
from storage.exports.npz import npz_files
from storage.exports.ome_zarr import zarr_files
from storage.exports.released_nodule import STAND_IN_NOTE, ReleasedNodule, open_released_nodule
from storage.layout import RELEASES
from storage.releases.release import read_release, verify_release, withdrawal
from storage.store import Store, canonical_json

DICOM_SEG = "dicom-seg"
FORMATS: dict[str, Callable[[ReleasedNodule], dict[str, bytes]]] = {
    "zarr": zarr_files,
    "nifti": nifti_files,
    "npz": npz_files,
    DICOM_SEG: dicom_seg_files,
}
"""What gives a nodule's files, by the name of the format."""

EXPORT_MARKER, SUMS = "export.json", "checksums.sha256"
_PART = ".part"
"""Ends the name of a file until all its bytes are there."""

_HOW = {
    "zarr": """\
Each folder is one nodule, an OME-Zarr 0.5 group. `matte` is the released matte, `alpha` has all eight, in the order of
the attribute `halosign.methods`; `image` is in HU, `labels/readers/0` has one mask a reader.

    import zarr
    nodule = zarr.open_group("NODULE", mode="r")
    matte = nodule["matte"][:]        # (z, y, x) in 0..1
""",
    "nifti": """\
Each folder is one nodule. `alpha.nii.gz` is the released matte, `image.nii.gz` the CT in HU, `reader-1.nii.gz` and so
on the readers' masks, `trimap.nii.gz` 0 background, 128 unknown, 255 foreground. All lie on one lattice.

    import nibabel
    alpha = nibabel.load("NODULE/alpha.nii.gz")   # axes (x, y, z), alpha.affine maps to RAS mm
""",
    "npz": """\
Each folder is one nodule. Axes are (z, y, x); `spacing_mm` is along them, `axes_lps` has one row an axis, and voxel
(k, j, i) lies at `origin_lps_mm + ([k, j, i] * spacing_mm) @ axes_lps` in LPS mm.

    import numpy as np
    nodule = np.load("NODULE/nodule.npz")         # no pickle needed
    matte, image_hu = nodule["matte"], nodule["image"]
""",
    "dicom-seg": """\
Each folder is one nodule. `alpha.dcm` is the released matte as DICOM Segmentation, FRACTIONAL, OCCUPANCY: 255 means 1.
It lies on its own isotropic lattice, in the study and frame of reference of the CT it refers to.

    import highdicom
    volume = highdicom.seg.segread("NODULE/alpha.dcm").get_volume()   # (z, y, x, segment) in 0..1, in LPS
""",
}


@dataclass(frozen=True, slots=True)
class ExportFolder:
    """A folder that holds one release in one format, or is about to."""

    root: Path
    format: str
    manifest: Mapping[str, Any]
    dicom: Path | None = None
    """The folder of the scans, for the format that refers to them."""

    def put(self, name: str, data: bytes) -> str:
        """Write a file unless it is there already; gives its SHA-256.

        Raises:
            WriteError: There is no room or no right to write.
        """
        path, sum_ = self.root / name, hashlib.sha256(data).hexdigest()
        try:
            if not _holds(path, data):
                path.parent.mkdir(parents=True, exist_ok=True)
                part = path.with_name(path.name + _PART)
                part.write_bytes(data)
                os.replace(part, path)
        except OSError as error:
            raise WriteError(
                f"{path} cannot be written: {error}. Make room, run the same command again."
            ) from error
        return sum_


def open_export(
    store: Store, version: str, format_: str, root: Path, dicom: Path | None = None
) -> ExportFolder:
    """Check a release and a folder before the first byte is written, then mark the folder.

    Raises:
        InputError: The format is unknown or lacks the scans it refers to, the release is unknown, withdrawn or damaged,
            or the folder holds something else.
    """
    if format_ not in FORMATS:
        remedy = "Choose one of them."
        raise InputError(
            "no such format", got=format_, expected=" or ".join(FORMATS), remedy=remedy
        )
    manifest = read_release(store, version)
    _check_release(store, version)
    if format_ == DICOM_SEG:
        _check_scans(store, manifest, dicom)
    marker = canonical_json(
        {"release": version, "format": format_, "manifest": _sum(store, version)}
    )
    _check_folder(root, marker)
    folder = ExportFolder(root, format_, manifest, dicom)
    folder.put(EXPORT_MARKER, marker)
    return folder


def own_files(store: Store, folder: ExportFolder) -> dict[str, bytes]:
    """Give the release's own files and a page on how to read this format."""
    prefix = f"{RELEASES}/{folder.manifest['version']}"
    names = [*folder.manifest["own_files"], "manifest.json"]
    return {name: store.get(f"{prefix}/{name}") for name in names} | {
        "FORMAT.md": _format_page(folder)
    }


def close_export(folder: ExportFolder, sums: Mapping[str, str]) -> None:
    """Write the sums, the last file, and remove what a kill left half written."""
    for part in folder.root.rglob(f"*{_PART}"):
        part.unlink()
    folder.put(SUMS, "".join(f"{sums[name]}  {name}\n" for name in sorted(sums)).encode())


def _check_release(store: Store, version: str) -> None:
    tombstone = withdrawal(store, version)
    if tombstone:
        remedy = "Export another version: see `halosign release list`."
        raise InputError(
            "a withdrawn release is not exported",
            got=tombstone,
            expected="one in use",
            remedy=remedy,
        )
    complaints = verify_release(store, version)
    if complaints:
        more = f" and {len(complaints) - 3} more" if len(complaints) > 3 else ""
        got, remedy = (
            "; ".join(complaints[:3]) + more,
            "Restore these files, then run the same command again.",
        )
        raise InputError(
            "a damaged release is not exported",
            got=got,
            expected="files as published",
            remedy=remedy,
        )


def _check_scans(store: Store, manifest: Mapping[str, Any], dicom: Path | None) -> None:
    """Refuse nodules that no DICOM series belongs to, and a folder of scans that is not there."""
    for nodule_id in manifest["nodules"]:
        check_dicom(open_released_nodule(store, manifest, nodule_id))
    if dicom is None or not dicom.is_dir():
        remedy = "Give --dicom the folder that `halosign curate` read."
        raise InputError(
            "DICOM SEG refers to the CT",
            got=dicom or "no --dicom",
            expected="its folder",
            remedy=remedy,
        )


def _check_folder(root: Path, marker: bytes) -> None:
    """Let an empty folder pass, and the same export that was begun before."""
    if root.exists() and not root.is_dir():
        raise InputError(
            "this is no folder",
            got=root,
            expected="a new or empty folder",
            remedy="Give another --to.",
        )
    if not root.exists() or not any(path.name != EXPORT_MARKER + _PART for path in root.iterdir()):
        return
    if not _holds(root / EXPORT_MARKER, marker):
        raise InputError(
            "the folder holds something else",
            got=_what_lies_in(root),
            expected="a new or empty folder, or this very export begun before",
            remedy="Give another --to; nothing was written.",
        )


def _what_lies_in(root: Path) -> str:
    try:
        known = json.loads((root / EXPORT_MARKER).read_bytes())
        return f"{root} with release {known['release']} as {known['format']}"
    except (OSError, ValueError, KeyError, TypeError):
        return f"{root} with {min(path.name for path in root.iterdir())}"


def _holds(path: Path, data: bytes) -> bool:
    return path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data


def _sum(store: Store, version: str) -> str:
    return hashlib.sha256(store.get(f"{RELEASES}/{version}/manifest.json")).hexdigest()


def _format_page(folder: ExportFolder) -> bytes:
    warning = f"> **{STAND_IN_NOTE.capitalize()}.**\n\n" if folder.manifest["stand_in"] else ""
    title = f"# Halosign {folder.manifest['version']} as {folder.format}\n\n"
    end = "\n`sha256sum -c checksums.sha256` checks every file. README.md says what the data are.\n"
    return (title + warning + _HOW[folder.format] + end).encode()

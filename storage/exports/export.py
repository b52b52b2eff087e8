"""Export folders: a release as files of another format, the checksums last.

`export.json`, the first file of a folder, names the release, the format and the selection. A file
that is there with the right content is not written again, so an interrupted export continues where
it was; `checksums.sha256`, the last file, is what `sha256sum -c` reads.
"""

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from matting.errors import InputError
from storage.errors import CorruptionError, WriteError, unknown_nodules
from storage.exports.dicom_seg import dicom_seg_files, has_dicom
from storage.exports.nifti import nifti_files
from storage.exports.nnunet import nnunet_files, nnunet_metadata
from storage.exports.npz import npz_files
from storage.exports.ome_zarr import zarr_files
from storage.exports.own_files import adapt_files, format_page
from storage.exports.released_nodule import ReleasedNodule, open_released_nodule
from storage.layout import EXPORT_MARKER, MANIFEST, RELEASES
from storage.output import is_incomplete, remove_incomplete, write_output
from storage.records import ExportMarker, Member, encode, parse_record
from storage.releases.release import Release
from storage.releases.verify import verify_release
from storage.store import Store

DICOM_SEG = "dicom-seg"
NNUNET = "nnunet"
FORMATS: dict[str, Callable[[ReleasedNodule], dict[str, bytes]]] = {
    "zarr": zarr_files,
    "nifti": nifti_files,
    "npz": npz_files,
    DICOM_SEG: dicom_seg_files,
    NNUNET: nnunet_files,
}
"""By the name of the format, what returns a nodule's files: their paths are those in the export
for nnU-Net, and in the nodule's own folder for all others."""

CHECKSUMS = "checksums.sha256"


@dataclass(frozen=True, slots=True)
class ExportFolder:
    """A folder that contains one release or a part of it in one format, or is about to."""

    root: Path
    marker: ExportMarker
    release: Release
    dicom: Path | None = None
    """The folder of the scans, for the format that refers to them."""
    left_out: tuple[str, ...] = ()
    """Selected nodules that the format cannot hold, sorted."""

    @property
    def left_out_names(self) -> str:
        """The first of the nodules that are left out, and how many more there are."""
        return _first_names(self.left_out)

    @property
    def members(self) -> dict[str, Member]:
        """The nodules to export, sorted by id."""
        selected = self.marker.select(self.release.members)
        return {name: one for name, one in selected.items() if name not in self.left_out}

    def nodule_files(self, nodule: ReleasedNodule) -> dict[str, bytes]:
        """Return a nodule's files by their path in the folder."""
        files = FORMATS[self.marker.format](nodule)
        if self.marker.format == NNUNET:
            return files
        return {f"{nodule.case.nodule_id}/{name}": data for name, data in files.items()}

    def write(self, name: str, data: bytes) -> str:
        """Write a file unless it is there already; returns its SHA-256.

        Raises:
            WriteError: There is no room or no permission to write.
        """
        path = self.root / name
        try:
            if not _has_content(path, data):
                write_output(path, data)
        except OSError as error:
            raise WriteError(
                f"{path} cannot be written: {error}. Make room, then run the same command again.",
                key=name,
            ) from error
        return hashlib.sha256(data).hexdigest()


def open_export(
    store: Store,
    version: str,
    format_: str,
    root: Path,
    dicom: Path | None = None,
    *,
    splits: Collection[str] | None = None,
    nodules: Collection[str] | None = None,
) -> ExportFolder:
    """Check a release and a folder, then write the folder's marker.

    Args:
        store: Where the release is.
        version: Of the release.
        format_: One of `FORMATS`.
        root: The folder to export into.
        dicom: The folder of the scans, for the format that refers to them.
        splits: Export only these: ``train``, ``validation``, ``test``.
        nodules: Export only these.

    Raises:
        InputError: The format is unknown or lacks the scans that it refers to, the release is
            unknown, withdrawn or damaged, the selection names what is not there, or the folder
            contains something else.
    """
    if format_ not in FORMATS:
        raise InputError(
            "no such format",
            got=format_,
            expected=" or ".join(FORMATS),
            remedy="Choose one of them.",
        )
    release = Release.open(store, version)
    release.check_in_use("exported", "Export another version: see `halosign release list`.")
    marker = ExportMarker(
        version,
        format_,
        release.manifest_sha256,
        splits=None if splits is None else tuple(sorted(set(splits))),
        nodules=None if nodules is None else tuple(sorted(set(nodules))),
    )
    _check_selection(release, marker)
    _check_files(release)
    folder = ExportFolder(root, marker, release, dicom)
    if format_ == DICOM_SEG:
        folder = replace(folder, left_out=_without_dicom(folder))
    _check_folder(root, encode(marker))
    folder.write(EXPORT_MARKER, encode(marker))
    return folder


def read_own_files(folder: ExportFolder) -> dict[str, bytes]:
    """Read the release's own files, adapted to the folder, with its page and metadata, by name."""
    release = folder.release
    prefix = f"{RELEASES}/{release.version}"
    names = [*release.manifest.own_files, MANIFEST]
    files = {name: release.store.get(f"{prefix}/{name}") for name in names}
    files |= adapt_files(files, folder.marker.format, folder.members)
    files["FORMAT.md"] = format_page(release, folder.marker, folder.members, folder.left_out)
    if folder.marker.format == NNUNET:
        files |= nnunet_metadata(release, folder.members)
    return files


def close_export(folder: ExportFolder, sums: Mapping[str, str]) -> None:
    """Write the checksums, the last file, and remove incomplete files of an interrupted export.

    Args:
        folder: To close.
        sums: SHA-256 of every file, by its path in the folder.
    """
    remove_incomplete(folder.root)
    lines = [f"{sums[name]}  {name}\n" for name in sorted(sums)]
    folder.write(CHECKSUMS, "".join(lines).encode())


def _check_files(release: Release) -> None:
    complaints = verify_release(release.store, release.version)
    if complaints:
        more = f" and {len(complaints) - 3} more" if len(complaints) > 3 else ""
        raise InputError(
            "a damaged release is not exported",
            got="; ".join(complaints[:3]) + more,
            expected="files as published, which do not contradict each other",
            remedy="Restore these files, then run the same command again; of contradictions, "
            "publish a corrected version.",
        )


def _check_selection(release: Release, marker: ExportMarker) -> None:
    """Raise InputError where a split or nodule is not in the release, or in none of the splits."""
    there = sorted({member.split for member in release.members.values()})
    absent = sorted(set(marker.splits or ()) - set(there))
    if absent:
        raise InputError(
            "the release has no such split",
            got=", ".join(absent),
            expected=" or ".join(there),
            remedy="Choose among them.",
        )
    unknown = sorted(set(marker.nodules or ()) - set(release.members))
    if unknown:
        raise unknown_nodules(unknown, sorted(release.members), f"release {release.version}")
    outside = sorted(set(marker.nodules or ()) - set(marker.select(release.members)))
    if outside:
        raise InputError(
            "a selected nodule is not in the selected split",
            got=f"{outside[0]}, which is in {release.members[outside[0]].split}",
            expected=" or ".join(marker.splits or ()),
            remedy="Leave out either selection, or choose nodules of the split: see `halosign "
            "release show`.",
        )


def _without_dicom(folder: ExportFolder) -> tuple[str, ...]:
    """Return the nodules without a DICOM series.

    Raises InputError where there is no other, or no folder of scans.
    """
    opened = [open_released_nodule(folder.release, name) for name in folder.members]
    left_out = tuple(one.case.nodule_id for one in opened if not has_dicom(one))
    if len(left_out) == len(opened):
        raise InputError(
            "none of the nodules has a DICOM series that DICOM SEG could refer to",
            got=f"{_first_names(left_out)}, from a table of volumes",
            expected="nodules of LIDC-IDRI",
            remedy="Export the release as nifti.",
        )
    if folder.dicom is None or not folder.dicom.is_dir():
        raise InputError(
            "DICOM SEG refers to the CT",
            got=folder.dicom or "no --dicom",
            expected="its folder",
            remedy="Give --dicom the folder that `halosign curate` read.",
        )
    return left_out


def _first_names(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def _check_folder(root: Path, marker: bytes) -> None:
    """Accept an empty folder, and the same export that was begun before."""
    if root.exists() and not root.is_dir():
        raise InputError(
            "this is not a folder",
            got=root,
            expected="a new or empty folder",
            remedy="Give another --to.",
        )
    if not root.exists() or all(is_incomplete(path) for path in root.iterdir()):
        return
    if not _has_content(root / EXPORT_MARKER, marker):
        raise InputError(
            "the folder contains something else",
            got=_describe_content(root),
            expected="a new or empty folder, or the same export begun before",
            remedy="Give another --to; nothing was written.",
        )


def _describe_content(root: Path) -> str:
    path = root / EXPORT_MARKER
    try:
        found = parse_record(path.read_bytes(), ExportMarker, str(path))
    except (OSError, CorruptionError):
        return f"{root} with {min(path.name for path in root.iterdir())}"
    part = f" ({found.selection})" if found.selection else ""
    return f"{root} with release {found.release} as {found.format}{part}"


def _has_content(path: Path, data: bytes) -> bool:
    return path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data

"""Exporting: check -> files of the release -> files of each nodule -> checksums."""

from collections.abc import Collection
from pathlib import Path

from rich.progress import track

from flows.engine.console import console
from storage.exports.export import close_export, open_export, read_own_files
from storage.layout import EXPORT_MARKER
from storage.store import open_store
from tasks.export import export_nodule


def export(
    store_url: str,
    version: str,
    format_: str,
    to: Path,
    dicom: Path | None = None,
    *,
    splits: Collection[str] | None = None,
    nodules: Collection[str] | None = None,
) -> int:
    """Export a release to a folder; a second call resumes an interrupted export.

    Args:
        store_url: Folder or URL of the store.
        version: A published version.
        format_: zarr, nifti, npz, dicom-seg or nnunet.
        to: New folder, or one with an incomplete export of the same kind.
        dicom: The curated scans, which dicom-seg refers to.
        splits: Only these: train, validation, test.
        nodules: Only these.

    Returns:
        The number of files.
    """
    store = open_store(store_url)
    folder = open_export(store, version, format_, to, dicom, splits=splits, nodules=nodules)
    if folder.left_out:
        names = folder.left_out_names
        console.print(f"left out, without a DICOM series: {names}", highlight=False)
    sums = {name: folder.write(name, data) for name, data in read_own_files(folder).items()}
    sums[EXPORT_MARKER] = folder.write(EXPORT_MARKER, (to / EXPORT_MARKER).read_bytes())
    for nodule_id in track(folder.members, "exporting", console=console):
        sums |= export_nodule(folder, nodule_id)
    close_export(folder, sums)
    return len(sums)

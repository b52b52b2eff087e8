"""One nodule of a release, written in an export format."""

from storage.exhibit import open_exhibit
from storage.exports import FORMATS, ExportFolder
from storage.store import Store


def export_nodule(store: Store, folder: ExportFolder, nodule_id: str) -> dict[str, str]:
    """Write one nodule's files into its folder; gives their sums by path."""
    files = FORMATS[folder.format](open_exhibit(store, folder.manifest, nodule_id, folder.dicom))
    return {f"{nodule_id}/{name}": folder.put(f"{nodule_id}/{name}", data) for name, data in sorted(files.items())}

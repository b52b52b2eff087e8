"""One nodule of a release, written in an export format."""

from storage.exports.export import FORMATS, ExportFolder
from storage.exports.released_nodule import open_released_nodule
from storage.store import Store


def export_nodule(store: Store, folder: ExportFolder, nodule_id: str) -> dict[str, str]:
    """Write one nodule's files into its folder; gives their sums by path."""
    files = FORMATS[folder.format](
        open_released_nodule(store, folder.manifest, nodule_id, folder.dicom)
    )
    return {
        f"{nodule_id}/{name}": folder.put(f"{nodule_id}/{name}", data)
        for name, data in sorted(files.items())
    }

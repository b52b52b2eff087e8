"""Export of one nodule of a release."""

from storage.exports.export import FORMATS, ExportFolder
from storage.exports.released_nodule import open_released_nodule
from storage.store import Store


def export_nodule(store: Store, folder: ExportFolder, nodule_id: str) -> dict[str, str]:
    """Write the files of one nodule in the folder's format, and return their SHA-256 by path."""
    files = FORMATS[folder.format](
        open_released_nodule(store, folder.manifest, nodule_id, folder.dicom)
    )
    return {
        f"{nodule_id}/{name}": folder.put(f"{nodule_id}/{name}", data)
        for name, data in sorted(files.items())
    }

"""Export of one nodule of a release."""

from storage.exports.export import FORMATS, ExportFolder
from storage.exports.released_nodule import open_released_nodule


def export_nodule(folder: ExportFolder, nodule_id: str) -> dict[str, str]:
    """Write one nodule's files into its folder; return their SHA-256 by path."""
    nodule = open_released_nodule(folder.release, nodule_id, folder.dicom)
    files = FORMATS[folder.format](nodule)
    return {
        f"{nodule_id}/{name}": folder.write(f"{nodule_id}/{name}", data)
        for name, data in sorted(files.items())
    }

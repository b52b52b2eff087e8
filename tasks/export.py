"""Export of one nodule of a release."""

from storage.exports.export import ExportFolder
from storage.exports.released_nodule import open_released_nodule


def export_nodule(folder: ExportFolder, nodule_id: str) -> dict[str, str]:
    """Write one nodule's files; return their SHA-256 by their path in the folder."""
    nodule = open_released_nodule(folder.release, nodule_id, folder.dicom)
    files = folder.nodule_files(nodule)
    return {name: folder.write(name, data) for name, data in sorted(files.items())}

"""The volumes of one nodule of a store as NIfTI files, released or not, for any viewer."""

from pathlib import Path

from matting.errors import InputError
from storage.cases.case import Case
from storage.errors import WriteError
from storage.exports.nifti import nifti
from storage.exports.released_nodule import SYNTHETIC_NOTE


def write_nodule(case: Case, pick: str | None, folder: Path) -> int:
    """Write CT, trimap, readers' masks and every matte of a case.

    Args:
        case: Of the nodule.
        pick: The method that was chosen; its matte's file is ``alpha-METHOD-chosen.nii.gz``.
        folder: New or empty.

    Returns:
        The number of files.

    Raises:
        InputError: The folder has files already.
        WriteError: It cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(
            "the folder contains something already",
            got=folder,
            expected="a new or empty folder",
            remedy="Give another --to; nothing was written.",
        )
    volumes = {"image": case.array("image"), "trimap": case.array("labels/trimap/0")}
    readers = enumerate(case.array("labels/readers/0"), start=1)
    volumes |= {f"reader-{number}": mask for number, mask in readers}
    for method in case.methods:
        if case.facts.reports[method].converged:
            mark = "-chosen" if method == pick else ""
            volumes[f"alpha-{method}{mark}"] = case.alpha(method)
    if "known_alpha" in case.group:
        volumes["known_alpha"] = case.array("known_alpha")
    note = f"{SYNTHETIC_NOTE}, " * case.facts.synthetic + f"Halosign {case.nodule_id}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, values in volumes.items():
            (folder / f"{name}.nii.gz").write_bytes(nifti(values, case.grid, note))
    except OSError as error:
        raise WriteError(
            f"{folder} cannot be written: {error}. Make room, then give a new folder.",
            key=str(folder),
        ) from error
    return len(volumes)

"""Export a nodule as NIfTI-1: image, released matte, trimap and readers' masks."""

import gzip
import json
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from matting.geometry.grid import Grid
from storage.exports.released_nodule import ReleasedNodule

_NOTE_BYTES = 79
"""The `descrip` field of NIfTI-1 has 80 bytes, the last of which is a zero."""


def nifti_files(nodule: ReleasedNodule) -> dict[str, bytes]:
    """Return the files by name; the same nodule gives the same bytes."""
    volumes = nodule.volumes()
    volumes["alpha"] = volumes.pop("matte")
    volumes |= {f"reader-{n}": mask for n, mask in enumerate(nodule.readers(), start=1)}
    note = nifti_note(nodule)
    files = {f"{name}.nii.gz": nifti(one, nodule.grid, note) for name, one in volumes.items()}
    return files | {"about.json": json.dumps(nodule.summary(), indent=2).encode()}


def affine_ras(grid: Grid) -> NDArray[np.float64]:
    """Return the affine from voxel indices (x, y, z) to NIfTI's RAS space."""
    lps_to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])
    return lps_to_ras @ grid.affine[:, [2, 1, 0, 3]]


def nifti_note(nodule: ReleasedNodule) -> str:
    """Return what the header of each file states."""
    return "synthetic data, " * nodule.member.synthetic + f"Halosign {nodule.version}"


def nifti(values: NDArray[Any], grid: Grid, note: str) -> bytes:
    """Return a volume (z, y, x) as a compressed NIfTI-1 file.

    Args:
        values: The volume.
        grid: Its lattice.
        note: For the header, which has room for 79 bytes.
    """
    affine = affine_ras(grid)
    image = nib.Nifti1Image(values.transpose(), affine)
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner")
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = note.encode()[:_NOTE_BYTES]
    return gzip.compress(image.to_bytes(), mtime=0)

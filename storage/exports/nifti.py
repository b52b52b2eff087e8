"""A nodule as NIfTI-1 files: image, chosen matte, trimap and each reader's mask on one lattice."""

import gzip
import json
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from matting.geometry.grid import Grid
from storage.exports.released_nodule import ReleasedNodule

_NOTE_BYTES = 79
"""NIfTI-1's `descrip` field holds 80 with its end."""


def nifti_files(exhibit: ReleasedNodule) -> dict[str, bytes]:
    """Give the files by name; the same bytes whenever the nodule is the same."""
    volumes = exhibit.volumes()
    volumes["alpha"] = volumes.pop("matte")
    volumes |= {f"reader-{n}": mask for n, mask in enumerate(exhibit.readers(), start=1)}
    note = "stand-in data, " * exhibit.stand_in + f"Halosign {exhibit.version}"
    files = {
        f"{name}.nii.gz": _nifti(values, exhibit.grid, note) for name, values in volumes.items()
    }
    return files | {"about.json": json.dumps(exhibit.summary(), indent=2).encode()}


def affine_ras(grid: Grid) -> NDArray[np.float64]:
    """Return the map from voxel indices (x, y, z) to NIfTI's RAS space (right, anterior, superior)."""
    lps_to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])
    return lps_to_ras @ grid.affine[:, [2, 1, 0, 3]]


def _nifti(values: NDArray[Any], grid: Grid, note: str) -> bytes:
    affine = affine_ras(grid)
    image = nib.Nifti1Image(values.transpose(), affine)
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner")
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = note.encode()[:_NOTE_BYTES]
    return gzip.compress(image.to_bytes(), mtime=0)

"""Export a nodule as one NumPy archive: arrays and geometry, readable without pickle."""

import io

import numpy as np

from storage.exports.released_nodule import ReleasedNodule


def npz_files(nodule: ReleasedNodule) -> dict[str, bytes]:
    """Return ``nodule.npz``; the same nodule gives the same bytes."""
    case = nodule.case
    grid = nodule.grid
    arrays = nodule.volumes() | {
        "readers": nodule.readers(),
        "alpha": np.stack([case.alpha(method) for method in case.methods]),
        "methods": np.array(case.methods),
        "method": np.array(nodule.member.method),
        "spacing_mm": np.array(grid.spacing_mm),
        "origin_lps_mm": np.array(grid.origin_lps_mm),
        "axes_lps": np.array(grid.axes_lps),
        "split": np.array(nodule.member.split),
        "note": np.array(nodule.note),
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return {"nodule.npz": buffer.getvalue()}

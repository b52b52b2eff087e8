"""A nodule as one NumPy archive: arrays and geometry, readable without pickle."""

import io

import numpy as np

from storage.exports.released_nodule import ReleasedNodule


def npz_files(exhibit: ReleasedNodule) -> dict[str, bytes]:
    """Give ``nodule.npz``; the same bytes whenever the nodule is the same."""
    case, grid = exhibit.case, exhibit.grid
    buffer = io.BytesIO()
    arrays = exhibit.volumes() | {
        "readers": exhibit.readers(),
        "alpha": np.stack([case.alpha(method) for method in case.methods]),
        "methods": np.array(case.methods),
        "method": np.array(exhibit.method),
        "spacing_mm": np.array(grid.spacing_mm),
        "origin_lps_mm": np.array(grid.origin_lps_mm),
        "axes_lps": np.array(grid.axes_lps),
        "split": np.array(exhibit.split),
        "note": np.array(exhibit.note),
    }
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return {"nodule.npz": buffer.getvalue()}

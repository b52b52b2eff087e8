"""A nodule as OME-Zarr 0.5: the case as it is stored, with the chosen matte as the array `matte` beside the rest."""

import json

import zarr
import zarr.storage

from storage.cases.case import case_files, put_array
from storage.exports.released_nodule import ReleasedNodule
from storage.layout import case_prefix, multiscale


def zarr_files(exhibit: ReleasedNodule) -> dict[str, bytes]:
    """Give the group's files by path; only the root's attributes differ from the stored ones."""
    case = exhibit.case
    prefix = f"{case_prefix(case.nodule_id, case.digest)}/"
    keys = case_files(exhibit.store, case.nodule_id, case.digest)
    files = {key.removeprefix(prefix): exhibit.store.get(key) for key in keys}
    root = json.loads(files["zarr.json"])
    root["attributes"]["ome"]["multiscales"].append(
        multiscale("matte", "matte", exhibit.grid, False)
    )
    root["attributes"]["halosign_release"] = exhibit.summary()
    return {**files, "zarr.json": json.dumps(root, indent=2).encode(), **_matte_files(exhibit)}


def _matte_files(exhibit: ReleasedNodule) -> dict[str, bytes]:
    shelf: dict[str, object] = {}
    group = zarr.create_group(zarr.storage.MemoryStore(shelf), zarr_format=3)  # type: ignore[arg-type]
    put_array(group, "matte", exhibit.matte, 3)
    return {key: bytes(data.to_bytes()) for key, data in shelf.items() if key.startswith("matte/")}  # type: ignore[attr-defined]

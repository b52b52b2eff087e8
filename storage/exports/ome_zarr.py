"""Export a nodule as OME-Zarr 0.5: its case, with the released matte as a further array."""

import json

import zarr
import zarr.storage

from storage.cases.case import read_case_files, write_array
from storage.exports.released_nodule import ReleasedNodule
from storage.layout import case_prefix, multiscale


def zarr_files(nodule: ReleasedNodule) -> dict[str, bytes]:
    """Return the group's files by path.

    Only the attributes of the root differ from the stored ones.
    """
    case = nodule.case
    prefix = f"{case_prefix(case.nodule_id, case.digest)}/"
    keys = read_case_files(nodule.store, case.nodule_id, case.digest)
    files = {key.removeprefix(prefix): nodule.store.get(key) for key in keys}
    root = json.loads(files["zarr.json"])
    root["attributes"]["ome"]["multiscales"].append(
        multiscale("matte", "matte", nodule.grid, False)
    )
    root["attributes"]["halosign_release"] = nodule.summary()
    return {**files, "zarr.json": json.dumps(root, indent=2).encode(), **_matte_files(nodule)}


def _matte_files(nodule: ReleasedNodule) -> dict[str, bytes]:
    files: dict[str, object] = {}
    group = zarr.create_group(zarr.storage.MemoryStore(files), zarr_format=3)  # type: ignore[arg-type]
    write_array(group, "matte", nodule.matte, 3)
    return {key: bytes(data.to_bytes()) for key, data in files.items() if key.startswith("matte/")}  # type: ignore[attr-defined]

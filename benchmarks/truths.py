"""Truths that do not come from the trimap: what benchmarks/truth.py compares mattes with.

Coarsened scans   A nodule's own CT at its native resolution decides which voxels are lesion; CT and
                  masks are then averaged over blocks of voxels, and the averaged lesion is the true
                  matte of the coarse scan. Two definitions of lesion: `hu`, the voxels above the
                  middle of the medians of core and surrounding lung, inside the readers' union and
                  joined to their intersection; `majority`, what at least half of the readers
                  marked; `density`, the first times the radiodensity target (Eq. 28) of each voxel.
                  `hu` favours what follows radiodensity, `majority` what follows the readers: a
                  finding holds under both.
Left-out reader   Trimap and matte from all readers but one, compared with the mask of that one.
Synthetic         Simulated CT with known alpha.
Public            Photographs with published mattes: a check of the plain formulas, not of CT.

A native scan is blurred, so the averaged lesion is too sharp: orders count, levels do not.
"""

import csv
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.nodules import (
    STAND_INS,
    known_alpha,
    native_patch,
    prepared,
    read_native,
    simulated,
)
from matting.errors import InputError
from matting.geometry.grid import Grid, Vector
from matting.geometry.patch import Patch
from matting.geometry.trimap import BACKGROUND, FOREGROUND, UNKNOWN
from matting.parameters import CropSettings, DensitySettings
from matting.solvers.foreground_target import foreground_target

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]
MIN_CONTRAST_HU = 350.0
"""Least difference of core and surrounding lung: below it HU do not show where a lesion ends."""
RING_MM = (1.5, 8.0)
"""Distances from the readers' union between which the surrounding lung is taken."""
SLICE_MM = 2.5
"""Slice distance of the coarsened slices, and about the largest that coarsened pixels get."""
COARSENED = ("pixels x2", "pixels x2 scaled", "slices 2.5 mm")
TRUTHS = (*COARSENED, "left-out reader", "synthetic")


@dataclass(frozen=True)
class Truth:
    """A resampled nodule and what its mattes are compared with."""

    id: str
    patient: str
    patch: Patch
    """What the mattes are made from."""
    slice_mm: float
    """Slice distance of the scan, coarsened or not, before resampling."""
    diameter_mm: float
    alphas: dict[str, Array]
    """True mattes (z, y, x) in 0..1 by definition of lesion."""


def half(patient: str) -> str:
    """Return the half of a patient: parameters are chosen on "choose" and tested on "confirm"."""
    return ("choose", "confirm")[hashlib.sha256(patient.encode()).digest()[0] % 2]


def truths(kind: str, folder: Path | None, patients: str, count: int) -> Iterator[Truth]:
    """Make the truths of one kind.

    Args:
        kind: One of TRUTHS.
        folder: Real nodules (benchmarks/nodules.py); not needed for synthetic ones.
        patients: "choose" or "confirm".
        count: Nodules at most, drawn from all sizes in an order that depends on names alone. Each
            gives one truth, with readers left out one for each reader.

    Yields:
        Nodules that the chain refuses are passed over.
    """
    if kind == "synthetic":
        yield from _synthetic(count)
        return
    if folder is None:
        raise ValueError(f"{kind}: real nodules are needed")
    taken = 0
    for row in _rows(folder, patients):
        try:
            found = list(_real(kind, folder, row))
        except InputError:
            continue
        taken += bool(found)
        yield from found
        if taken == count:
            return


def _rows(folder: Path, patients: str) -> list[dict[str, str]]:
    with (folder / "nodules.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if half(row["patient"]) == patients]
    return sorted(rows, key=lambda row: hashlib.sha256(row["voi"].encode()).digest())


def _real(kind: str, folder: Path, row: dict[str, str]) -> Iterator[Truth]:
    native = read_native(folder, row["voi"])
    medians = core_and_lung(native)
    if medians is None or medians[0] - medians[1] < MIN_CONTRAST_HU:
        return
    made = _left_out(native) if kind == "left-out reader" else _coarsened(kind, native, medians)
    for patch, slice_mm, alphas in made:
        yield Truth(row["voi"], row["patient"], patch, slice_mm, float(row["mean_diam_mm"]), alphas)


def core_and_lung(native: Patch) -> tuple[float, float] | None:
    """Return the median HU of the readers' intersection and of the ring around their union."""
    union, core = native.readers.any(axis=0), native.readers.all(axis=0)
    away_mm = ndimage.distance_transform_edt(~union, native.grid.spacing_mm)
    ring = (away_mm > RING_MM[0]) & (away_mm <= RING_MM[1]) & native.valid
    if not core.any() or not ring.any():
        return None
    return float(np.median(native.image_hu[core])), float(np.median(native.image_hu[ring]))


def lesion_by_hu(native: Patch, medians: tuple[float, float]) -> Mask:
    """Return the voxels above the middle of core and lung, in the union, joined to the core."""
    dense = (native.image_hu > sum(medians) / 2) & native.readers.any(axis=0)
    components, _ = ndimage.label(dense, np.ones((3, 3, 3)))
    joined = np.unique(components[native.readers.all(axis=0) & dense])
    return np.isin(components, joined[joined > 0])


def _coarsened(
    kind: str, native: Patch, medians: tuple[float, float]
) -> Iterator[tuple[Patch, float, dict[str, Array]]]:
    factors = _factors(kind, native.grid.spacing_mm)
    if factors is None:
        return
    lesion = lesion_by_hu(native, medians)
    density = foreground_target(native.image_hu, DensitySettings())
    alphas = {
        "hu": lesion.astype(np.float32),
        "majority": (2 * native.readers.sum(axis=0) >= len(native.readers)).astype(np.float32),
        "density": (lesion * density).astype(np.float32),
    }
    shrink = 2.0 if kind.endswith("scaled") else 1.0
    z_mm, y_mm, x_mm = (
        spacing * factor / shrink
        for spacing, factor in zip(native.grid.spacing_mm, factors, strict=True)
    )
    image_hu = block_mean(native.image_hu, factors)
    depth, height, width = image_hu.shape
    coarse = Patch(
        Grid((depth, height, width), (z_mm, y_mm, x_mm), (0.0, 0.0, 0.0)),
        image_hu,
        block_mean(native.valid, factors) == 1,
        np.stack([block_mean(mask, factors) >= 0.5 for mask in native.readers]),
    )
    averaged = {name: block_mean(alpha, factors) for name, alpha in alphas.items()}
    resampled = {
        name: _chain(replace(coarse, known_alpha=alpha)) for name, alpha in averaged.items()
    }
    patch = replace(resampled["hu"], known_alpha=None)
    yield patch, z_mm, {name: known_alpha(found) for name, found in resampled.items()}


def _factors(kind: str, spacing_mm: Vector) -> tuple[int, int, int] | None:
    """Return the voxels of a block along (z, y, x); None where slices are too thick already."""
    if kind == "slices 2.5 mm":
        merged = round(SLICE_MM / spacing_mm[0])
        return (merged, 1, 1) if merged >= 2 else None
    return min(2, max(1, int(SLICE_MM * 1.04 / spacing_mm[0]))), 2, 2


def block_mean(values: NDArray[np.generic], factors: tuple[int, int, int]) -> NDArray[np.float32]:
    """Average over blocks of voxels; what does not fill a block at the far ends is dropped."""
    depth, height, width = (n // k for n, k in zip(values.shape, factors, strict=True))
    a, b, c = factors
    whole = values[: depth * a, : height * b, : width * c].astype(np.float64)
    return whole.reshape(depth, a, height, b, width, c).mean(axis=(1, 3, 5)).astype(np.float32)


def _left_out(native: Patch) -> Iterator[tuple[Patch, float, dict[str, Array]]]:
    patch = _chain(native)
    for reader in range(len(patch.readers)):
        rest = np.delete(patch.readers, reader, axis=0)
        mask = {"reader": patch.readers[reader].astype(np.float32)}
        yield replace(patch, readers=rest), native.grid.spacing_mm[0], mask


def _chain(native: Patch) -> Patch:
    # A window no wider than the piece of CT: beyond it there is only padding.
    side = min(CropSettings().in_plane_voxels, max(native.grid.shape[1:]))
    return prepared(native, CropSettings(in_plane_voxels=side))


def _synthetic(count: int) -> Iterator[Truth]:
    names = [name for kind in STAND_INS.values() for name in kind.split()]
    for name in sorted(names)[:count]:
        slab, placed, spacing_mm = simulated(f"LIDC-IDRI-{name}", seed=1)
        native = native_patch(slab, placed, spacing_mm)
        patch = prepared(native)
        voxel_mm3 = float(np.prod(patch.grid.spacing_mm))
        volume_mm3 = float(patch.readers.any(axis=0).sum()) * voxel_mm3
        yield Truth(
            placed.marked.id,
            placed.marked.id.rsplit("-", 1)[0],
            replace(patch, known_alpha=None),
            spacing_mm[0],
            (6 * volume_mm3 / np.pi) ** (1 / 3),
            {"alpha": known_alpha(patch)},
        )


def trivial_mattes(truth: Truth, labels: NDArray[np.uint8]) -> dict[str, Array]:
    """Return the mattes that need no solver: (z, y, x) in 0..1 by name.

    `local HU` scales HU from the median of the lung around the band to that of the core, within
    0.75 mm of the readers' union; `distance ramp` divides the distance to known background by the
    distances to both.
    """
    patch = truth.patch
    spacing_mm = patch.grid.spacing_mm
    mean = patch.readers.mean(axis=0, dtype=np.float64)
    away_mm = ndimage.distance_transform_edt(~patch.readers.any(axis=0), spacing_mm)
    around = (labels == BACKGROUND) & (away_mm <= RING_MM[1]) & patch.valid
    core = np.median(patch.image_hu[labels == FOREGROUND])
    lung = np.median(patch.image_hu[around if around.any() else labels == BACKGROUND])
    scaled = np.clip((patch.image_hu - lung) / max(core - lung, 1.0), 0, 1)
    to_core, to_lung = (
        ndimage.distance_transform_edt(labels != label, spacing_mm)
        for label in (FOREGROUND, BACKGROUND)
    )
    return {
        "local HU": np.where(away_mm <= 0.75, scaled, 0.0),
        "readers' mean, blurred": ndimage.gaussian_filter(mean, [0.5 / s for s in spacing_mm]),
        "readers' mean": mean,
        "distance ramp": to_lung / np.maximum(to_core + to_lung, 1e-9),
    }


def unknown_in_any(labels: list[NDArray[np.uint8]]) -> Mask:
    """Return the voxels that any of several trimaps leaves unknown: one region for all rows."""
    return np.any([one == UNKNOWN for one in labels], axis=0)

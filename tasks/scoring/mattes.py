"""Scores: the eight methods and the trivial mattes against the mattes of a release, nodule by nodule.

Fairness: where a method supplied a nodule's released matte, that nodule does not count for it; a
    nodule without a method's matte does not count for it either. So rows may stand on different
    nodules, and each says how many.
"""

from collections.abc import Callable, Iterator, Mapping
from math import ceil

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from matting.geometry.box import box_around
from matting.geometry.trimap import FOREGROUND, UNKNOWN
from matting.measures.baselines import hu_linear, readers_mean
from matting.measures.metrics import MatteWithGradient, matte_errors
from storage.releases.reader import ReleaseReader
from storage.releases.release import Release
from storage.results.scores import METHOD_SCORES, Score, write_nodule_scores

NEAR_MM = 5.0
"""Width of the region around what any reader marked."""
READERS_MEAN, HU_LINEAR, TRIMAP_PRIOR = "readers' mean", "HU linear", "trimap prior"
Matte = NDArray[np.floating]


def score_methods(release: Release, nodule_id: str, prior: float) -> list[Score]:
    """Score every stored and every trivial matte of a nodule against the released one, and store the scores.

    Args:
        release: The release; scores are written to its store.
        nodule_id: Which nodule.
        prior: What `trimap_prior` gave.
    """
    reader = ReleaseReader(release)
    supplied = reader.member(nodule_id).method
    mattes: dict[str, Matte] = {}
    for method in reader.facts(nodule_id).methods:
        matte = reader.read(nodule_id, "alpha", method=method)
        if np.isfinite(matte).all():
            mattes[method] = matte
    trimap = reader.read(nodule_id, "trimap")
    mattes[READERS_MEAN] = readers_mean(reader.read(nodule_id, "readers") > 0)
    mattes[HU_LINEAR] = hu_linear(reader.read(nodule_id, "image"))
    mattes[TRIMAP_PRIOR] = np.where(trimap == UNKNOWN, prior, trimap == FOREGROUND)
    scores = list(score_mattes(reader, nodule_id, mattes, supplied))
    write_nodule_scores(release.store, release.version, METHOD_SCORES, nodule_id, scores)
    return scores


def score_mattes(
    reader: ReleaseReader, nodule_id: str, mattes: Mapping[str, Matte], supplied: str = ""
) -> Iterator[Score]:
    """Hold mattes of a nodule against the released one and, on simulated CT, the known one, region by region.

    Args:
        reader: The release.
        nodule_id: Which nodule.
        mattes: By name.
        supplied: Whose matte was released: it is not held against itself.
    """
    truths = {"released": MatteWithGradient.of(reader.read(nodule_id, "alpha"))}
    if reader.facts(nodule_id).synthetic:
        truths["known"] = MatteWithGradient.of(reader.read(nodule_id, "known_alpha"))
    regions = _regions(reader, nodule_id)
    with_gradients = {name: MatteWithGradient.of(matte) for name, matte in mattes.items()}
    for truth_name, truth in truths.items():
        for name, matte in with_gradients.items():
            if truth_name == "released" and name == supplied:
                continue
            for region_name, errors in matte_errors(matte, truth, regions).items():
                voxels = int(regions[region_name].sum())
                yield Score(nodule_id, name, truth_name, region_name, voxels, *errors)


def _regions(reader: ReleaseReader, nodule_id: str) -> dict[str, NDArray[np.bool_]]:
    """Give the measured voxels, those near what any reader marked, and the unknown ones."""
    valid = reader.read(nodule_id, "validity") > 0
    union = np.asarray(reader.read(nodule_id, "readers").any(axis=0))
    spacing_mm = reader.grid(nodule_id).spacing_mm
    # Beyond this box everything is farther away.
    z, y, x = (ceil(NEAR_MM / spacing) for spacing in spacing_mm)
    box = box_around(union, (z, y, x))
    near = np.zeros_like(valid)
    near[box] = ndimage.distance_transform_edt(~union[box], sampling=spacing_mm) <= NEAR_MM
    return {
        "whole": valid,
        "near": near & valid,
        "unknown": reader.read(nodule_id, "trimap") == UNKNOWN,
    }


def trimap_prior(reader: ReleaseReader, after: Callable[[str], None] = lambda _: None) -> float:
    """Give what a trivial matte puts where the trimap knows nothing.

    It is the mean of the released mattes over the unknown voxels of the training split (of all
    nodules where there is none). In the foreground that matte is 1, in the background 0.
    """
    total, voxels = 0.0, 0
    for nodule_id in reader.nodules("train" if "train" in reader.splits.values() else None):
        unknown = reader.read(nodule_id, "trimap") == UNKNOWN
        total += float(reader.read(nodule_id, "alpha")[unknown].sum(dtype=np.float64))
        voxels += int(unknown.sum())
        after(nodule_id)
    return total / voxels

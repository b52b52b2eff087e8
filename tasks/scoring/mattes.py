"""Scores of the eight methods and of trivial mattes against the released mattes.

Fairness: a nodule whose released matte was supplied by a method does not count for this method, nor
does a nodule without the method's matte. Rows of a table may therefore rest on different nodules,
and each states their number.
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
"""Distance from the readers' union up to which a voxel is in the region "near"."""
READERS_MEAN = "readers' mean"
HU_LINEAR = "HU linear"
TRIMAP_PRIOR = "trimap prior"
Matte = NDArray[np.floating]


def score_methods(release: Release, nodule_id: str, priors: Mapping[str, float]) -> list[Score]:
    """Score the mattes of all methods and the trivial ones of a nodule, and store the scores.

    Args:
        release: The release; scores are written to its store.
        nodule_id: The nodule.
        priors: Values of `trimap_priors`.

    Returns:
        The scores.
    """
    reader = ReleaseReader(release)
    mattes = stored_mattes(reader, nodule_id, priors[nodule_id])
    supplied = reader.member(nodule_id).method
    scores = list(score_mattes(reader, nodule_id, mattes, supplied))
    write_nodule_scores(release.store, release.version, METHOD_SCORES, nodule_id, scores)
    return scores


def stored_mattes(reader: ReleaseReader, nodule_id: str, prior: float) -> dict[str, Matte]:
    """Return the mattes of all methods and the trivial ones of a nodule, by name.

    Args:
        reader: The release.
        nodule_id: The nodule.
        prior: The nodule's value of `trimap_priors`.
    """
    mattes: dict[str, Matte] = {}
    for method in reader.facts(nodule_id).methods:
        matte = reader.read(nodule_id, "alpha", method=method)
        if np.isfinite(matte).all():
            mattes[method] = matte
    trimap = reader.read(nodule_id, "trimap")
    mattes[READERS_MEAN] = readers_mean(reader.read(nodule_id, "readers") > 0)
    mattes[HU_LINEAR] = hu_linear(reader.read(nodule_id, "image"))
    mattes[TRIMAP_PRIOR] = np.where(trimap == UNKNOWN, prior, trimap == FOREGROUND)
    return mattes


def score_mattes(
    reader: ReleaseReader, nodule_id: str, mattes: Mapping[str, Matte], supplied: str = ""
) -> Iterator[Score]:
    """Score mattes of a nodule against the released and, on synthetic CT, the known matte.

    Args:
        reader: The release.
        nodule_id: The nodule.
        mattes: The mattes by name.
        supplied: Name of the matte that was released, which is not scored against itself.

    Yields:
        One score for each truth, matte and region.
    """
    truths = {"released": MatteWithGradient.of(reader.read(nodule_id, "alpha"))}
    if reader.facts(nodule_id).synthetic:
        truths["known"] = MatteWithGradient.of(reader.read(nodule_id, "known_alpha"))
    regions = measured_regions(reader, nodule_id)
    with_gradients = {name: MatteWithGradient.of(matte) for name, matte in mattes.items()}
    for truth_name, truth in truths.items():
        for name, matte in with_gradients.items():
            if truth_name == "released" and name == supplied:
                continue
            for region_name, errors in matte_errors(matte, truth, regions).items():
                voxels = int(regions[region_name].sum())
                yield Score(nodule_id, name, truth_name, region_name, voxels, *errors)


def measured_regions(reader: ReleaseReader, nodule_id: str) -> dict[str, NDArray[np.bool_]]:
    """Return the measured voxels, those near the readers' union, and the unknown ones."""
    valid = reader.read(nodule_id, "validity") > 0
    union = np.asarray(reader.read(nodule_id, "readers").any(axis=0))
    spacing_mm = reader.grid(nodule_id).spacing_mm
    # Voxels outside this box are farther away.
    z, y, x = (ceil(NEAR_MM / spacing) for spacing in spacing_mm)
    box = box_around(union, (z, y, x))
    near = np.zeros_like(valid)
    near[box] = ndimage.distance_transform_edt(~union[box], sampling=spacing_mm) <= NEAR_MM
    return {
        "whole": valid,
        "near": near & valid,
        "unknown": reader.read(nodule_id, "trimap") == UNKNOWN,
    }


def trimap_priors(
    reader: ReleaseReader, after: Callable[[str], None] = lambda _: None
) -> dict[str, float]:
    """Return for each nodule the mean of other patients' mattes over their unknown voxels, 0..1.

    The trivial matte of that name has this value where unknown, 1 in the foreground and 0 in the
    background. It knows nothing of the nodule's own patient, in any partition into splits. In a
    release of one patient it is the mean over all nodules.
    """
    patients: dict[str, tuple[float, int]] = {}
    for nodule_id in reader.nodules():
        unknown = reader.read(nodule_id, "trimap") == UNKNOWN
        total, voxels = patients.get(reader.member(nodule_id).patient_id, (0.0, 0))
        total += float(reader.read(nodule_id, "alpha")[unknown].sum(dtype=np.float64))
        patients[reader.member(nodule_id).patient_id] = (total, voxels + int(unknown.sum()))
        after(nodule_id)
    priors = {}
    for nodule_id in reader.nodules():
        own = reader.member(nodule_id).patient_id
        others = [
            sums for patient, sums in patients.items() if patient != own or len(patients) == 1
        ]
        priors[nodule_id] = sum(total for total, _ in others) / sum(n for _, n in others)
    return priors

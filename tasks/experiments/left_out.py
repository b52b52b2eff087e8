"""Masks or mattes: which foretells best what another reader marks?

Each reader in turn is left out: trimap and mattes are made from the others, and compared with the
mask of the one left out, over the voxels that either form's trimap leaves unknown. This tests "a
matte describes a lesion better than masks" on a truth that is no row of the table. Only plain
methods are compared: a + form estimates density, which no reader marks.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from matting.errors import InputError
from matting.estimate import METHODS
from matting.geometry.trimap import UNKNOWN
from matting.measures.baselines import readers_mean
from matting.measures.probability import probability_errors
from matting.targets import target_of
from storage.cases.case import ALGORITHM_VERSION
from storage.recipe import Recipe, load_recipe
from storage.releases.reader import ReleaseReader
from storage.releases.release import Release
from storage.results.left_out import LeftOutScore, left_out_id, list_left_out, write_left_out
from tasks.nodule_mattes import nodule_mattes
from tasks.scoring.calibration import bin_columns
from tasks.scoring.mattes import READERS_MEAN

LEFT_OUT_VERSION = 1
"""Increased whenever the same release gives other scores than before."""
BLURS_MM = (0.5, 1.0)
"""Standard deviations of the blurred means."""
BASELINE = f"{READERS_MEAN}, blurred {BLURS_MM[0]} mm"
"""What all others are compared with."""
FORMS = ("paper", "improved")
PLAIN = tuple(method for method in METHODS if target_of(method) == "opacity")
Matte = NDArray[np.floating]


def measurement_of(release: Release) -> str:
    """Return the id under which the scores of a release are stored."""
    recipes = {form: load_recipe(form).content_key() for form in FORMS}
    return left_out_id(
        {
            "version": LEFT_OUT_VERSION,
            "algorithm": ALGORITHM_VERSION,
            "recipes": recipes,
            "manifest_sha256": release.manifest_sha256,
        }
    )


def nodules_to_measure(release: Release) -> list[str]:
    """Return the nodules of a release that have no scores yet, sorted."""
    done = list_left_out(release.store, release.version, measurement_of(release))
    return [name for name in ReleaseReader(release).nodules() if name not in done]


def score_left_out(release: Release, nodule_id: str) -> None:
    """Leave out each reader of a nodule in turn, and store the scores of all mattes.

    A reader counts only if all mattes could be made without that reader.

    Args:
        release: The release; scores are written to its store.
        nodule_id: The nodule.
    """
    reader = ReleaseReader(release)
    image_hu = reader.read(nodule_id, "image").astype(np.float32)
    valid = reader.read(nodule_id, "validity") > 0
    readers = reader.read(nodule_id, "readers") > 0
    spacing_mm = reader.grid(nodule_id).spacing_mm
    recipes = [load_recipe(form) for form in FORMS]
    scores: list[LeftOutScore] = []
    for left_out in range(len(readers) if len(readers) > 2 else 0):
        others = np.delete(readers, left_out, axis=0)
        try:
            made = list(_mattes(image_hu, valid, others, spacing_mm, recipes))
        except InputError:
            continue
        unknown = np.any([labels == UNKNOWN for labels, _ in made], axis=0)
        mattes = {name: matte for _, own in made for name, matte in own.items()}
        if len(mattes) < len(PLAIN) * len(FORMS):
            continue
        mean = readers_mean(others)
        mattes[READERS_MEAN] = mean
        for blur_mm in BLURS_MM:
            sigma = [blur_mm / spacing for spacing in spacing_mm]
            mattes[f"{READERS_MEAN}, blurred {blur_mm} mm"] = ndimage.gaussian_filter(mean, sigma)
        truth = readers[left_out][unknown]
        scores += [_score(nodule_id, left_out, n, m[unknown], truth) for n, m in mattes.items()]
    write_left_out(release.store, release.version, measurement_of(release), nodule_id, scores)


def _mattes(
    image_hu: Matte,
    valid: NDArray[np.bool_],
    readers: NDArray[np.bool_],
    spacing_mm: tuple[float, float, float],
    recipes: list[Recipe],
) -> Iterator[tuple[NDArray[np.uint8], dict[str, Matte]]]:
    """Yield each form's trimap and the mattes of it that converged, by name."""
    for form, recipe in zip(FORMS, recipes, strict=True):
        labels, mattes = nodule_mattes(image_hu, valid, readers, spacing_mm, recipe, methods=PLAIN)
        yield labels, {f"{form} {name}": matte for name, matte in mattes.items()}


def _score(
    nodule_id: str, left_out: int, name: str, matte: Matte, truth: NDArray[np.bool_]
) -> LeftOutScore:
    errors = probability_errors(matte, truth)
    return LeftOutScore(
        nodule_id,
        left_out,
        name,
        len(truth),
        errors.brier,
        errors.log_loss,
        **bin_columns(errors),
    )

"""Errors of another form of the methods on stored cases, for a table of the forms side by side."""

import numpy as np

from matting import METHODS
from matting.errors import InputError
from matting.geometry.trimap import UNKNOWN
from matting.measures.metrics import mean_absolute_error
from storage.cases.case import Case
from storage.recipe import Recipe
from tasks.nodule_mattes import nodule_mattes


def errors_of_recipe(case: Case, recipe: Recipe) -> dict[str, float]:
    """Estimate the mattes of a stored case by another recipe, and compare them with the known ones.

    The errors are over the stored case's own unknown voxels, and can so be compared with its stored
    errors; the trimap that is solved is the recipe's.

    Args:
        case: With a known alpha, which only synthetic CT has.
        recipe: Of the same grid as the case.

    Returns:
        Mean absolute error by method, of the methods that converged, and the stored errors of the
        trivial mattes, which no recipe changes.

    Raises:
        InputError: The case has no known alpha, or the recipe another grid.
    """
    facts = case.facts
    if facts.errors is None or "known_alpha" not in case.group:
        raise InputError(
            "the errors of a case need a known alpha",
            got=f"{case.nodule_id}, which has none",
            expected="a case of synthetic CT",
            remedy="Use scans that `halosign synthesize` wrote.",
        )
    resample = recipe.content_key()["resample"]
    if facts.recipe.get("resample") != resample:
        raise InputError(
            "the recipe has another grid than the case",
            got=resample,
            expected=facts.recipe.get("resample"),
            remedy="Curate with that recipe instead.",
        )
    _, mattes = nodule_mattes(
        case.array("image").astype(np.float64),
        case.array("validity").astype(bool),
        case.array("labels/readers/0").astype(bool),
        case.grid.spacing_mm,
        recipe,
    )
    truth = case.array("known_alpha").astype(np.float64)
    region = case.array("labels/trimap/0") == UNKNOWN
    errors = {name: mean_absolute_error(matte, truth, region) for name, matte in mattes.items()}
    return errors | {name: value for name, value in facts.errors.items() if name not in METHODS}

"""The mattes of one nodule by a recipe, from whichever readers' masks."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from matting.estimate import METHODS, estimate_alphas
from matting.geometry.trimap import build_trimap
from storage.recipe import Recipe


def nodule_mattes(
    image_hu: NDArray[np.floating],
    valid: NDArray[np.bool_],
    readers: NDArray[np.bool_],
    spacing_mm: tuple[float, float, float],
    recipe: Recipe,
    *,
    methods: Iterable[str] = METHODS,
) -> tuple[NDArray[np.uint8], dict[str, NDArray[np.floating]]]:
    """Build the trimap of some readers and estimate the mattes within it.

    Args:
        image_hu: (z, y, x), HU on the grid of the recipe.
        valid: (z, y, x), False where nothing was measured.
        readers: (readers, z, y, x), the masks that count.
        spacing_mm: Voxel spacing (z, y, x).
        recipe: Settings of the trimap and the methods.
        methods: Some of `matting.estimate.METHODS`.

    Returns:
        The trimap's labels (z, y, x), and the mattes that converged (z, y, x), by method.

    Raises:
        InputError: These masks make no trimap, or the image cannot be solved.
    """
    labels = build_trimap(readers, valid, spacing_mm=spacing_mm, parameters=recipe.trimap).labels
    solutions = estimate_alphas(
        image_hu,
        labels,
        spacing_mm=spacing_mm,
        methods=methods,
        parameters=recipe.parameters,
        readers=readers,
    )
    return labels, {name: one.alpha for name, one in solutions.items() if one.converged}

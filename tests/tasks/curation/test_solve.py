"""The scores of the eight mattes, and their errors where the alpha is known."""

import numpy as np
import pytest

from matting import estimate_alphas
from matting.geometry.trimap import UNKNOWN, build_trimap
from matting.parameters import TrimapSettings
from tasks.curation.context import NoduleContext
from tasks.curation.inventory import take_inventory
from tasks.curation.solve import score_candidates
from tests.phantoms import ball_patch


def test_the_best_reader_is_the_one_nearest_to_the_known_alpha(job):
    patch = ball_patch()
    trimap = build_trimap(
        patch.readers,
        patch.valid,
        spacing_mm=patch.grid.spacing_mm,
        parameters=TrimapSettings(min_core_voxels=8),
    )
    context = NoduleContext(take_inventory(job, None).nodules[0], job)
    solutions = estimate_alphas(
        patch.image_hu, trimap.labels, spacing_mm=patch.grid.spacing_mm, methods=("cf",)
    )
    score_candidates(context, patch, trimap, solutions)
    region = trimap.labels == UNKNOWN
    errors = [np.abs(mask - patch.known_alpha)[region].mean() for mask in patch.readers]
    assert min(errors) < max(errors) - 0.03
    assert context.errors["best_reader"] == pytest.approx(min(errors), abs=1e-6)
    assert set(context.errors) == {"cf", "readers_mean", "best_reader", "hu_linear"}

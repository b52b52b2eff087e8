"""Scores of a release: no method is scored against the matte that it supplied."""

import numpy as np
import pytest
from scipy import ndimage

from flows.curate import curate_nodule
from storage.recipe import Recipe
from storage.releases.reader import ReleaseReader
from storage.releases.release import open_release, publish_release
from storage.results.scores import METHOD_SCORES, list_scored_nodules, read_nodule_scores
from storage.sources.registry import SourceSpec
from tasks.auto_select import pick_automatically
from tasks.curation.context import CurationJob
from tasks.curation.inventory import take_inventory
from tasks.publish import draft_release
from tasks.scoring.mattes import (
    READERS_MEAN,
    TRIMAP_PRIOR,
    score_methods,
    trimap_priors,
)


@pytest.fixture
def released(store, table):
    recipe = Recipe.model_validate(
        {
            "crop": {"in_plane_voxels": 24},
            "release": {"train": 0.01, "validation": 0.98, "split_seed": 1},
        }
    )
    job = CurationJob(SourceSpec("files", str(table)), store.url, recipe)
    for nodule in take_inventory(job, None).nodules:
        curate_nodule(nodule, job)
    pick_automatically(store)
    publish_release(store, "0.1.0", draft_release(store, "0.1.0", recipe), publisher="test")
    return ReleaseReader(open_release(store.url, "0.1.0"))


def test_a_method_is_not_scored_against_the_mattes_that_it_supplied(store, released):
    priors = trimap_priors(released)
    nodules = released.nodules()
    scores = []
    for nodule_id in nodules:
        scores += score_methods(released.release, nodule_id, priors)
    assert list_scored_nodules(store, "0.1.0", METHOD_SCORES) == set(nodules)
    assert read_nodule_scores(store, "0.1.0", METHOD_SCORES, nodules) == scores
    for nodule_id in nodules:
        supplied = released.member(nodule_id).method
        mine = [score for score in scores if score.nodule == nodule_id]
        assert supplied not in {score.matte for score in mine}
        assert {score.truth for score in mine} == {"released"}
        methods = set(released.facts(nodule_id).methods) - {supplied}
        assert methods | {READERS_MEAN, TRIMAP_PRIOR} <= {score.matte for score in mine}
        assert {score.region for score in mine} == {"whole", "near", "unknown"}
        truth = released.read(nodule_id, "alpha")
        unknown = released.read(nodule_id, "trimap") == 128
        mean = next(s for s in mine if (s.matte, s.region) == (READERS_MEAN, "unknown"))
        readers = released.read(nodule_id, "readers").mean(axis=0)
        assert mean.sad == pytest.approx(np.abs(readers - truth)[unknown].sum())
        assert mean.voxels == unknown.sum()
        # In the unknown region the trivial matte is one number
        flat = next(s for s in mine if (s.matte, s.region) == (TRIMAP_PRIOR, "unknown"))
        assert flat.sad == pytest.approx(np.abs(priors[nodule_id] - truth)[unknown].sum())


def test_the_prior_of_a_nodule_knows_nothing_of_its_own_patient(released):
    priors = trimap_priors(released)
    for nodule_id in released.nodules():
        own = released.member(nodule_id).patient_id
        values = [
            released.read(other, "alpha")[released.read(other, "trimap") == 128]
            for other in released.nodules()
            if released.member(other).patient_id != own
        ]
        assert priors[nodule_id] == pytest.approx(np.concatenate(values).mean(dtype=float))


def test_a_voxel_at_exactly_five_millimetres_is_near(store, released):
    nodule_id = released.nodules()[0]
    near = next(
        score
        for score in score_methods(released.release, nodule_id, trimap_priors(released))
        if score.region == "near"
    )
    union = released.read(nodule_id, "readers").any(axis=0)
    distance_mm = ndimage.distance_transform_edt(~union, sampling=(0.5, 0.5, 0.5))
    valid = released.read(nodule_id, "validity") > 0
    assert (distance_mm[valid] == 5.0).any()
    assert near.voxels == (valid & (distance_mm <= 5.0)).sum()

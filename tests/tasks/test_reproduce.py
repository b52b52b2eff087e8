"""A release held against what was computed anew: equal, or why not."""

from dataclasses import replace

import numpy as np
import pytest

from flows.curate import curate_nodule
from storage.cases.case import read_case
from storage.cases.outcomes import find_outcome, write_outcome
from storage.recipe import recipe_from
from storage.releases.release import Release, publish_release
from storage.sources.registry import SourceSpec
from storage.store import open_store
from tasks.auto_select import pick_automatically
from tasks.curation.inventory import take_inventory
from tasks.publish import draft_release
from tasks.reproduce import compare_with_release, find_unreproducible
from tests.phantoms import ball_patch, write_table


@pytest.fixture
def release(store, curated):
    pick_automatically(store)
    return publish_release(
        store, "0.1.0", draft_release(store, "0.1.0", curated.recipe), publisher="ann"
    )


@pytest.fixture
def anew(release, curated, tmp_path):
    """The same nodules computed into another store, with the recipe that the release keeps."""
    recipe = recipe_from(release.manifest.recipe, "of release 0.1.0")
    other = replace(
        curated, store_url=open_store(str(tmp_path / "anew"), create=True).url, recipe=recipe
    )
    for nodule in take_inventory(other, None).nodules:
        curate_nodule(nodule, other)
    return open_store(other.store_url)


def differences(store, anew):
    return {
        one.nodule_id: one.difference
        for one in compare_with_release(Release.open(store, "0.1.0"), anew)
    }


def test_the_recipe_of_a_release_gives_its_bytes(store, release, anew):
    assert differences(store, anew) == {"n1": "", "n2": ""}
    assert (
        read_case(anew, "n1", release.members["n1"].digest).facts.recipe["crop"]["in_plane_voxels"]
        == 24
    )


def test_another_source_is_named(store, curated, release, anew, tmp_path):
    folder = tmp_path / "other"
    folder.mkdir()
    brighter = ball_patch()
    brighter.image_hu[0, 0, 0] += 1
    moved = write_table(folder, {"n1": brighter})
    other = replace(curated, source=SourceSpec("files", str(moved)), store_url=anew.url)
    for nodule in take_inventory(other, None).nodules:
        curate_nodule(nodule, other)
    found = differences(store, anew)
    assert found["n1"] == "source (voxels, masks or contours)"
    assert found["n2"] == ""


def test_what_the_source_lacks_or_refuses_is_named(store, anew):
    write_outcome(
        anew,
        replace(
            find_outcome(anew, "n1"), state="refused", stage="trimap", reason="no voxel shared"
        ),
    )
    anew.delete(["outcomes/n2.json"])
    assert differences(store, anew) == {
        "n1": "refused at trimap: no voxel shared",
        "n2": "not in the source",
    }


def test_other_bytes_under_the_same_digest_are_named_with_the_libraries_that_changed(store, anew):
    outcome = find_outcome(anew, "n1")
    key = f"cases/n1/{outcome.digest}.done"
    anew.put(key, anew.get(key).replace(b'"sha256":"', b'"sha256":"f', 1))
    assert differences(store, anew)["n1"].startswith(
        f"same digest, different bytes in cases/n1/{outcome.digest}/"
    )
    assert "->" not in differences(store, anew)["n1"]
    write_outcome(anew, replace(outcome, versions={**outcome.versions, "numpy": "9.9.9"}))
    assert differences(store, anew)["n1"].endswith(f" (numpy {np.__version__} -> 9.9.9)")


def test_another_algorithm_is_not_reproducible(store, release, anew, monkeypatch):
    assert find_unreproducible(release) == {}
    monkeypatch.setattr("tasks.reproduce.ALGORITHM_VERSION", 99)
    assert set(differences(store, anew)) == set(find_unreproducible(release)) == {"n1", "n2"}
    assert differences(store, anew)["n1"].endswith("-> 99; use the Halosign that published it")


def test_a_lost_case_is_still_compared_by_the_manifest(store, release, anew):
    store.delete([f"cases/n1/{release.members['n1'].digest}.done"])
    assert differences(store, anew) == {"n1": "", "n2": ""}

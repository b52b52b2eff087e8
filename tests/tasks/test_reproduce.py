"""A release held against what was computed again: equal, or why not."""

from dataclasses import replace

import numpy as np
import pytest

from flows.curate import curate_nodule
from storage.cases.case import read_case
from storage.cases.outcomes import find_outcome, write_outcome
from storage.recipe import recipe_from
from storage.records import DoneMark, encode, read_record
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
def recomputed(release, curated, tmp_path):
    """The same nodules computed into another store, with the recipe that the release keeps."""
    recipe = recipe_from(release.manifest.recipe, "of release 0.1.0")
    other = replace(
        curated, store_url=open_store(str(tmp_path / "recomputed"), create=True).url, recipe=recipe
    )
    for nodule in take_inventory(other, None).nodules:
        curate_nodule(nodule, other)
    return open_store(other.store_url)


def differences(store, recomputed):
    return {
        one.nodule_id: one.difference
        for one in compare_with_release(Release.open(store, "0.1.0"), recomputed)
    }


def test_the_recipe_of_a_release_gives_its_bytes(store, release, recomputed):
    assert differences(store, recomputed) == {"n1": "", "n2": ""}
    assert (
        read_case(recomputed, "n1", release.members["n1"].digest).facts.recipe["crop"][
            "in_plane_voxels"
        ]
        == 24
    )


def test_another_source_is_named(store, curated, release, recomputed, tmp_path):
    folder = tmp_path / "other"
    folder.mkdir()
    brighter = ball_patch()
    brighter.image_hu[0, 0, 0] += 1
    moved = write_table(folder, {"n1": brighter})
    other = replace(curated, source=SourceSpec("files", str(moved)), store_url=recomputed.url)
    for nodule in take_inventory(other, None).nodules:
        curate_nodule(nodule, other)
    found = differences(store, recomputed)
    assert found["n1"] == "source (voxels, masks or contours)"
    assert found["n2"] == ""


def test_what_the_source_lacks_or_refuses_is_named(store, recomputed):
    write_outcome(
        recomputed,
        replace(
            find_outcome(recomputed, "n1"),
            state="refused",
            stage="trimap",
            reason="no voxel shared",
        ),
    )
    recomputed.delete(["outcomes/n2.json"])
    assert differences(store, recomputed) == {
        "n1": "refused at trimap: no voxel shared",
        "n2": "not in the source",
    }


def test_other_bytes_under_the_same_digest_are_named_with_the_libraries_that_changed(
    store, recomputed
):
    outcome = find_outcome(recomputed, "n1")
    key = f"cases/n1/{outcome.digest}.done"
    mark = read_record(recomputed, key, DoneMark)
    name = min(mark.files)
    changed = {**mark.files, name: replace(mark.files[name], sha256="f" * 64)}
    recomputed.put(key, encode(replace(mark, files=changed)))
    assert differences(store, recomputed)["n1"].startswith(
        f"same digest, different bytes in cases/n1/{outcome.digest}/"
    )
    assert "->" not in differences(store, recomputed)["n1"]
    write_outcome(recomputed, replace(outcome, versions={**outcome.versions, "numpy": "9.9.9"}))
    assert differences(store, recomputed)["n1"].endswith(f" (numpy {np.__version__} -> 9.9.9)")


def test_another_algorithm_is_not_reproducible(store, release, recomputed, monkeypatch):
    assert find_unreproducible(release) == {}
    monkeypatch.setattr("tasks.reproduce.ALGORITHM_VERSION", 99)
    assert set(differences(store, recomputed)) == set(find_unreproducible(release)) == {"n1", "n2"}
    assert differences(store, recomputed)["n1"].endswith(
        "-> 99; use the Halosign that published it"
    )


def test_a_lost_case_is_still_compared_by_the_manifest(store, release, recomputed):
    store.delete([f"cases/n1/{release.members['n1'].digest}.done"])
    assert differences(store, recomputed) == {"n1": "", "n2": ""}

"""A user's first day: publish two versions, compare, verify, reproduce, withdraw, export."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import zarr

from storage.cases.outcomes import find_outcome
from storage.records import Verdict
from storage.reviews.verdicts import record_verdict
from storage.store import open_store
from tests.flows.conftest import RECIPE
from tests.phantoms import ball_patch, write_table

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def path(halosign, tmp_path_factory):
    """Walk it; gives what each command said."""
    folder = tmp_path_factory.mktemp("newcomer")
    table = write_table(folder, {"n1": ball_patch(), "n2": ball_patch(seed=3)})
    url, said = folder / "store", {}
    recipes = {"0.1.0": folder / "first.yaml", "0.2.0": folder / "second.yaml"}
    recipes["0.1.0"].write_text(RECIPE)
    recipes["0.2.0"].write_text(RECIPE + "trimap: {dilation_mm: 2.0}\n")
    for version, recipe in recipes.items():
        said[f"curate {version}"] = halosign(
            "curate", "--files", table, "--store", url, "--recipe", recipe, "--workers", 1
        )
        halosign("review", "auto", "--store", url)
        if version == "0.2.0":
            digest = find_outcome(open_store(str(url)), "n1").digest
            record_verdict(
                open_store(str(url)),
                Verdict("n1", digest, "choose", "knn+", "ann", automatic=False),
            )
        said[f"publish {version}"] = halosign(
            "release", "publish", version, "--store", url, "--recipe", recipe
        )
    said["diff"] = halosign("release", "diff", "0.1.0", "0.2.0", "--store", url)
    for version in recipes:
        said[f"verify {version}"] = halosign("release", "verify", version, "--store", url)
    said["reproduce"] = halosign(
        "release", "reproduce", "0.1.0", "--store", url, "--files", table, "--workers", 1
    )
    said["withdraw"] = halosign(
        "release",
        "withdraw",
        "0.1.0",
        "--store",
        url,
        "--reason",
        "too narrow a band",
        "--by",
        "ann",
        "--yes",
    )
    for format_ in ("nifti", "zarr", "npz"):
        arguments = ("--store", url, "--format", format_, "--to", folder / format_)
        said[f"export {format_}"] = halosign("release", "export", "0.2.0", *arguments)
    said["export withdrawn"] = halosign(
        "release", "export", "0.1.0", "--store", url, "--format", "npz", "--to", folder / "old"
    )
    return folder, said


def test_every_command_does_what_it_says(path):
    _, said = path
    assert {name: done.stderr for name, done in said.items() if done.returncode} == {
        "export withdrawn": said["export withdrawn"].stderr
    }
    assert said["export withdrawn"].returncode == 2
    assert "too narrow a band" in said["export withdrawn"].stderr
    assert "0 added, 0 removed, 2 changed, 0 unchanged" in said["diff"].stdout
    assert "recipe trimap.dilation_mm 1.5 -> 2.0" in said["diff"].stdout
    assert "-> knn+; reviewer auto -> ann" in said["diff"].stdout
    assert "0.1.0: 2 nodules reproduced, 0 different" in said["reproduce"].stdout


def test_a_published_release_shows_its_fingerprint(path):
    folder, _ = path
    release = folder / "store" / "releases" / "0.2.0"
    assert (release / "fingerprint.png").read_bytes().startswith(b"\x89PNG")
    assert pd.read_csv(release / "fingerprint.csv")["nodule"].tolist() == ["n1", "n2"]


def test_every_format_gives_the_same_voxels_in_the_same_places(path):
    folder, _ = path
    for nodule in ("n1", "n2"):
        group = zarr.open_group(folder / "zarr" / nodule, mode="r")
        image = nib.load(folder / "nifti" / nodule / "alpha.nii.gz")
        with np.load(folder / "npz" / nodule / "nodule.npz") as archive:
            assert (archive["matte"] == group["matte"][:]).all()
            assert (np.asarray(image.dataobj).transpose() == archive["matte"]).all()
            index = np.argwhere(archive["matte"] > 0.5)
            here = archive["origin_lps_mm"] + (index * archive["spacing_mm"]) @ archive["axes_lps"]
        ras = nib.affines.apply_affine(image.affine, index[:, ::-1])
        assert np.abs(ras * [-1, -1, 1] - here).max() < 1e-4
        geometry = group.attrs["halosign_release"]["geometry"]
        there = geometry["origin_lps_mm"] + (index * geometry["spacing_mm"]) @ np.array(
            geometry["axes_lps"]
        )
        assert np.abs(there - here).max() < 1e-9

"""`halosign score`: anybody's mattes against a release, from a folder to a page."""

import csv
import shutil
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

import flows.score
import tasks.scoring.predictions
from flows.engine.cluster import Cluster
from flows.score import measure_methods
from flows.score_predictions import ScoringJob, score_predictions
from matting import METHODS
from matting.errors import InputError
from storage.exports.nifti import affine_ras
from storage.releases.reader import ReleaseReader
from storage.releases.release import open_release
from storage.results.scores import ALL, read_nodule_scores
from tests.flows.training import copy_of


def write(folder: Path, reader: ReleaseReader, nodule_id: str, change=lambda matte: matte) -> Path:
    folder.mkdir(exist_ok=True)
    matte = change(reader.read(nodule_id, "alpha"))
    path = folder / f"{nodule_id}.nii.gz"
    nib.save(nib.Nifti1Image(matte.transpose(), affine_ras(reader.grid(nodule_id))), path)
    return path


def shifted(matte):
    return np.roll(matte, 1, axis=2)


@pytest.fixture
def reader(learnable):
    return ReleaseReader(open_release(learnable.url, "0.1.0"))


def score_all(reader, folder, change, out) -> SimpleNamespace:
    for name in reader.nodules():
        write(folder, reader, name, change)
    job = ScoringJob(reader.release.store.url, "0.1.0", folder, ALL, out)
    page = score_predictions(job)
    means = {(row.group, row.truth, row.region, row.matte, row.metric): row for row in page.scores}
    return SimpleNamespace(page=page, means=means)


@pytest.fixture(scope="module")
def scored(learnable, tmp_path_factory):
    """The released mattes themselves, and the same shifted by a voxel, scored."""
    folder = tmp_path_factory.mktemp("scored")
    reader = ReleaseReader(open_release(learnable.url, "0.1.0"))
    before = sorted(learnable.list_prefix(""))
    found = {
        name: score_all(reader, folder / name, change, folder / f"out-{name}")
        for name, change in (("exact", lambda matte: matte), ("shifted", shifted))
    }
    assert sorted(learnable.list_prefix("")) == before, "the store is left as it is"
    return found


REGIONS = ("whole", "near", "unknown")


def test_a_perfect_prediction_scores_0_and_a_shifted_one_is_worse(scored):
    exact, moved = scored["exact"].means, scored["shifted"].means
    for region in REGIONS:
        for metric in ("sad", "mse", "grad", "conn"):
            key = ("all", "released", region, "prediction", metric)
            assert (exact[key].mean, exact[key].low, exact[key].high) == (0, 0, 0)
            assert moved[key].mean > moved[key].low > 0
            assert moved[key].difference is None
    sized = moved["all", "released", "whole", "prediction", "mse_paper_sized"]
    assert 0 < sized.mean < moved["all", "released", "whole", "prediction", "mse"].mean
    for metric in ("brier", "log_loss", "calibration_error"):
        own, truth = (
            exact["all", "readers", "unknown", matte, metric]
            for matte in ("prediction", "released matte")
        )
        assert own.mean == pytest.approx(truth.mean)
    brier = ("all", "readers", "unknown", "prediction", "brier")
    assert moved[brier].mean > exact[brier].mean


def test_every_matte_of_the_release_is_beside_it_with_paired_differences(scored):
    found = scored["shifted"].means
    beside = {*METHODS, "readers' mean", "HU linear", "trimap prior"}
    for region in REGIONS:
        own = {key[3] for key in found if key[:3] == ("all", "released", region)}
        assert own == {"prediction", *beside} & own
        assert {"readers' mean", "HU linear", "trimap prior", "prediction"} < own
    brier = {key[3]: row for key, row in found.items() if key[:3] == ("all", "readers", "unknown")}
    assert {"prediction", "released matte", "readers' mean", "trimap prior"} < brier.keys()
    for key, row in found.items():
        ours = found[*key[:3], "prediction", key[4]]
        if row.matte != "prediction" and row.pairs == ours.nodules == row.nodules:
            assert row.difference == pytest.approx(ours.mean - row.mean, abs=1e-9)
    # The readers' mean is the best that any matte can do against the same readers.
    best = min(row.mean for key, row in found.items() if key[4] == "brier" and key[0] == "all")
    assert best == found["all", "readers", "near", "readers' mean", "brier"].mean


def test_a_method_is_not_compared_over_the_nodules_that_it_supplied(scored, reader):
    found = scored["shifted"].means
    supplied = [reader.member(name).method for name in reader.nodules()]
    for method in set(supplied):
        row = found.get(("all", "released", "near", method, "sad"))
        left = len(supplied) - supplied.count(method)
        assert (row.nodules if row else 0) == left


def test_the_tables_hold_what_the_page_says(scored, learnable):
    page = scored["shifted"].page
    assert len(page.scored) == page.expected == 8
    assert page.not_scored == ()
    assert page.without_geometry == 0
    per_nodule = [
        row.sad for row in page.nodules if (row.matte, row.region) == ("prediction", "near")
    ]
    mean = scored["shifted"].means["all", "released", "near", "prediction", "sad"].mean
    assert mean == pytest.approx(np.mean(per_nodule))


def test_stored_scores_of_methods_give_the_same_page(scored, learnable, tmp_path, monkeypatch):
    release = open_release(copy_of(learnable, tmp_path).url, "0.1.0")
    measure_methods.fn(release, ALL)
    read = []

    def reading(store, version, what, nodules):
        read.extend(nodules)
        return read_nodule_scores(store, version, what, nodules)

    monkeypatch.setattr(tasks.scoring.predictions, "read_nodule_scores", reading)
    again = score_all(ReleaseReader(release), tmp_path / "shifted", shifted, tmp_path / "out")
    assert tuple(read) == again.page.scored
    assert again.page == scored["shifted"].page


def test_a_damaged_nodule_of_the_release_costs_only_itself(learnable, tmp_path):
    store = copy_of(learnable, tmp_path)
    reader = ReleaseReader(open_release(store.url, "0.1.0"))
    damaged, whole = reader.nodules("test")[:2]
    for name in (damaged, whole):
        write(tmp_path / "mattes", reader, name)
    for key in store.list_prefix(f"cases/{damaged}/"):
        if "/labels/readers/0/c/" in key:
            store.put(key, b"damaged")
    page = score_predictions(
        ScoringJob(store.url, "0.1.0", tmp_path / "mattes", "test", tmp_path / "out")
    )
    assert page.scored == (whole,)
    (refused,) = (one for one in page.not_scored if one.kind == "refused")
    assert refused.nodule == damaged
    assert "is damaged" in refused.reason


def test_workers_change_nothing(scored, reader, scheduler, tmp_path, monkeypatch):
    monkeypatch.setattr(flows.score, "MIN_NODULES_FOR_CLUSTER", 2)
    for name in reader.nodules():
        write(tmp_path / "shifted", reader, name, shifted)
    out = tmp_path / "out"
    job = ScoringJob(
        reader.release.store.url, "0.1.0", tmp_path / "shifted", ALL, out, Cluster(scheduler)
    )
    assert score_predictions(job) == scored["shifted"].page


def test_what_does_not_fit_costs_only_itself(halosign, reader, tmp_path):
    nodules = reader.nodules()
    folder, out = tmp_path / "mattes", tmp_path / "out"
    write(folder, reader, nodules[0])
    write(folder, reader, nodules[1], lambda matte: matte * 2)
    np.savez(folder / f"{nodules[2]}.npz", reader.read(nodules[2], "alpha"))
    shutil.copy(write(folder, reader, nodules[3]), folder / "n33.nii.gz")
    shutil.copy(folder / f"{nodules[0]}.nii.gz", folder / f"{nodules[4]}.nii.gz")
    np.savez(folder / f"{nodules[4]}.npz", reader.read(nodules[4], "alpha"))
    (folder / "notes.txt").write_text("by hand")
    arguments = ["--release", "0.1.0", "--store", reader.release.store.url, "--out", out]
    done = halosign("score", *arguments, "--predictions", folder, "--split", "all")
    assert done.returncode == 1
    assert "3 of 8 nodules scored" in done.stdout
    assert "1 predictions state no geometry" in done.stdout
    with (out / "not-scored.csv").open() as stream:
        rows = {(row["nodule"], row["kind"]): row["reason"] for row in csv.DictReader(stream)}
    assert rows.keys() == {
        (nodules[1], "refused"),
        (nodules[4], "refused"),
        ("n33", "unknown nodule"),
        ("", "not read"),
        *((name, "missing") for name in nodules[5:]),
    }
    assert "outside 0..1" in rows[nodules[1], "refused"]
    assert "several predictions" in rows[nodules[4], "refused"]
    assert "Did you mean n3?" in rows["n33", "unknown nodule"]
    assert (out / "report.html").read_text().count("missing") >= 3


def test_predictions_of_another_split_are_not_scored(reader, tmp_path):
    inside, outside = reader.nodules("test")[0], reader.nodules("train")[0]
    for name in (inside, outside):
        write(tmp_path / "mattes", reader, name)
    job = ScoringJob(
        reader.release.store.url, "0.1.0", tmp_path / "mattes", "test", tmp_path / "out"
    )
    page = score_predictions(job)
    assert page.scored == (inside,)
    assert page.expected == len(reader.nodules("test"))
    assert (outside, "other split") in {(one.nodule, one.kind) for one in page.not_scored}
    # One patient: no interval
    assert {row.low for row in page.scores} == {None}


@pytest.mark.parametrize(
    ("name", "words"),
    [("n99", "no such nodule: got n99"), ("test", "it is in the split test")],
)
def test_nothing_to_score_is_refused_with_the_first_reason(reader, tmp_path, name, words):
    nodule = reader.nodules("test")[0]
    path = write(tmp_path / "mattes", reader, nodule)
    if name != "test":
        path.rename(path.with_name(f"{name}.nii.gz"))
    job = ScoringJob(
        reader.release.store.url, "0.1.0", tmp_path / "mattes", "train", tmp_path / "out"
    )
    with pytest.raises(InputError, match=words):
        score_predictions(job)
    assert not (tmp_path / "out").exists()

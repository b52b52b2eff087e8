"""From a release to a network and its metrics, by the tasks and by the command line."""

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from typer.testing import CliRunner

from flows.cli.main import app
from flows.train import fit_side_by_side, make_training_job
from matting.errors import InputError
from storage.results.checkpoints import (
    checkpoint_prefix,
    find_checkpoint,
    find_state,
    read_checkpoint,
    write_state,
)
from storage.results.scores import METHOD_SCORES, find_summary
from storage.store import open_store
from tasks.learning.train import learn, training_id_of
from tests.flows.training import copy_of, training_job


@pytest.fixture(scope="module")
def released(learnable, tmp_path_factory):
    """A store of one's own; two stores of the same bytes would train the same network."""
    return copy_of(learnable, tmp_path_factory.mktemp("learned"))


@pytest.fixture(scope="module")
def undisturbed(released):
    """The network of a training that nobody disturbed."""
    return learn(training_job(released.url))


def test_a_training_killed_in_mid_epoch_ends_in_the_same_weights(released, undisturbed, tmp_path):
    copy = tmp_path / "store"
    subprocess.run(["cp", "-r", released.url, copy], check=True)
    for folder in ("trainings", "checkpoints"):
        subprocess.run(["rm", "-r", copy / folder], check=True)
    command = [sys.executable, "-m", "tests.flows.training", str(copy)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        for line in child.stdout:
            if int(line) == 2:
                child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    store, begun = open_store(str(copy)), training_job(str(copy))
    stored = find_state(store, training_id_of(begun))
    assert stored is not None
    assert stored[1].trainer.crops > 0, "killed between epochs"
    resumed = learn(begun)
    assert resumed.digest == undisturbed.digest
    assert all(
        np.array_equal(resumed.weights[name], undisturbed.weights[name])
        for name in undisturbed.weights
    )
    kept = ("total", "alpha", "gradient", "overlap", "union", "sad", "mse")
    ours, theirs = (
        [[row[k] for k in kept] for row in c.config.epochs] for c in (resumed, undisturbed)
    )
    assert ours == theirs


@pytest.mark.slow
def test_a_training_says_when_it_continues_with_another_number_of_threads(
    released, undisturbed, tmp_path, caplog
):
    copy = tmp_path / "store"
    subprocess.run(["cp", "-r", released.url, copy], check=True)
    for folder in ("trainings", "checkpoints"):
        subprocess.run(["rm", "-r", copy / folder], check=True)
    store, begun = open_store(str(copy)), training_job(str(copy))

    def stop(look):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn(begun, on_epoch=stop)
    name = training_id_of(begun)
    tensors, state = find_state(store, name)
    threads = state.threads
    assert threads == list(undisturbed.config.threads) == [torch.get_num_threads()]
    write_state(store, name, tensors, replace(state, threads=[threads[0] + 3]))
    resumed = learn(begun)
    assert f"continues with {threads[0]} CPU threads after {threads[0] + 3}" in caplog.text
    assert f"Set OMP_NUM_THREADS={threads[0] + 3}" in caplog.text
    assert resumed.config.threads == (threads[0] + 3, threads[0])


def test_what_has_ended_is_not_trained_again(released, undisturbed):
    steps = []
    assert learn(training_job(released.url), on_step=steps.append).digest == undisturbed.digest
    assert steps == []


def test_a_checkpoint_says_where_it_comes_from(released, undisturbed):
    config = undisturbed.config
    assert (config.variant, config.auxiliary, config.release) == ("3dmm-mg", "told", "0.1.0")
    assert (config.spacing_mm, config.intensity_range_hu) == (0.5, (-1000.0, 400.0))
    assert config.content_key["training"]["crop_zyx"] == [16, 32, 32]
    assert config.code["halosign"]
    assert len(config.epochs) == 2
    assert find_checkpoint(released, training_id_of(training_job(released.url))) == config.digest


def test_the_command_trains_measures_and_predicts(released, halosign, tmp_path):
    recipe = tmp_path / "quick.yaml"
    recipe.write_text("training: {crop_zyx: [16, 32, 32], focus: 1.0, batch: 8, epochs: 1}\n")
    done = halosign("train", "--release", "0.1.0", "--store", released.url, "--recipe", recipe)
    assert done.returncode == 0, done.stdout + done.stderr
    place = done.stdout.strip().splitlines()[-1].removeprefix("checkpoint: ")
    digest = read_checkpoint(place).digest
    training = next(
        line.split()[1].rstrip(":")
        for line in done.stdout.splitlines()
        if line.startswith("training ")
    )
    _, files = released.list_dir(f"trainings/{training}")
    assert {"curves.png", "losses.csv", "state.safetensors"} <= set(files)
    assert released.get(f"trainings/{training}/samples/epoch-0001.png").startswith(b"\x89PNG")
    for what, rows in (
        (METHOD_SCORES, {"readers' mean", "trimap prior", "HU linear"}),
        (digest, {"3dmm-mg"}),
    ):
        summary = find_summary(released, "0.1.0", "test", what)
        assert rows <= {line.matte for line in summary.lines}
    assert "3dmm-mg" in done.stdout

    ct = write_ct(tmp_path)
    at_a_point = halosign(
        "predict",
        "--checkpoint",
        place,
        "--image",
        ct,
        "--point",
        "10,12,14",
        "--all",
        "--out",
        tmp_path / "p",
    )
    assert at_a_point.returncode == 0, at_a_point.stderr
    given, alpha = sitk.ReadImage(str(ct)), sitk.ReadImage(str(tmp_path / "p" / "alpha.nii.gz"))
    for geometry in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert np.allclose(getattr(given, geometry)(), getattr(alpha, geometry)(), atol=1e-4), (
            geometry
        )
    assert 0 <= sitk.GetArrayFromImage(alpha).min() < sitk.GetArrayFromImage(alpha).max() <= 1
    assert json.loads((tmp_path / "p" / "about.json").read_text())["checkpoint"] == digest
    union = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "p" / "union.nii.gz")))
    assert set(np.unique(union)) <= {0, 1}

    boxed = halosign(
        "predict",
        "--checkpoint",
        place,
        "--image",
        ct,
        "--box",
        "5,6,7,15,30,31",
        "--out",
        tmp_path / "b",
    )
    assert boxed.returncode == 0, boxed.stderr
    matte = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "b" / "alpha.nii.gz")))
    inside = matte[5:16, 6:31, 7:32].copy()
    matte[5:16, 6:31, 7:32] = 0
    assert inside.max() > 0 == matte.max()


def write_ct(folder: Path) -> Path:
    """A CT with axes turned and voxels of three sizes."""
    rng = np.random.default_rng(3)
    image = sitk.GetImageFromArray(rng.integers(-1000, 200, (20, 40, 44)).astype(np.int16))
    image.SetSpacing((0.7, 0.8, 1.25))
    image.SetOrigin((-30.0, 12.0, 99.0))
    image.SetDirection((0, 1, 0, -1, 0, 0, 0, 0, 1))
    sitk.WriteImage(image, str(folder / "ct.nii.gz"))
    return folder / "ct.nii.gz"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("train", "--release", "0.1.0", "--store", "STORE", "--variant", "unet"),
            "expected 3dmm, 3dmm-m, 3dmm-mg",
        ),
        (
            ("train", "--release", "0.1.0", "--store", "STORE", "--device", "cuda:9"),
            "no such device",
        ),
        (
            ("evaluate", "--release", "0.1.0", "--store", "STORE", "--split", "exam"),
            "lacks a split: got exam",
        ),
        (
            ("predict", "--checkpoint", "PLACE", "--image", "CT", "--out", "OUT"),
            "the place to predict is not clear: got none",
        ),
        (
            ("predict", "--checkpoint", "STORE", "--image", "CT", "--out", "OUT", "--whole"),
            "there is no checkpoint here",
        ),
        (
            ("predict", "--checkpoint", "PLACE", "--image", "no.nii.gz", "--out", "OUT", "--whole"),
            "the CT is not there",
        ),
        (
            ("predict", "--checkpoint", "PLACE", "--image", "CT", "--out", "OUT", "--point", "1,2"),
            "3 whole numbers",
        ),
        (
            (
                "predict",
                "--checkpoint",
                "PLACE",
                "--image",
                "CT",
                "--out",
                "OUT",
                "--point",
                "44,0,0",
            ),
            "not in the CT",
        ),
    ],
)
def test_wrong_use_is_refused(released, undisturbed, tmp_path, arguments, message):
    places = {
        "STORE": released.url,
        "CT": str(write_ct(tmp_path)),
        "OUT": str(tmp_path / "out"),
        "PLACE": f"{released.url}/{checkpoint_prefix(undisturbed.digest)}",
    }
    # In this process: a new one would spend its time loading torch.
    done = CliRunner().invoke(app, [places.get(argument, argument) for argument in arguments])
    assert isinstance(done.exception, InputError)
    assert message in str(done.exception)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_an_error_ends_with_exit_code_2_and_no_traceback(released, halosign_process):
    done = halosign_process("train", "--release", "9.9.9", "--store", released.url)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no such release" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"variant": "4dmm"}, "no such network: got 4dmm"),
        ({"auxiliary": "whispered"}, "no such use of the auxiliary masks: got whispered"),
        ({"device": "cuda:99"}, "no such device: got cuda:99"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_read(asked, words):
    job = {"variant": "3dmm", "auxiliary": "told", "device": "cpu"} | asked
    with pytest.raises(InputError, match=words):
        make_training_job("./no-store", "0.1.0", recipe=None, settings=None, **job)


def test_networks_trained_side_by_side_are_those_trained_one_by_one(
    released, undisturbed, tmp_path
):
    copy = copy_of(released, tmp_path)
    shutil.rmtree(f"{copy.url}/checkpoints")
    shutil.rmtree(f"{copy.url}/trainings")
    first = replace(training_job(copy.url), device="cuda:7")
    jobs = [first, replace(first, auxiliary="none")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))
        fit_side_by_side.fn(jobs, ["cpu", "cpu"])
    digests = [find_checkpoint(copy, training_id_of(job)) for job in jobs]
    assert digests[0] == undisturbed.digest
    assert digests[1] not in (None, digests[0])
    previews = Path(copy.url, "trainings", training_id_of(jobs[1]), "samples")
    assert list(previews.glob("*.png"))


@pytest.mark.slow
def test_one_that_cannot_be_trained_ends_those_beside_it(released, tmp_path):
    """The others would take days; they resume when they are asked for again."""
    copy = copy_of(released, tmp_path)
    good = training_job(copy.url)
    bad = replace(good, variant="4dmm")
    endless = replace(good, auxiliary="untold", training=replace(good.training, epochs=100_000))
    with pytest.raises(InputError, match="4dmm"):
        fit_side_by_side.fn([endless, bad], ["cpu", "cpu"])

"""Training on a release: what is reported, stored, resumed, and what the training's id covers."""

from collections import Counter
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch

from matting.errors import InputError
from matting.learned.batches import TENSORS, make_batch, random_flip_rotate
from matting.learned.prediction import Prediction, predict
from matting.learned.training import Trainer
from storage.releases.reader import ReleaseReader
from storage.releases.release import Release
from storage.releases.torch_dataset import ReleaseDataset
from storage.results.checkpoints import find_checkpoint, find_state, write_state
from tasks.learning import callbacks, crops, train
from tasks.learning.callbacks import StepInfo
from tasks.learning.crops import TrainingCrops
from tasks.learning.load import load_network
from tasks.learning.train import TrainingJob, intensity_range, learn, training_id_of
from tasks.scoring.network import predict_nodules
from tests.tasks.learning.conftest import TRAINING

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def job_on(release: Release, **changes: object) -> TrainingJob:
    return replace(TrainingJob(release, "3dmm-mg", "told", TRAINING, "cpu"), **changes)


class Stopped(Exception):
    """Raised in place of a kill."""


def stop_at(step: int):
    def on_step(info: StepInfo) -> None:
        if info.step == step:
            raise Stopped

    return on_step


def test_a_training_reports_stores_and_previews_what_it_did(release):
    steps, snapshots, lengths = [], [], []

    def on_epoch(snapshot):
        snapshots.append(snapshot)
        lengths.append(len(snapshot.rows))

    job = job_on(release)
    checkpoint = learn(job, on_step=steps.append, on_epoch=on_epoch)
    reader = ReleaseReader(release)
    assert Counter(reader.splits.values()) == {"train": 3, "validation": 3, "test": 2}
    assert steps == [StepInfo((n + 1) // 2, 3, n, 6) for n in range(1, 7)]

    # Previews after every second epoch and after the last
    assert lengths == [2, 3]
    last = snapshots[-1]
    assert (last.training, last.split) == (training_id_of(job), "validation")
    assert not last.synthetic
    assert [row["epoch"] for row in last.rows] == [1, 2, 3]
    assert [row["sad"] is None for row in last.rows] == [True, False, False]
    assert [sample.nodule_id for sample in last.samples] == list(reader.nodules("validation"))
    differences = [np.abs(s.predicted.astype(float) - s.truth) for s in last.samples]
    assert last.rows[-1]["sad"] == pytest.approx(np.mean([d.sum() for d in differences]))
    assert last.rows[-1]["mse"] == pytest.approx(np.mean([(d**2).mean() for d in differences]))

    # The checkpoint's weights are those that made the last preview
    network = load_network(checkpoint, CPU)
    for sample in last.samples:
        valid = reader.read(sample.nodule_id, "validity") > 0
        again = predict(network, sample.image_hu, valid, intensity_range(reader))
        np.testing.assert_allclose(again.alpha, sample.predicted, atol=1e-6)
        union = (reader.read(sample.nodule_id, "readers") > 0).any(axis=0)
        assert np.array_equal(sample.union, union)

    config = checkpoint.config
    assert (config.variant, config.auxiliary, config.release) == ("3dmm-mg", "told", "0.1.0")
    assert (config.partition, config.nodules, config.threads) == (0, 3, (1,))
    assert (config.device, config.precision, config.spacing_mm) == ("cpu", "single", 0.5)
    assert config.intensity_range_hu == intensity_range(reader) == (-1000.0, 400.0)
    assert list(config.epochs) == last.rows
    assert config.training == replace(TRAINING, at_once=2, look_every=1)  # the machine's: defaults
    assert find_checkpoint(release.store, training_id_of(job)) == checkpoint.digest


def test_a_stopped_training_resumes_from_the_stored_state_and_a_finished_one_is_read(
    release, monkeypatch, caplog
):
    job = job_on(release, training=replace(TRAINING, epochs=2, look_every=0))
    name = training_id_of(job)
    with pytest.raises(Stopped):
        learn(job, on_step=stop_at(2))
    assert find_state(release.store, name) is None, "less than SAVE_INTERVAL_S have passed"

    monkeypatch.setattr(callbacks, "SAVE_INTERVAL_S", 0.0)
    with pytest.raises(Stopped):
        learn(job, on_step=stop_at(3))
    tensors, state = find_state(release.store, name)
    assert (state.trainer.steps, state.threads, len(state.rows)) == (2, [1], 1)
    write_state(release.store, name, tensors, replace(state, threads=[4]))

    steps = []
    resumed = learn(job, on_step=steps.append)
    assert [info.step for info in steps] == [3, 4]
    assert "continues with 1 CPU threads after 4" in caplog.text
    assert resumed.config.threads == (4, 1)
    assert [row["sad"] for row in resumed.config.epochs] == [None, None]

    assert learn(job, on_step=stop_at(1)).digest == resumed.digest
    steps.clear()
    scratch = learn(job, resume=False, on_step=steps.append)
    assert [info.step for info in steps] == [1, 2, 3, 4]
    assert all(
        np.array_equal(scratch.weights[name], resumed.weights[name]) for name in resumed.weights
    )


def test_the_id_covers_what_determines_the_weights_and_nothing_else(release):
    job = job_on(release)
    changed = {
        training_id_of(job_on(release, **changes))
        for changes in (
            {},
            {"variant": "3dmm"},
            {"auxiliary": "untold"},
            {"auxiliary": "none"},
            {"training": replace(TRAINING, seed=9)},
            {"partition": 1},
        )
    }
    assert len(changed) == 6
    assert training_id_of(job_on(release, device="cuda")) == training_id_of(job)


@pytest.mark.parametrize("symmetries", [True, False])
def test_the_trainer_is_fed_the_crops_of_its_epoch(release, monkeypatch, symmetries):
    loads = []
    monkeypatch.setattr(Trainer, "run", lambda _, load, **__: loads.append(load))
    training = replace(TRAINING, symmetries=symmetries)
    learn(job_on(release, training=training))
    crops = ReleaseDataset(
        release,
        ReleaseReader(release).nodules("train"),
        crop_zyx=training.crop_zyx,
        seed=training.seed,
        focus=training.focus,
    )
    for epoch in (2, 0):
        crops.set_epoch(epoch)
        batches = list(loads[0](epoch, [[2], [0, 1]]))
        assert [len(batch.image) for batch in batches] == [1, 2]
        expected = {name: [] for name in TENSORS}
        for index in (2, 0, 1):
            crop = crops[index]
            if symmetries:
                crop = random_flip_rotate(crop, training.seed, epoch, index)
            for name in TENSORS:
                expected[name].append(crop[name])
        stacked = {name: torch.stack(values) for name, values in expected.items()}
        whole = make_batch(stacked, (-1000.0, 400.0))
        assert torch.equal(torch.cat([batch.image for batch in batches]), whole.image)
        alphas = torch.cat([batch.targets.alpha for batch in batches])
        assert torch.equal(alphas, whole.targets.alpha)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ({"test"}, "no nodule in test"),
        ({"train"}, "no nodule in train"),
        ({"train", "test"}, "no nodule in train and test"),
    ],
)
def test_a_release_without_a_split_is_refused(release, monkeypatch, missing, message):
    splits = {"train", "validation", "test"} - missing
    names = sorted(release.members)
    assigned = {name: sorted(splits)[n % len(splits)] for n, name in enumerate(names)}
    monkeypatch.setattr(Release, "splits", lambda *_: assigned)
    with pytest.raises(InputError, match=f"cannot be learned from on partition 2: got {message}"):
        training_id_of(job_on(release, partition=2))


def test_previews_come_from_the_training_split_without_validation_and_are_few(release, monkeypatch):
    names = sorted(release.members)
    splits = {name: "test" if n == 0 else "train" for n, name in enumerate(names)}
    monkeypatch.setattr(Release, "splits", lambda *_: splits)
    monkeypatch.setattr(callbacks, "PREVIEW_NODULES", 3)
    snapshots = []
    learn(
        job_on(release, training=replace(TRAINING, epochs=1, batch=8, look_every=5)),
        on_epoch=snapshots.append,
    )
    assert snapshots[0].split == "train"
    # First, last and the one between of seven
    assert [s.nodule_id for s in snapshots[0].samples] == [names[1], names[4], names[7]]


@pytest.mark.parametrize(("highest", "warned"), [(0.4, True), (0.6, False)])
def test_a_network_that_finds_no_lesion_is_said(release, monkeypatch, caplog, highest, warned):
    def predicted(network, image, *_, **__):
        alpha = np.zeros(image.shape, np.float32)
        alpha[0, 0, 0] = highest
        return Prediction(alpha, None, None)

    monkeypatch.setattr(callbacks, "predict", predicted)
    learn(job_on(release, training=replace(TRAINING, epochs=1, look_every=1)))
    assert ("the network finds no lesion in any of" in caplog.text) == warned


def test_a_network_of_coarser_voxels_knows_its_spacing(release, monkeypatch):
    """Twice the release's spacing: crops of the release are twice as large, and pooled."""
    seen = []

    class Watched(ReleaseDataset):
        def __init__(self, *given, **how):
            seen.append(how)
            super().__init__(*given, **how)

    monkeypatch.setattr(crops, "ReleaseDataset", Watched)
    coarse = replace(TRAINING, pooling=2, crop_zyx=(16, 16, 32), fitted=True, epochs=1)
    job = TrainingJob(release, "3dmm-mg", training=coarse)
    trained = learn(job)
    (how,) = seen
    assert how["crop_zyx"] == [32, 32, 64]
    assert how["fitted"] == 32
    assert trained.config.spacing_mm == 2 * release.manifest.recipe["resample"]["spacing_mm"]
    assert trained.config.training == replace(coarse, at_once=2, look_every=1)
    (nodule, *_) = ReleaseReader(release).nodules("test")
    predicted = predict_nodules(release, trained.digest, [nodule], "cpu")[nodule]
    assert predicted.alpha.shape == ReleaseReader(release).read(nodule, "image").shape
    plain = TrainingJob(release, "3dmm-mg", training=replace(coarse, pooling=1))
    assert training_id_of(plain) != training_id_of(job)


@pytest.mark.parametrize(
    "change", [{"at_once": 2}, {"look_every": 0}, {"precision": "half"}, {"compiled": True}]
)
def test_what_suits_the_machine_is_no_part_of_a_training_s_name(release, change):
    here, there = (
        job_on(release, training=replace(TRAINING, **one)) for one in ({"at_once": 1}, change)
    )
    assert training_id_of(here) == training_id_of(there)
    assert training_id_of(here) != training_id_of(
        job_on(release, training=replace(TRAINING, seed=3))
    )


def test_a_training_on_a_bucket_keeps_its_volumes_until_nothing_is_read_any_more(
    release, monkeypatch
):
    seen = []
    make, window_mm = train._crop_cache, TrainingCrops.window_mm

    @contextmanager
    def watched(store):
        monkeypatch.setattr(store, "url", "s3://bucket/set")
        with make(store) as folder:
            monkeypatch.undo()
            seen.append(folder)
            yield folder
        seen.append("removed")

    def read(crops, spacing_mm):
        assert crops.nodules.reader.cache == seen[-1]
        assert seen[-1].is_dir()
        return window_mm(crops, spacing_mm)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "_crop_cache", watched)
        patch.setattr(TrainingCrops, "window_mm", read)
        learn(job_on(release))
    assert seen[1:] == ["removed"]
    assert not seen[0].exists()


def test_a_training_on_a_folder_copies_nothing(release):
    with train._crop_cache(release.store) as folder:
        assert folder is None

"""Batches that other processes read for a GPU."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import tasks.learning.crops
from matting.learned.batches import Batch
from storage.releases.reader import ReleaseReader
from tasks.learning.crops import BYTES_A_POOLED_VOXEL, BYTES_A_VOXEL, BatchLoader, TrainingCrops
from tasks.learning.negatives import Surroundings
from tests.tasks.learning.conftest import TRAINING

RANGE_HU = (-1000.0, 400.0)


@pytest.mark.filterwarnings("ignore:.*pin_memory:UserWarning")
def test_processes_that_read_for_a_gpu_give_the_batches_of_one_process(release, monkeypatch):
    """In two epochs with one set of processes: each draws the crops of its epoch."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    nodules = ReleaseReader(release).nodules("train")
    crops = TrainingCrops(release, nodules, replace(TRAINING, symmetries=True))
    alone, others = (BatchLoader(crops, RANGE_HU, torch.device(d)) for d in ("cpu", "cuda"))
    assert (alone.loader.num_workers, others.loader.num_workers) == (0, 2)
    assert others.loader.pin_memory
    for epoch in (0, 1):
        pairs = zip(alone(epoch, [[0, 2], [1]]), others(epoch, [[0, 2], [1]]), strict=True)
        for expected, found in pairs:
            assert isinstance(found, Batch)
            assert 0 <= float(found.image.min()) <= float(found.image.max()) <= 1
            assert torch.equal(found.image_hu, expected.image_hu)
            assert found.image_hu.dtype == torch.int16
            assert all(map(torch.equal, found.targets, expected.targets))


@pytest.mark.parametrize(
    ("at_once", "crop", "free_mb", "processes"),
    [
        (16, 96, 64, 0),  # what a container has if nothing is set: one batch is 127 MB
        (16, 96, 400, 1),
        (16, 96, 700, 2),
        (1, 96, 64, 2),
    ],
)
def test_no_more_processes_read_than_shared_memory_holds_the_batches_of(
    at_once, crop, free_mb, processes, release, monkeypatch, caplog, tmp_path
):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(tasks.learning.crops, "SHARED_MEMORY", tmp_path)
    disk = SimpleNamespace(free=free_mb * 1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: disk if path == tmp_path else None)
    training = replace(TRAINING, crop_zyx=(crop, crop, crop), at_once=at_once)
    crops = TrainingCrops(release, ReleaseReader(release).nodules("train"), training)
    loader = BatchLoader(crops, RANGE_HU, torch.device("cuda")).loader
    assert loader.num_workers == processes
    assert ("(--shm-size)" in caplog.text) == (processes < 2)
    monkeypatch.setattr(tasks.learning.crops, "SHARED_MEMORY", tmp_path / "none")
    assert BatchLoader(crops, RANGE_HU, torch.device("cuda")).loader.num_workers == 2


@pytest.mark.parametrize(
    ("pooling", "bytes_a_voxel"), [(1, BYTES_A_VOXEL), (2, BYTES_A_POOLED_VOXEL)]
)
def test_a_batch_takes_the_memory_that_is_counted(pooling, bytes_a_voxel, release):
    """Crops with and without a nodule alike, in one batch."""
    lung = Surroundings(
        np.full((64, 64, 64), -850, np.int16), np.ones((64, 64, 64), bool), (32,) * 3
    )
    training = replace(TRAINING, pooling=pooling)
    nodules = ReleaseReader(release).nodules("train")
    crops = TrainingCrops(release, nodules, training, (lung,))
    (batch,) = BatchLoader(crops, RANGE_HU, torch.device("cpu"))(0, [[0, len(nodules)]])
    assert len(batch.image_hu) == 2
    tensors = (batch.image_hu, *batch.targets)
    assert sum(tensor.nbytes for tensor in tensors) == bytes_a_voxel * batch.image_hu.numel()

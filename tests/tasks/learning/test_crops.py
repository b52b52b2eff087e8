"""Batches that other processes read for a GPU."""

from dataclasses import replace

import pytest
import torch

from matting.learned.batches import Batch
from storage.releases.reader import ReleaseReader
from tasks.learning.crops import BatchLoader, TrainingCrops
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
            assert torch.equal(found.image, expected.image)
            assert all(map(torch.equal, found.targets, expected.targets))

"""Classifiers of nodules: they learn what can be learned, the same every time."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.networks.nets.resnet import ResNet

from matting.diagnosis.auroc import auroc
from matting.diagnosis.classifier import (
    BACKBONES,
    build_classifier,
    classify,
    fold_patients,
    train_classifier,
)
from matting.errors import InputError
from matting.parameters import DiagnosisSettings

CPU = torch.device("cpu")
QUICK = DiagnosisSettings(
    backbones=("resnet34",), side_voxels=16, epochs=4, batch=8, rate=3e-4, warm_up_epochs=0.5
)


@pytest.fixture(scope="module")
def balls():
    """Large balls and small ones."""
    rng = np.random.default_rng(0)
    distance = np.sqrt((np.stack(np.indices((16, 16, 16)) - 7.5) ** 2).sum(axis=0))
    malignant = np.arange(32) % 2 == 1
    radii = np.where(malignant, 5.5, 3.0) + rng.normal(0, 0.4, 32)
    return (distance[None] <= radii[:, None, None, None]).astype(np.float16), malignant


@pytest.fixture
def small_backbone(monkeypatch):
    """A ResNet of a few thousand weights in place of ResNet-34, whose optimizer steps take long."""

    def build():
        return ResNet(
            "basic",
            [1, 1, 1, 1],
            [4, 8, 8, 8],
            spatial_dims=3,
            n_input_channels=1,
            num_classes=1,
            conv1_t_stride=2,
        )

    monkeypatch.setitem(BACKBONES, "resnet34", build)


def test_what_can_be_told_apart_is_and_twice_the_same(balls, small_backbone):
    volumes, malignant = balls

    def scores(seed):
        settings = replace(QUICK, epochs=12, rate=1e-2)
        network = train_classifier(volumes[:20], malignant[:20], "resnet34", settings, seed, CPU)
        return classify(network, volumes[20:], settings)

    first = scores(1)
    assert auroc(first, malignant[20:]).value > 0.9
    assert np.array_equal(scores(1), first)
    assert not np.array_equal(scores(2), first)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_takes_one_channel_and_gives_one_number(backbone):
    network = build_classifier(backbone, 0).eval()
    with torch.inference_mode():
        assert network(torch.zeros(1, 1, 32, 32, 32)).shape == (1, 1)


def test_the_seed_alone_decides_the_first_weights():
    first = build_classifier("densenet121", 3).state_dict()
    torch.rand(7)
    again, other = (build_classifier("densenet121", seed).state_dict() for seed in (3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_folds_leave_patients_whole_and_hold_both_kinds():
    rng = np.random.default_rng(2)
    patients = [f"P{n}" for n in rng.integers(0, 40, 100)]
    malignant = rng.random(100) < 0.3
    folds = fold_patients(patients, malignant, 4, seed=1)
    for patient in set(patients):
        assert (
            len({fold for fold, owner in zip(folds, patients, strict=True) if owner == patient})
            == 1
        )
    for fold in range(4):
        assert {True, False} == set(malignant[folds == fold])
    # The order of the nodules does not count; the seed does.
    turned = fold_patients(patients[::-1], malignant[::-1], 4, seed=1)[::-1]
    assert np.array_equal(folds, turned)
    assert not np.array_equal(folds, fold_patients(patients, malignant, 4, seed=2))


def test_what_cannot_be_learned_from_is_refused(balls):
    volumes, malignant = balls
    with pytest.raises(InputError, match="cannot learn"):
        train_classifier(volumes[malignant], malignant[malignant], "resnet34", QUICK, 1, CPU)
    with pytest.raises(InputError, match="this precision"):
        train_classifier(
            volumes, malignant, "resnet34", replace(QUICK, precision="bfloat16"), 1, CPU
        )
    with pytest.raises(InputError, match="no such backbone"):
        build_classifier("resnet18", 1)
    with pytest.raises(InputError, match="too few"):
        fold_patients(["a", "b", "c"], np.array([True, False, False]), 3, 1)

"""Which networks the experiments train, which they find, and the scores that count."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from matting.errors import InputError
from matting.parameters import TrainingSettings
from storage.recipe import EvaluationSettings, Recipe
from storage.results.scores import METHOD_SCORES, Score
from tasks.experiments import networks
from tasks.experiments.networks import (
    AS_ASKED,
    Network,
    find_networks,
    method_scores,
    network_scores,
    not_trained,
    open_partitions,
    table_2_variants,
    trainings,
)
from tasks.learning.train import LEARNING_VERSION

RECIPE = Recipe(evaluation=EvaluationSettings(partitions=3, trained_partitions=2))
SPLITS = {
    0: {"a": "train", "b": "test", "c": "test"},
    1: {"a": "test", "b": "train", "c": "train"},
    2: {"a": "train", "b": "train", "c": "train"},
}


class Reader:
    """A reader whose nodules are those of SPLITS."""

    version = "0.1.0"

    def __init__(self, release, partition=0):
        self.release = release
        self.partition = partition
        self.splits = release.partitions[partition]

    def nodules(self, split=None):
        return tuple(name for name, own in self.splits.items() if split in (None, own))


@pytest.fixture
def release(monkeypatch):
    """A release of SPLITS, with the store replaced by dictionaries."""
    monkeypatch.setattr(networks, "ReleaseReader", Reader)
    checkpoints, configs, scores = {}, [], {}
    monkeypatch.setattr(
        networks, "training_id_of", lambda job: (job.variant, job.auxiliary, job.partition)
    )
    monkeypatch.setattr(networks, "find_checkpoint", lambda _, training: checkpoints.get(training))
    monkeypatch.setattr(networks, "read_checkpoint_configs", lambda *_: configs)
    monkeypatch.setattr(networks, "list_scored_nodules", lambda *args: set(scores.get(args[2], {})))
    monkeypatch.setattr(
        networks,
        "read_nodule_scores",
        lambda *args: [scores[args[2]][name] for name in args[3]],
    )
    return SimpleNamespace(
        store=None,
        version="0.1.0",
        partitions=SPLITS,
        checkpoints=checkpoints,
        configs=configs,
        scores=scores,
    )


def score(nodule, matte="3dmm-mg"):
    return Score(nodule, matte, "released", "whole", 10, 1.0, 0.1, 2.0, 3.0)


def config(digest, partition=0, negatives=0, learning=LEARNING_VERSION, **training):
    settings = replace(TrainingSettings(), **training)
    return SimpleNamespace(
        digest=digest,
        partition=partition,
        variant="3dmm-mg",
        auxiliary="told",
        training=settings,
        negatives=negatives,
        content_key={
            "training": {"epochs": settings.epochs},
            "partition": partition,
            "learning": learning,
        },
    )


def test_only_partitions_with_test_nodules_are_opened(release):
    readers = open_partitions(release, 3)
    assert {k: reader.partition for k, reader in readers.items()} == {0: 0, 1: 1}
    release.partitions = {0: SPLITS[2]}
    with pytest.raises(InputError, match="got no nodule in the test split of 1 partitions"):
        open_partitions(release, 1)


def test_table_2_has_every_variant_told_of_the_masks_and_not():
    variants = RECIPE.evaluation.variants
    expected = [(variant, masks) for variant in variants for masks in ("told", "untold")]
    assert table_2_variants(RECIPE) == expected


def test_networks_are_trained_on_each_partition_with_a_training_split(release):
    jobs = list(trainings(release, RECIPE, "cuda"))
    pairs = table_2_variants(RECIPE)
    expected = [(*pair, partition) for partition in (0, 1) for pair in pairs]
    assert sorted((j.variant, j.auxiliary, j.partition) for j in jobs) == sorted(expected)
    assert [job.partition for job in jobs] == [0] * 6 + [1] * 6
    assert {job.device for job in jobs} == {"cuda"}
    assert all(job.training == RECIPE.training for job in jobs)
    release.partitions = {0: {"b": "test"}, 1: SPLITS[1]}
    assert {job.partition for job in trainings(release, RECIPE, "cpu")} == {1}


def test_networks_of_the_recipe_come_first_and_others_say_how_they_were_trained(release):
    release.checkpoints |= {
        ("3dmm-mg", "told", 0): "d0",
        ("3dmm-mg", "told", 1): "d1",
        ("3dmm", "told", 0): "d2",
    }
    release.configs += [
        config("d0"),
        config("zz1234567", 0, 120, epochs=5, batch=2, crop_zyx=(16, 32, 32), focus=0.5),
        config("yy1234567", partition=1, epochs=5, batch=2),
        config("aa1234567", epochs=7, learning=LEARNING_VERSION - 1),
    ]
    found = {network.label: network for network in find_networks(release, RECIPE)}
    assert found["3dmm-mg"] == Network("3dmm-mg", AS_ASKED, {0: "d0", 1: "d1"})
    assert found["3dmm"].digests == {0: "d2"}
    others = list(found)[2:]
    assert others == ["3dmm-mg aa1234", "3dmm-mg zz1234"]
    # The same settings on another partition are the same network
    other = found["3dmm-mg zz1234"]
    assert other.digests == {0: "zz1234567", 1: "yy1234567"}
    told = "5 epochs, batch 2, crops 16x32x32, focus 0.5, 120 points without a nodule"
    assert other.training == told
    assert found["3dmm-mg aa1234"].training.startswith("7 epochs, ")
    assert found["3dmm-mg aa1234"].training.endswith(", by an earlier version")
    missing = not_trained(release, RECIPE)
    assert sum(len(line.partition(" on partition ")[2].split()) for line in missing) == 12 - 3
    assert "3dmm on partition 1" in missing
    assert "3dmm-m (untold) on partition 0 1" in missing


def test_only_networks_scored_on_all_their_nodules_count(release):
    readers = open_partitions(release, 2)
    network = Network("3dmm-mg 12", AS_ASKED, {1: "d1", 0: "d0", 2: "d2"})
    release.scores |= {"d0": {"b": score("b")}, "d1": {"a": score("a")}, "d2": {"a": score("a")}}
    found = network_scores(None, network, readers, None)
    # On partition 0 nodule c is missing, and partition 2 has no reader
    assert found == {1: [score("a", "3dmm-mg 12")]}
    release.scores["d0"]["c"] = score("c")
    assert [s.nodule for s in network_scores(None, network, readers, None)[0]] == ["b", "c"]
    assert len(network_scores(None, network, readers, 1)[0]) == 1
    otherwise = replace(network, training="5 epochs")
    assert len(network_scores(None, otherwise, readers, 1)[0]) == 2


def test_methods_are_scored_on_every_test_split(release):
    release.scores[METHOD_SCORES] = {name: score(name, "cf") for name in "abc"}
    found = method_scores(None, open_partitions(release, 2))
    assert {k: [s.nodule for s in scores] for k, scores in found.items()} == {
        0: ["b", "c"],
        1: ["a"],
    }

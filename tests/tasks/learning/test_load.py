"""Weights that are not those of the network that their configuration names."""

import re

import numpy as np
import pytest
import torch

from matting.learned.network import VARIANTS, build_network
from storage.errors import CorruptionError
from storage.results.checkpoints import Checkpoint
from tasks.learning.load import load_network
from tests.cases import checkpoint_config

CPU = torch.device("cpu")
FIRST = "features.stem.bias"


def weights_of(variant, auxiliary="told"):
    return {
        name: one.numpy() for name, one in build_network(variant, auxiliary).state_dict().items()
    }


def without_the_first(weights):
    return {name: values for name, values in weights.items() if name != FIRST}


@pytest.mark.parametrize("auxiliary", ["told", "untold", "none"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_weights_of_a_network_are_loaded(variant, auxiliary):
    weights = weights_of(variant, auxiliary)
    config = checkpoint_config(variant=variant, auxiliary=auxiliary)
    loaded = load_network(Checkpoint(weights, config), CPU).state_dict()
    assert all(np.array_equal(loaded[name].numpy(), values) for name, values in weights.items())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda _: {}, "got none, expected float32 of shape"),
        (without_the_first, f"tensor '{FIRST}': got none, expected float32 of shape 4"),
        (lambda w: {**w, "extra": np.float32(1)}, "'extra': got float32 of shape 1, expected none"),
        (lambda w: {**w, FIRST: w[FIRST][:-1]}, "got float32 of shape 3, expected float32 of sha"),
        (lambda w: {**w, FIRST: w[FIRST].astype(np.float16)}, "got float16 of shape 4, expected"),
        (lambda w: {**w, FIRST: w[FIRST].reshape(2, 2)}, "got float32 of shape 2x2, expected"),
        (lambda _: weights_of("3dmm-m"), "expected float32 of shape"),
        (lambda _: weights_of("3dmm-mg", auxiliary="none"), "got none, expected float32 of shape"),
    ],
)
def test_other_weights_are_refused_in_words(change, reason):
    config = checkpoint_config(digest="d1")
    expected = f"network d1 is not of a 3dmm-mg: .*{re.escape(reason)}.* Fetch the network again"
    with pytest.raises(CorruptionError, match=expected):
        load_network(Checkpoint(change(weights_of("3dmm-mg")), config), CPU)

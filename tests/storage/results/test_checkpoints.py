import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save

from matting.errors import InputError
from storage.errors import CorruptionError
from storage.records import TrainerProgress, TrainingState, encode
from storage.results.checkpoints import (
    checkpoint_prefix,
    find_state,
    read_checkpoint,
    training_id,
    write_checkpoint,
    write_state,
)
from tests.cases import checkpoint_config

WEIGHTS = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.float32([1.5])}
CONFIG = checkpoint_config(auxiliary="none")


def test_a_checkpoint_comes_back_and_is_named_by_its_weights(store):
    made = write_checkpoint(store, WEIGHTS, CONFIG, {"losses.csv": b"epoch\n"})
    again = read_checkpoint(f"{store.url}/{checkpoint_prefix(made.digest)}")
    assert all(np.array_equal(again.weights[name], values) for name, values in WEIGHTS.items())
    assert (again.digest, again.label) == (made.digest, "3dmm-mg (no masks)")
    assert store.get(f"{checkpoint_prefix(made.digest)}/losses.csv") == b"epoch\n"
    other = write_checkpoint(store, WEIGHTS | {"b": np.float32([1.25])}, CONFIG, {})
    elsewhere = write_checkpoint(
        store, WEIGHTS, replace(CONFIG, content_key={"variant": "3dmm"}), {}
    )
    assert len({made.digest, other.digest, elsewhere.digest}) == 3


def test_a_copied_folder_is_a_checkpoint_too(store, tmp_path):
    made = write_checkpoint(store, WEIGHTS, CONFIG, {})
    for name in ("config.json", "weights.safetensors"):
        (tmp_path / name).write_bytes(store.get(f"{checkpoint_prefix(made.digest)}/{name}"))
    assert read_checkpoint(str(tmp_path)).digest == made.digest


def test_other_weights_than_the_config_names_are_damage(store):
    made = write_checkpoint(store, WEIGHTS, CONFIG, {})
    key = f"{checkpoint_prefix(made.digest)}/weights.safetensors"
    store.put(key, store.get(key)[:-1] + b"\x01")
    with pytest.raises(
        CorruptionError, match=r"SHA-256 of .*weights\.safetensors is not the one in config\.json"
    ):
        read_checkpoint(f"{store.url}/{checkpoint_prefix(made.digest)}")


def raw(kind, size):
    """Return weights as safetensors of one number of a type."""
    header = {"a": {"dtype": kind, "shape": [1], "data_offsets": [0, size]}}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + b"\x01" * size


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        (save({"a": np.float32([np.nan])}), "a weight is not finite"),
        (save({"a": np.float32([1, np.inf])}), "a weight is not finite"),
        (raw("BF16", 2), "numbers of type 'BF16'"),
        (raw("F32", 4)[:-1], "Error while deserializing"),
        (raw("X", 4), "unknown variant"),
        (b"", "Error while deserializing"),
    ],
)
def test_weights_that_are_none_are_damage_even_with_their_sha256(store, weights, reason):
    config = replace(CONFIG, digest="d" * 64, weights_sha256=hashlib.sha256(weights).hexdigest())
    store.put("checkpoints/d/weights.safetensors", weights)
    store.put("checkpoints/d/config.json", encode(config))
    with pytest.raises(CorruptionError, match=f"cannot be read: .*{reason}.*Fetch the network"):
        read_checkpoint(f"{store.url}/checkpoints/d")


@pytest.mark.parametrize("place", ["", "checkpoints/none"])
def test_no_checkpoint_is_refused(store, place):
    with pytest.raises(InputError, match="there is no checkpoint here"):
        read_checkpoint(f"{store.url}/{place}")


def test_a_state_comes_back_bit_by_bit_with_its_facts(store):
    facts = TrainingState(
        TrainerProgress(3, [0.1, 1 / 3, 1e-300], 2, [{"epoch": 1}], {}), [{"sad": None}], [2]
    )
    assert find_state(store, "t") is None
    turned = {**WEIGHTS, "t": WEIGHTS["a.weight"].T}
    write_state(store, "t", turned, facts)
    tensors, again = find_state(store, "t")
    assert again == facts
    assert all(np.array_equal(tensors[name], values) for name, values in turned.items())
    store.put("trainings/t/state.safetensors", json.dumps({"no": "tensors"}).encode())
    with pytest.raises(CorruptionError, match="is not the state of a training"):
        find_state(store, "t")


def test_a_training_is_named_by_its_order():
    assert (
        training_id({"a": 1, "b": 2})
        == training_id({"b": 2, "a": 1})
        != training_id({"a": 1, "b": 3})
    )

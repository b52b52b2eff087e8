"""Trainings under way and the networks that came of them.

    trainings/<id>/state.safetensors   where a training stands, whole; one key, so it is the old state or the new one
    trainings/<id>/…                   the early look: curves, losses, sample mattes
    checkpoints/<digest>/              weights.safetensors, losses and curves, and config.json, written last

A training is named by its order, a checkpoint by its weights and what they come from. Weights are read as arrays;
nothing stored is ever executed.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from matting.errors import InputError
from storage.errors import CorruptionError, NotFoundError
from storage.layout import CHECKPOINTS, TRAININGS
from storage.store import Store, canonical_json, open_place

Tensors = dict[str, NDArray[np.float32]]
CONFIG, WEIGHTS = "config.json", "weights.safetensors"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A trained network as stored."""

    weights: Tensors
    config: dict[str, Any]
    """Variant, training, release, code, losses; `digest` names the checkpoint."""

    @property
    def digest(self) -> str:
        """The checkpoint's name."""
        return str(self.config["digest"])

    @property
    def label(self) -> str:
        """The network's name as tables print it."""
        return network_label(self.config["variant"], self.config["auxiliary"])


def network_label(variant: str, auxiliary: bool) -> str:
    """Name a network as tables print it."""
    return variant if auxiliary else f"{variant} (no masks)"


def training_id(order: Mapping[str, Any]) -> str:
    """Name a training by all that decides it."""
    return hashlib.sha256(canonical_json(order)).hexdigest()[:16]


def save_state(store: Store, name: str, tensors: Tensors, facts: Mapping[str, Any]) -> None:
    """Store where a training stands, in place of what was stored before."""
    metadata = {"facts": json.dumps(facts, sort_keys=True)}
    store.put(_state_key(name), save(_contiguous(tensors), metadata))


def load_state(store: Store, name: str) -> tuple[Tensors, dict[str, Any]] | None:
    """Read where a training stands; None where it was not begun. Raises CorruptionError for what cannot be read."""
    try:
        data = store.get(_state_key(name))
    except NotFoundError:
        return None
    try:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        return dict(load(data)), json.loads(header["__metadata__"]["facts"])
    except (SafetensorError, ValueError, KeyError) as error:
        raise CorruptionError(
            f"{_state_key(name)} is no state of a training: {error}. Remove it to begin anew."
        ) from error


def save_look(store: Store, name: str, files: Mapping[str, bytes]) -> None:
    """Store what people look at while a training runs."""
    for file, data in sorted(files.items()):
        store.put(f"{TRAININGS}/{name}/{file}", data)


def look_place(store: Store, name: str) -> str:
    """Tell where the early look lies."""
    return f"{store.url}/{TRAININGS}/{name}"


def last_look(store: Store, checkpoint: Checkpoint) -> tuple[bytes, bytes]:
    """Give the curves and the sample mattes of the training that a checkpoint came from, as PNG."""
    folder = f"{TRAININGS}/{training_id(checkpoint.config['decides'])}"
    newest = store.children(f"{folder}/samples")[1][-1]
    return store.get(f"{folder}/curves.png"), store.get(f"{folder}/samples/{newest}")


def write_checkpoint(
    store: Store, weights: Tensors, config: Mapping[str, Any], files: Mapping[str, bytes]
) -> Checkpoint:
    """Store a trained network; the same weights of the same training give the same digest.

    Args:
        store: Where to.
        weights: By the network's own names.
        config: All that a user of the weights must know; `decides` in it enters the digest.
        files: What else belongs to it: losses, curves.
    """
    data = save(_contiguous(weights))
    sha256 = hashlib.sha256(data).hexdigest()
    digest = hashlib.sha256(
        canonical_json({"weights": sha256, "decides": config["decides"]})
    ).hexdigest()
    whole = {**config, "digest": digest, "weights_sha256": sha256}
    prefix = checkpoint_prefix(digest)
    if store.size(f"{prefix}/{CONFIG}") is None:
        for name, content in sorted({**files, WEIGHTS: data}.items()):
            store.put(f"{prefix}/{name}", content)
        store.put(f"{prefix}/{CONFIG}", json.dumps(whole, indent=1, sort_keys=True).encode())
    return read_checkpoint(f"{store.url}/{prefix}")


def find_checkpoint(store: Store, name: str) -> str | None:
    """Give the digest of the checkpoint that a training ended in; None where it has not ended."""
    try:
        return str(store.get_json(f"{TRAININGS}/{name}/checkpoint.json")["digest"])
    except NotFoundError:
        return None


def close_training(store: Store, name: str, digest: str) -> None:
    """Note the checkpoint that a training ended in."""
    store.put(f"{TRAININGS}/{name}/checkpoint.json", canonical_json({"digest": digest}))


def read_checkpoint(place: str) -> Checkpoint:
    """Read a trained network.

    Args:
        place: Folder or URL that holds config.json and weights.safetensors, e.g. ``./store/checkpoints/<digest>``.

    Raises:
        InputError: There is no checkpoint there.
        CorruptionError: The weights are not what was written.
    """
    shelf = open_place(place)
    try:
        config, data = shelf.get_json(CONFIG), shelf.get(WEIGHTS)
    except NotFoundError as error:
        raise InputError(
            "there is no checkpoint here",
            got=place,
            expected=f"a folder or URL with {CONFIG} and {WEIGHTS}",
            remedy="`halosign train` prints where it stored one: STORE/checkpoints/DIGEST.",
        ) from error
    if (
        not isinstance(config, dict)
        or config.get("weights_sha256") != hashlib.sha256(data).hexdigest()
    ):
        raise CorruptionError(
            f"{place}/{WEIGHTS} is not what {CONFIG} says. Fetch or train it again."
        )
    try:
        return Checkpoint(dict(load(data)), config)
    except SafetensorError as error:
        raise CorruptionError(
            f"{place}/{WEIGHTS} cannot be read: {error}. Fetch or train it again."
        ) from error


def checkpoints_of(store: Store, version: str) -> list[dict[str, Any]]:
    """Give the configs of all networks that were trained on a release, by digest."""
    configs = [
        store.get_json(f"{CHECKPOINTS}/{name}/{CONFIG}") for name in store.children(CHECKPOINTS)[0]
    ]
    return [config for config in configs if config["release"] == version]


def checkpoint_prefix(digest: str) -> str:
    """Give the folder of a checkpoint."""
    return str(PurePosixPath(CHECKPOINTS, digest))


def _state_key(name: str) -> str:
    return f"{TRAININGS}/{name}/state.safetensors"


def _contiguous(tensors: Tensors) -> Tensors:
    return {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}

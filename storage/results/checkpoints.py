"""Trainings and the networks that they end in.

    trainings/<id>/state.safetensors   where a training is; one key, so it is old or new
    trainings/<id>/…                   its preview: curves, losses, sample mattes
    checkpoints/<digest>/              weights.safetensors and, written last, config.json

The id of a training is a hash of all that determines it, the digest of a checkpoint one of its
weights and that. Weights are read as arrays; nothing that is stored is ever executed.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from matting.errors import InputError
from matting.parameters import Auxiliary
from storage.errors import CorruptionError, NotFoundError
from storage.layout import CHECKPOINTS, TRAININGS
from storage.records import (
    CheckpointConfig,
    JsonObject,
    TrainingEnd,
    TrainingState,
    canonical_json,
    encode,
    parse_record,
    read_record,
)
from storage.results.listed_files import write_listed_files
from storage.results.onnx_files import ONNX_SUFFIX, read_onnx_config
from storage.store import Store, open_folder

Tensors = dict[str, NDArray[np.float32]]
CONFIG = "config.json"
WEIGHTS = "weights.safetensors"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A trained network as it is stored."""

    weights: Tensors
    """Empty where it was read from an ONNX file."""
    config: CheckpointConfig
    onnx: bytes = field(default=b"", repr=False)
    """The ONNX file that it was read from; else empty."""

    @property
    def digest(self) -> str:
        """The checkpoint's digest."""
        return self.config.digest

    @property
    def label(self) -> str:
        """The network's name in tables."""
        return network_label(self.config.variant, self.config.auxiliary)


def network_label(variant: str, auxiliary: Auxiliary) -> str:
    """Return the name of a network in tables."""
    return variant + {"told": "", "untold": " (untold)", "none": " (no masks)"}[auxiliary]


def training_id(content_key: JsonObject) -> str:
    """Return the id of a training: the hash of all that determines it."""
    return hashlib.sha256(canonical_json(content_key)).hexdigest()[:16]


def write_state(store: Store, training: str, tensors: Tensors, state: TrainingState) -> None:
    """Store where a training is, replacing what was stored before.

    Args:
        store: Where to.
        training: Its id.
        tensors: The arrays of the state.
        state: The rest of it.
    """
    facts = encode(state).decode()
    header = {"facts": facts, "sha256": _content_sha256(tensors, facts)}
    store.put(_state_key(training), save(_contiguous(tensors), header))


def find_state(store: Store, training: str) -> tuple[Tensors, TrainingState] | None:
    """Read where a training is; None where it was not started. Raises CorruptionError."""
    key = _state_key(training)
    try:
        data = store.get(key)
    except NotFoundError:
        return None
    try:
        tensors = dict(load(data))
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        metadata = header["__metadata__"]
        facts = metadata["facts"]
        # Those of earlier versions have no checksum.
        if metadata.keys() - {"facts"} and metadata != {
            "facts": facts,
            "sha256": _content_sha256(tensors, facts),
        }:
            raise ValueError("its SHA-256 is not the one of its content")
    except (
        SafetensorError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        raise CorruptionError(
            f"{key} is not {TrainingState.noun}: {error}. {TrainingState.remedy}", key=key
        ) from error
    return tensors, parse_record(facts.encode(), TrainingState, key)


def write_preview(store: Store, training: str, files: Mapping[str, bytes]) -> None:
    """Store pictures and tables that people look at while a training runs, by name."""
    write_listed_files(store, f"{TRAININGS}/{training}", files)


def preview_url(store: Store, training: str) -> str:
    """Return where the preview of a training is."""
    return f"{store.url}/{TRAININGS}/{training}"


def read_last_preview(store: Store, checkpoint: Checkpoint) -> tuple[bytes, bytes]:
    """Read the curves and the latest sample mattes of the training of a checkpoint, as PNG."""
    folder = f"{TRAININGS}/{training_id(checkpoint.config.content_key)}"
    samples = store.list_dir(f"{folder}/samples")[1]
    return store.get(f"{folder}/curves.png"), store.get(f"{folder}/samples/{samples[-1]}")


def write_checkpoint(
    store: Store, weights: Tensors, config: CheckpointConfig, files: Mapping[str, bytes]
) -> Checkpoint:
    """Store a trained network; the same weights of the same training give the same digest.

    Args:
        store: Where to.
        weights: By the network's own names.
        config: All that a user of the weights must know; digest and SHA-256 are filled in here.
        files: What else belongs to it, by name: losses, curves.
    """
    data = save(_contiguous(weights))
    sha256 = hashlib.sha256(data).hexdigest()
    content = {"weights": sha256, "decides": config.content_key}
    digest = hashlib.sha256(canonical_json(content)).hexdigest()
    prefix = checkpoint_prefix(digest)
    if not store.exists(f"{prefix}/{CONFIG}"):
        for name, file in sorted({**files, WEIGHTS: data}.items()):
            store.put(f"{prefix}/{name}", file)
        whole = replace(config, digest=digest, weights_sha256=sha256)
        store.put(f"{prefix}/{CONFIG}", encode(whole, indent=1))
    return read_checkpoint(f"{store.url}/{prefix}")


def find_checkpoint(store: Store, training: str) -> str | None:
    """Return the digest of the checkpoint that a training ended in.

    None where it has not ended, or its checkpoint is missing. Raises CorruptionError.
    """
    try:
        digest = read_record(store, _end_key(training), TrainingEnd).digest
    except NotFoundError:
        return None
    return digest if store.exists(f"{checkpoint_prefix(digest)}/{CONFIG}") else None


def write_training_end(store: Store, training: str, digest: str) -> None:
    """Store the checkpoint that a training ended in."""
    store.put(_end_key(training), encode(TrainingEnd(digest)))


def read_checkpoint(url: str) -> Checkpoint:
    """Read a trained network.

    Args:
        url: Folder or URL with config.json and weights.safetensors, e.g.
            ``./store/checkpoints/<digest>``, or the ONNX file of a published network.

    Raises:
        InputError: There is no checkpoint.
        CorruptionError: Configuration or weights are damaged.
    """
    if url.endswith(ONNX_SUFFIX):
        return _read_onnx(url)
    folder = open_folder(url)
    try:
        config = read_record(folder, CONFIG, CheckpointConfig)
        data = folder.get(WEIGHTS)
    except NotFoundError as error:
        raise _no_checkpoint(url, f"a folder or URL with {CONFIG} and {WEIGHTS}") from error
    if config.weights_sha256 != hashlib.sha256(data).hexdigest():
        raise CorruptionError(
            f"the SHA-256 of {url}/{WEIGHTS} is not the one in {CONFIG}. {config.remedy}",
            key=WEIGHTS,
        )
    try:
        weights = dict(load(data))
        if not all(np.isfinite(values).all() for values in weights.values()):
            raise ValueError("a weight is not finite")
        return Checkpoint(weights, config)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:  # of types without arrays
        reason = f"numbers of type {error}" if isinstance(error, KeyError) else error
        raise CorruptionError(
            f"{url}/{WEIGHTS} cannot be read: {reason}. {config.remedy}", key=WEIGHTS
        ) from error


def _read_onnx(url: str) -> Checkpoint:
    parent, _, name = (url if "://" in url else Path(url).absolute().as_posix()).rpartition("/")
    try:
        data = open_folder(parent).get(name)
    except NotFoundError as error:
        raise _no_checkpoint(url, "the ONNX file of a published network") from error
    return Checkpoint({}, read_onnx_config(data, url), data)


def _no_checkpoint(url: str, expected: str) -> InputError:
    return InputError(
        "there is no checkpoint here",
        got=url,
        expected=expected,
        remedy="`halosign train` prints where it stored one: STORE/checkpoints/DIGEST.",
    )


def read_checkpoint_configs(store: Store, version: str) -> list[CheckpointConfig]:
    """Read the configurations of all networks that were trained on a release, by digest.

    Raises CorruptionError.
    """
    keys = [f"{checkpoint_prefix(digest)}/{CONFIG}" for digest in store.list_dir(CHECKPOINTS)[0]]
    configs = [read_record(store, key, CheckpointConfig) for key in keys if store.exists(key)]
    return [config for config in configs if config.release == version]


def checkpoint_prefix(digest: str) -> str:
    """Return the prefix of a checkpoint."""
    return f"{CHECKPOINTS}/{digest}"


def _content_sha256(tensors: Tensors, facts: str) -> str:
    found = hashlib.sha256(facts.encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype.str} {tensor.shape}".encode())
        found.update(np.ascontiguousarray(tensor).data)
    return found.hexdigest()


def _state_key(training: str) -> str:
    return f"{TRAININGS}/{training}/state.safetensors"


def _end_key(training: str) -> str:
    return f"{TRAININGS}/{training}/checkpoint.json"


def _contiguous(tensors: Tensors) -> Tensors:
    return {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}

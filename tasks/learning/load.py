"""Load a trained network from its checkpoint."""

import numpy as np
import torch

from matting.learned.network import MattingNetwork, build_network
from storage.errors import CorruptionError
from storage.results.checkpoints import WEIGHTS, Checkpoint, Tensors
from tasks.learning.onnx_network import OnnxNetwork


def load_network(checkpoint: Checkpoint, device: torch.device) -> MattingNetwork:
    """Return a checkpoint's network with its weights, on a device.

    One that was read from an ONNX file is computed by onnxruntime.

    Raises:
        InputError: onnxruntime is needed and is not installed.
        CorruptionError: The weights are not those of such a network.
    """
    if checkpoint.onnx:
        return OnnxNetwork(checkpoint)
    network = build_network(checkpoint.config.variant, checkpoint.config.auxiliary)
    misfit = _misfit(checkpoint.weights, network.state_dict())
    if misfit:
        raise CorruptionError(
            f"{WEIGHTS} of network {checkpoint.digest} is not of a {checkpoint.label}: {misfit}. "
            f"{checkpoint.config.remedy}",
            key=WEIGHTS,
        )
    network.load_state_dict(
        {name: torch.from_numpy(values.copy()) for name, values in checkpoint.weights.items()}
    )
    return network.to(device)


def _misfit(weights: Tensors, expected: dict[str, torch.Tensor]) -> str:
    """Return in which tensor weights differ from a network's; empty where in none."""
    for name in sorted(weights.keys() | expected.keys()):
        got = _describe(weights[name]) if name in weights else "none"
        wanted = _describe(expected[name].numpy()) if name in expected else "none"
        if got != wanted:
            return f"tensor {name!r}: got {got}, expected {wanted}"
    return ""


def _describe(values: np.ndarray) -> str:
    return f"{values.dtype} of shape {'x'.join(map(str, values.shape)) or '1'}"

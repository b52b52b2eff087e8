"""Numbers of parameters and multiply-adds, as the paper's Table 3 counts them."""

from typing import Any

import torch
from torch import Tensor, nn

TABLE_3_INPUT = (1, 1, 96, 96, 96)
"""The input shape (n, 1, z, y, x) of the paper's Table 3."""


def parameter_count(network: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


def multiply_adds(network: nn.Module, shape: tuple[int, ...] = TABLE_3_INPUT) -> int:
    """Count the multiply-adds of a forward pass.

    They are (weights + biases) times output voxels, summed over the convolutions.

    A transposed convolution counts at its output's size; norms, activations and pooling count
    nothing. Nothing is computed: the tensors are on torch's meta device and have shapes only.

    Args:
        network: The network; it is not changed.
        shape: (n, 1, z, y, x) of the input.

    Returns:
        The count for the whole batch.
    """
    total = 0

    def count(module: nn.Module, _: Any, output: Tensor) -> None:
        nonlocal total
        total += parameter_count(module) * output.shape[0] * output[0, 0].numel()

    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv3d | nn.ConvTranspose3d)]
    hooks = [module.register_forward_hook(count) for module in convolutions]
    try:
        shapes_only = {name: tensor.to("meta") for name, tensor in network.state_dict().items()}
        torch.func.functional_call(network, shapes_only, torch.empty(shape, device="meta"))
    finally:
        for hook in hooks:
            hook.remove()
    return total

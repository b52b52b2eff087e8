"""Load a trained network from its checkpoint."""

import torch

from matting.learned.network import MattingNetwork, build_network
from storage.results.checkpoints import Checkpoint


def load_network(checkpoint: Checkpoint, device: torch.device) -> MattingNetwork:
    """Return a checkpoint's network with its weights, on a device."""
    network = build_network(checkpoint.config.variant, checkpoint.config.auxiliary)
    network.load_state_dict(
        {name: torch.from_numpy(values.copy()) for name, values in checkpoint.weights.items()}
    )
    placed: MattingNetwork = network.to(device).to(memory_format=network.layout(device))  # type: ignore[call-overload]
    return placed

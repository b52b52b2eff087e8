"""Batches to train on in tests: random ones, and balls with a soft rim that can be learned."""

import torch
from torch import Tensor

from matting.learned.losses import Targets


def random_batch(shape: tuple[int, ...], seed: int) -> tuple[Tensor, Targets]:
    """An image and targets without any meaning; about a fifth of the voxels is padding."""
    generator = torch.Generator().manual_seed(seed)
    image, alpha, marks, valid = (torch.rand(shape, generator=generator) for _ in range(4))
    return image, Targets(alpha, marks > 0.8, marks > 0.5, valid > 0.2)

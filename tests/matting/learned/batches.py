"""Batches to train on in tests: random ones, and balls with a soft rim that can be learned."""

import torch
from torch import Tensor

from matting.learned.losses import LossTargets


def random_batch(shape: tuple[int, ...], seed: int) -> tuple[Tensor, LossTargets]:
    """An image and targets without any meaning; about a fifth of the voxels is padding."""
    generator = torch.Generator().manual_seed(seed)
    image, alpha, marks, valid = (torch.rand(shape, generator=generator) for _ in range(4))
    return image, LossTargets(alpha, marks > 0.8, marks > 0.5, valid > 0.2)


def soft_balls(count: int, shape: tuple[int, int, int], seed: int) -> tuple[Tensor, LossTargets]:
    """Nodules whose matte shows in their intensities, under noise, each at its own place."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.stack(
        torch.meshgrid(*(torch.arange(size, dtype=torch.float32) for size in shape), indexing="ij")
    )
    middle = torch.tensor(shape).reshape(3, 1, 1, 1) * (
        0.4 + 0.2 * torch.rand(count, 3, 1, 1, 1, generator=generator)
    )
    distance = (places - middle).norm(dim=1, keepdim=True)
    alpha = torch.sigmoid((max(shape) / 5 - distance) / 1.5)
    image = (0.1 + 0.6 * alpha + 0.03 * torch.randn(alpha.shape, generator=generator)).clamp(0, 1)
    return image, LossTargets(
        alpha, alpha > 0.8, alpha > 0.2, torch.ones_like(alpha, dtype=torch.bool)
    )

"""The loss of the network.

Paper   Wang et al., 3D Matting, arXiv 2210.05104, Eq. 29-30; both weights are 10 in section 6.2.1.

        total = overlap + union + 10 alpha + 10 gradient
        overlap, union   binary cross-entropy of the auxiliary masks with what all, or any, of
                         the readers marked
        alpha            mean of (1 + [union]) |a^ - a|
        gradient         mean of (1 + [union]) |grad a^ - grad a|_1

Ours    Padding does not count: all means run over valid voxels. The mean is taken over each nodule
        and then over the nodules, so that a batch has the same gradients whether it is computed at
        once or in parts. Gradients are forward differences per voxel; one that would leave the
        measured voxels is zero.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from matting.learned.network import NetworkOutput


class LossTargets(NamedTuple):
    """Targets of the network; every tensor is (n, 1, z, y, x)."""

    alpha: Tensor
    """The released matte, 0..1."""
    overlap: Tensor
    """Bool: voxels that all readers marked."""
    union: Tensor
    """Bool: voxels that any reader marked."""
    valid: Tensor
    """Bool: False on padding, which no loss includes."""


class Losses(NamedTuple):
    """Each loss of a batch as a scalar tensor.

    Those of the masks are zero without auxiliary masks.
    """

    total: Tensor
    alpha: Tensor
    gradient: Tensor
    overlap: Tensor
    union: Tensor


def losses(
    output: NetworkOutput,
    targets: LossTargets,
    alpha_weight: float = 10.0,
    gradient_weight: float = 10.0,
) -> Losses:
    """Return every loss of a batch.

    Args:
        output: The network's output.
        targets: The targets.
        alpha_weight: Weight of the alpha loss in the total (Eq. 30, eta).
        gradient_weight: Weight of the gradient loss (theta).

    Returns:
        The losses and their weighted sum.
    """
    # Sums over a million voxels need single precision, whatever the network computed in.
    alpha_hat = output.alpha.float()
    alpha = alpha_loss(alpha_hat, targets)
    gradient = gradient_loss(alpha_hat, targets)
    if output.masks is None:
        overlap = union = alpha.new_zeros(())
    else:
        logits = output.masks.float()
        overlap = mask_loss(logits[:, :1], targets.overlap, targets.valid)
        union = mask_loss(logits[:, 1:], targets.union, targets.valid)
    total = overlap + union + alpha_weight * alpha + gradient_weight * gradient
    return Losses(total, alpha, gradient, overlap, union)


def mask_loss(logits: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """Return the mean binary cross-entropy of one auxiliary mask over valid voxels.

    Args:
        logits: (n, 1, z, y, x).
        truth: (n, 1, z, y, x), bool.
        valid: (n, 1, z, y, x), bool.
    """
    return _mean(
        F.binary_cross_entropy_with_logits(logits, truth.to(logits.dtype), reduction="none"), valid
    )


def alpha_loss(alpha_hat: Tensor, targets: LossTargets) -> Tensor:
    """Return the weighted mean absolute difference of the mattes over valid voxels (Eq. 29)."""
    return _mean(_weights(targets) * (alpha_hat - targets.alpha).abs(), targets.valid)


def gradient_loss(alpha_hat: Tensor, targets: LossTargets) -> Tensor:
    """Return the weighted mean L1 difference of the mattes' spatial gradients (Eq. 29)."""
    difference = alpha_hat - targets.alpha
    norm = torch.zeros_like(difference)
    for axis in (2, 3, 4):
        last = difference.shape[axis] - 1
        both = targets.valid.narrow(axis, 0, last) & targets.valid.narrow(axis, 1, last)
        step = difference.diff(dim=axis).abs() * both
        norm = norm + F.pad(step, (0, 0) * (4 - axis) + (0, 1) + (0, 0) * (axis - 2))
    return _mean(_weights(targets) * norm, targets.valid)


def _weights(targets: LossTargets) -> Tensor:
    return 1.0 + targets.union.to(targets.alpha.dtype)


def _mean(values: Tensor, valid: Tensor) -> Tensor:
    """Average over the valid voxels of each nodule, then over the nodules.

    A crop of padding alone has a loss of 0.
    """
    each = (values * valid).sum(dim=(1, 2, 3, 4)) / valid.sum(dim=(1, 2, 3, 4)).clamp(min=1)
    return each.mean()

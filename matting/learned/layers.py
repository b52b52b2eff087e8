"""Layers that torch computes slowly on a CPU, with kernels of our own there.

Ghost networks consist of depthwise convolutions, 1 x 1 x 1 convolutions of few channels, and
PReLUs. torch has no fast kernels for their gradients on a CPU: a training step of 3dmm-mg takes a
fraction of the time with these (docs/3dmm.md). On any other device, and in half precision, the
layers are torch's own. They have the same parameters under the same names and compute the same
mathematics, with the same bits whatever the number of threads: each channel is computed by one
thread.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from matting.learned import cpu_kernels

SMALL_SIDE = 4
"""Below this side, in voxels, a CPU computes convolutions in single precision: with bfloat16, their
gradients contain uninitialised memory at some smaller sizes (torch 2.13 with oneDNN: along a depth
of 2 with AVX-512, along a last side of 1 with AMX)."""


class Convolution(nn.Conv3d):
    """A 3 x 3 x 3 convolution that keeps the size."""

    def __init__(
        self, channels_in: int, channels_out: int, *, groups: int = 1, bias: bool = True
    ) -> None:
        super().__init__(channels_in, channels_out, 3, padding=1, groups=groups, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (n, channels, z, y, x)."""
        if not _gradients_need_single(x):
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.float())


class Depthwise(Convolution):
    """A 3 x 3 x 3 convolution of each channel by itself."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width, groups=width, bias=False)


class Pointwise(nn.Conv3d):
    """A 1 x 1 x 1 convolution, on a CPU as one matrix product."""

    def __init__(self, channels_in: int, channels_out: int, *, bias: bool = True) -> None:
        super().__init__(channels_in, channels_out, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Mix the channels of (n, channels, z, y, x)."""
        if not _use_cpu_kernels(x):
            return super().forward(x)
        mixed = torch.matmul(self.weight.flatten(1), x.flatten(2))
        if self.bias is not None:
            mixed = mixed + self.bias[:, None]
        return mixed.view(len(x), -1, *x.shape[2:])


class Upsampling(nn.ConvTranspose3d):
    """A 2 x 2 x 2 transposed convolution that doubles each side."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(channels_in, channels_out, 2, stride=2)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Double the sides of (n, channels, z, y, x)."""
        if not _gradients_need_single(x):
            return super().forward(x, output_size)
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.float(), output_size)


class ConvNormAct(nn.Sequential):
    """A convolution, its instance norm and, optionally, a PReLU."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply all parts to (n, channels, z, y, x)."""
        convolution, norm, *activation = self
        # The kernels handle the first and last column apart, so there must be two.
        if not _use_cpu_kernels(x) or x.shape[-1] < 2:
            return cast(Tensor, super().forward(x))  # type: ignore[no-untyped-call]
        # Slope 1 is the identity: the layer without activation needs no kernel of its own.
        slope = activation[0].weight if activation else x.new_ones(1)
        if isinstance(convolution, Depthwise):
            return _apply(_DepthwiseNormPReLU, x, convolution.weight, slope, norm.eps)
        return _apply(_NormPReLU, convolution(x), slope, norm.eps)


class PReLU(nn.PReLU):
    """Slope 1 above 0, a learned one below; one for all channels."""

    def forward(self, x: Tensor) -> Tensor:
        """Activate (n, channels, z, y, x)."""
        if not _use_cpu_kernels(x):
            return super().forward(x)
        return _apply(_PReLU, x, self.weight)


def _gradients_need_single(x: Tensor) -> bool:
    """Return True if a convolution of this tensor must not be computed in reduced precision."""
    reduced = x.device.type == "cpu" and torch.is_autocast_enabled("cpu")
    return reduced and min(x.shape[2:]) < SMALL_SIDE


def _use_cpu_kernels(x: Tensor) -> bool:
    """Return True if the kernels can take this tensor."""
    single = x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return (
        x.device.type == "cpu"
        and single
        and x.is_contiguous()
        and not torch.compiler.is_compiling()
    )


def _apply(function: type[torch.autograd.Function], *arguments: object) -> Tensor:
    return cast(Tensor, function.apply(*arguments))  # type: ignore[no-untyped-call]


class _DepthwiseNormPReLU(torch.autograd.Function):
    """Depthwise convolution, instance norm and PReLU.

    All three run channel by channel, so that a channel stays in the processor's cache meanwhile.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, slope: Tensor, eps: float) -> Tensor:
        convolved = torch.empty_like(x)
        out = torch.empty_like(x)
        x_channels = _channels(x)
        convolved_channels = _channels(convolved)
        out_channels = _channels(out)
        weights = _weights(weight)
        negative_slope = slope.item()

        def compute(c: int) -> tuple[float, float]:
            # Channels of all samples follow each other; they share the weights.
            kernel = weights[c % len(weights)]
            cpu_kernels.depthwise_convolution(x_channels[c], kernel, convolved_channels[c])
            return cpu_kernels.instance_norm_prelu(
                convolved_channels[c], eps, negative_slope, out_channels[c]
            )

        ctx.statistics = _for_each_channel(compute, len(x_channels))
        ctx.save_for_backward(x, weight, slope, convolved)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, slope, convolved = ctx.saved_tensors
        grad_x = torch.empty_like(x)
        # One gradient a sample, added up in the end: threads never add to the same weights.
        grad_weights = np.empty((*x.shape[:2], 3, 3, 3), np.float32)
        x_channels = _channels(x)
        convolved_channels = _channels(convolved)
        grad_out_channels = _channels(grad_out.contiguous())
        grad_x_channels = _channels(grad_x)
        grad_weight_slots = grad_weights.reshape(-1, 3, 3, 3)
        # The gradient by the input is the convolution with the mirrored kernel.
        mirrored = _weights(weight.flip(2, 3, 4))
        negative_slope = slope.item()

        def compute(c: int) -> float:
            mean, rstd = ctx.statistics[c]
            grad_convolved = np.empty_like(convolved_channels[c])
            grad_slope = cpu_kernels.instance_norm_prelu_backward(
                convolved_channels[c],
                mean,
                rstd,
                negative_slope,
                grad_out_channels[c],
                grad_convolved,
            )
            cpu_kernels.depthwise_weight_gradient(
                x_channels[c], grad_convolved, grad_weight_slots[c]
            )
            kernel = mirrored[c % len(mirrored)]
            cpu_kernels.depthwise_convolution(grad_convolved, kernel, grad_x_channels[c])
            return grad_slope

        grad_slope = sum(_for_each_channel(compute, len(x_channels)))
        grad_weight = torch.from_numpy(grad_weights.sum(axis=0)[:, None])
        return grad_x, grad_weight, slope.new_tensor([grad_slope]), None


def _weights(weight: Tensor) -> NDArray[np.float32]:
    """Return depthwise weights as (channels, 3, 3, 3)."""
    values: NDArray[np.float32] = weight.detach().contiguous().numpy()[:, 0]
    return values


class _NormPReLU(torch.autograd.Function):
    """Instance norm and PReLU, channel by channel."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: Tensor, eps: float) -> Tensor:
        out = torch.empty_like(x)
        x_channels = _channels(x)
        out_channels = _channels(out)
        negative_slope = slope.item()

        def compute(c: int) -> tuple[float, float]:
            return cpu_kernels.instance_norm_prelu(
                x_channels[c], eps, negative_slope, out_channels[c]
            )

        ctx.statistics = _for_each_channel(compute, len(x_channels))
        ctx.save_for_backward(x, slope)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor, Tensor, None]:
        x, slope = ctx.saved_tensors
        grad_x = torch.empty_like(x)
        x_channels = _channels(x)
        grad_out_channels = _channels(grad_out.contiguous())
        grad_x_channels = _channels(grad_x)
        negative_slope = slope.item()

        def compute(c: int) -> float:
            mean, rstd = ctx.statistics[c]
            return cpu_kernels.instance_norm_prelu_backward(
                x_channels[c], mean, rstd, negative_slope, grad_out_channels[c], grad_x_channels[c]
            )

        grad_slopes = _for_each_channel(compute, len(x_channels))
        return grad_x, slope.new_tensor([sum(grad_slopes)]), None


class _PReLU(torch.autograd.Function):
    """PReLU: torch's forward pass, which is fast, and a backward pass of our own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(x, slope)
        return nn.functional.prelu(x, slope)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor, Tensor]:
        x, slope = ctx.saved_tensors
        grad_x = torch.empty_like(x)
        x_channels = _channels(x)
        grad_out_channels = _channels(grad_out.contiguous())
        grad_x_channels = _channels(grad_x)
        negative_slope = slope.item()

        def compute(c: int) -> float:
            return cpu_kernels.prelu_backward(
                x_channels[c], negative_slope, grad_out_channels[c], grad_x_channels[c]
            )

        grad_slopes = _for_each_channel(compute, len(x_channels))
        return grad_x, slope.new_tensor([sum(grad_slopes)])


def _channels(x: Tensor) -> NDArray[np.float32]:
    """Return (n * channels, z, y, x), sharing the tensor's memory."""
    volumes: NDArray[np.float32] = x.detach().flatten(0, 1).numpy()
    return volumes


def _for_each_channel(compute: Callable[[int], Any], channels: int) -> list[Any]:
    """Call `compute` for every channel, on as many threads as torch may use.

    The kernels release the interpreter's lock. Results come in the order of the channels, so sums
    over them do not depend on which thread was done first.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        return [compute(channel) for channel in range(channels)]
    return list(_pool(threads, os.getpid()).map(compute, range(channels)))


@cache
def _pool(threads: int, _process: int) -> ThreadPoolExecutor:
    """Return this process's threads; after a fork those of the parent do not exist."""
    return ThreadPoolExecutor(threads, "layers")

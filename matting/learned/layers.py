"""Layers that torch computes slowly on a CPU, computed fast there; anywhere else, and in half precision, torch's own.

Depthwise convolutions, 1x1x1 convolutions of few channels and PReLUs are what a ghost network consists of. torch has
no good kernels for their gradients on a CPU: a step of 3dmm-mg takes a fraction of the time with these
(docs/3dmm.md). They are the same mathematics, have the same parameters under the same names, and give the same bits
whatever the number of threads: each channel is one thread's.
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


class Depthwise(nn.Conv3d):
    """A 3x3x3 convolution of each channel by itself."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width, 3, padding=1, groups=width, bias=False)


class Pointwise(nn.Conv3d):
    """A 1x1x1 convolution."""

    def __init__(self, wide: int, out: int, *, bias: bool = True) -> None:
        super().__init__(wide, out, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Give `out` channels."""
        if not _ours(x):
            return super().forward(x)
        mixed = torch.matmul(self.weight.flatten(1), x.flatten(2))
        if self.bias is not None:
            mixed = mixed + self.bias[:, None]
        return mixed.view(len(x), -1, *x.shape[2:])


class ConvNormAct(nn.Sequential):
    """A convolution, its instance norm and, where there is a third part, a PReLU."""

    def forward(self, x: Tensor) -> Tensor:
        """Give what the last part gives."""
        convolution, norm, *rest = self
        if not _ours(x) or x.shape[-1] < 2:
            return cast(Tensor, super().forward(x))  # type: ignore[no-untyped-call]
        slope = rest[0].weight if rest else x.new_ones(1)
        if isinstance(convolution, Depthwise):
            return _applied(_Cheap, x, convolution.weight, slope, norm.eps)
        return _applied(_Activation, convolution(x), slope, norm.eps)


class PReLU(nn.PReLU):
    """Slope 1 above 0, a learned one below; one for all channels."""

    def forward(self, x: Tensor) -> Tensor:
        """Keep shape and width."""
        if not _ours(x):
            return super().forward(x)
        return _applied(_PReLU, x, self.weight)


def _ours(x: Tensor) -> bool:
    """Tell whether the kernels can take this tensor."""
    single = x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return (
        x.device.type == "cpu"
        and single
        and x.is_contiguous()
        and not torch.compiler.is_compiling()
    )


def _applied(function: type[torch.autograd.Function], *arguments: object) -> Tensor:
    return cast(Tensor, function.apply(*arguments))  # type: ignore[no-untyped-call]


class _Cheap(torch.autograd.Function):
    """Depthwise convolution, norm and PReLU, channel by channel: a channel stays in the processor's cache meanwhile."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, slope: Tensor, epsilon: float) -> Tensor:
        convolved, result = torch.empty_like(x), torch.empty_like(x)
        seen, middle, out = _channels(x), _channels(convolved), _channels(result)
        weights, below = _weights(weight), slope.item()

        def work(c: int) -> tuple[float, float]:
            cpu_kernels.convolve(seen[c], weights[c % len(weights)], middle[c])
            return cpu_kernels.activate(middle[c], epsilon, below, out[c])

        ctx.facts = _share(work, len(seen))
        ctx.save_for_backward(x, weight, slope, convolved)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, slope, convolved = ctx.saved_tensors
        result, each = torch.empty_like(x), np.empty((*x.shape[:2], 3, 3, 3), np.float32)
        seen, middle, wanted, out = (
            _channels(t) for t in (x, convolved, gradient.contiguous(), result)
        )
        slots, mirrored, below = (
            each.reshape(-1, 3, 3, 3),
            _weights(weight.flip(2, 3, 4)),
            slope.item(),
        )

        def work(c: int) -> float:
            inner, (mean, scale) = np.empty_like(middle[c]), ctx.facts[c]
            sloped = cpu_kernels.activate_back(middle[c], mean, scale, below, wanted[c], inner)
            cpu_kernels.weight_gradient(seen[c], inner, slots[c])
            cpu_kernels.convolve(inner, mirrored[c % len(mirrored)], out[c])
            return sloped

        sloped = sum(_share(work, len(seen)))
        return result, torch.from_numpy(each.sum(axis=0)[:, None]), slope.new_tensor([sloped]), None


def _weights(weight: Tensor) -> NDArray[np.float32]:
    """Give (channels, 3, 3, 3)."""
    values: NDArray[np.float32] = weight.detach().contiguous().numpy()[:, 0]
    return values


class _Activation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: Tensor, epsilon: float) -> Tensor:
        result = torch.empty_like(x)
        seen, out, below = _channels(x), _channels(result), slope.item()
        ctx.facts = _share(
            lambda c: cpu_kernels.activate(seen[c], epsilon, below, out[c]), len(seen)
        )
        ctx.save_for_backward(x, slope)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        x, slope = ctx.saved_tensors
        result = torch.empty_like(x)
        seen, wanted, out, below = (
            _channels(x),
            _channels(gradient.contiguous()),
            _channels(result),
            slope.item(),
        )

        def work(c: int) -> float:
            mean, scale = ctx.facts[c]
            return cpu_kernels.activate_back(seen[c], mean, scale, below, wanted[c], out[c])

        slopes = _share(work, len(seen))
        return result, slope.new_tensor([sum(slopes)]), None


class _PReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(x, slope)
        return nn.functional.prelu(x, slope)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, slope = ctx.saved_tensors
        result = torch.empty_like(x)
        seen, wanted, out = _channels(x), _channels(gradient.contiguous()), _channels(result)
        by = slope.item()
        slopes = _share(lambda c: cpu_kernels.slope_back(seen[c], by, wanted[c], out[c]), len(seen))
        return result, slope.new_tensor([sum(slopes)])


def _channels(x: Tensor) -> NDArray[np.float32]:
    """Give (n * channels, z, y, x), sharing the tensor's memory."""
    volumes: NDArray[np.float32] = x.detach().flatten(0, 1).numpy()
    return volumes


def _share(work: Callable[[int], Any], channels: int) -> list[Any]:
    """Do every channel's work, on as many threads as torch may use; gives the results in the channels' order."""
    threads = torch.get_num_threads()
    if threads == 1:
        return [work(channel) for channel in range(channels)]
    return list(_pool(threads, os.getpid()).map(work, range(channels)))


@cache
def _pool(threads: int, _process: int) -> ThreadPoolExecutor:
    """Give this process's threads; those of the process that it was forked from are not there."""
    return ThreadPoolExecutor(threads, "layers")

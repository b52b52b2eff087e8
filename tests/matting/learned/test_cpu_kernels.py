"""Each CPU kernel against plain loops over voxels, or against torch in double precision."""

from itertools import product

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from matting.learned import cpu_kernels

SHAPES = [(1, 1, 2), (2, 1, 3), (3, 4, 5), (4, 2, 17)]
Volume = NDArray[np.float32]


def volume(shape: tuple[int, ...], seed: int) -> Volume:
    return np.random.default_rng(seed).normal(1.5, 2.0, shape).astype(np.float32)


def shifted(x: Volume, offset: tuple[int, int, int], place: tuple[int, ...]) -> float:
    """The voxel at a place plus an offset of 0, 1 or 2 minus 1; 0 beyond the border."""
    there = tuple(p + o - 1 for p, o in zip(place, offset, strict=True))
    inside = all(0 <= p < size for p, size in zip(there, x.shape, strict=True))
    return float(x[there]) if inside else 0.0


@pytest.mark.parametrize("shape", SHAPES)
def test_depthwise_convolution_is_its_sum(shape: tuple[int, ...]) -> None:
    x, weight = volume(shape, 1), volume((3, 3, 3), 2)
    out = np.full(shape, np.nan, np.float32)
    cpu_kernels.depthwise_convolution(x, weight, out)
    expected = np.zeros(shape)
    for place in product(*map(range, shape)):
        for offset in product(range(3), repeat=3):
            expected[place] += float(weight[offset]) * shifted(x, offset, place)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_depthwise_weight_gradient_is_its_sum(shape: tuple[int, ...]) -> None:
    x, grad_out = volume(shape, 3), volume(shape, 4)
    grad_weight = np.full((3, 3, 3), np.nan, np.float32)
    cpu_kernels.depthwise_weight_gradient(x, grad_out, grad_weight)
    expected = np.zeros((3, 3, 3))
    for place in product(*map(range, shape)):
        for offset in product(range(3), repeat=3):
            expected[offset] += float(grad_out[place]) * shifted(x, offset, place)
    np.testing.assert_allclose(grad_weight, expected, rtol=1e-5, atol=1e-4)


def norm_prelu(x: torch.Tensor, slope: torch.Tensor, eps: float) -> torch.Tensor:
    """Instance norm and PReLU of one channel by their formulas."""
    normal = (x - x.mean()) / (x.var(correction=0) + eps).sqrt()
    return functional.prelu(normal[None, None], slope)[0, 0]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("slope", "eps"), [(0.25, 1e-5), (1.0, 0.5), (-0.5, 1e-5)])
def test_instance_norm_prelu_and_its_gradients(
    shape: tuple[int, ...], slope: float, eps: float
) -> None:
    x, grad_out = volume(shape, 5), volume(shape, 6)
    out = np.full(shape, np.nan, np.float32)
    grad_x = np.full(shape, np.nan, np.float32)
    mean, rstd = cpu_kernels.instance_norm_prelu(x, eps, slope, out)
    grad_slope = cpu_kernels.instance_norm_prelu_backward(x, mean, rstd, slope, grad_out, grad_x)

    x64 = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    slope64 = torch.tensor([slope], dtype=torch.float64, requires_grad=True)
    expected = norm_prelu(x64, slope64, eps)
    gradients = torch.autograd.grad(expected, [x64, slope64], torch.tensor(grad_out).double())
    assert mean == pytest.approx(x.mean(dtype=np.float64), rel=1e-6)
    assert rstd == pytest.approx(1 / np.sqrt(x.var(dtype=np.float64) + eps), rel=1e-6)
    np.testing.assert_allclose(out, expected.detach().numpy(), rtol=1e-4, atol=1e-5)
    scale = float(gradients[0].abs().max()) + 1e-3
    np.testing.assert_allclose(grad_x, gradients[0].numpy(), rtol=1e-3, atol=1e-3 * scale)
    assert grad_slope == pytest.approx(float(gradients[1]), rel=1e-4, abs=1e-4)


def test_instance_norm_of_a_large_mean_keeps_its_variance() -> None:
    x = 1000.0 + volume((4, 8, 16), 7)
    out = np.empty_like(x)
    cpu_kernels.instance_norm_prelu(x, 1e-5, 1.0, out)
    assert out.std(dtype=np.float64) == pytest.approx(1.0, rel=1e-3)
    assert out.mean(dtype=np.float64) == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_prelu_backward_is_its_formula(shape: tuple[int, ...]) -> None:
    x, grad_out = volume(shape, 8) - 1.5, volume(shape, 9)
    x.ravel()[0] = 0.0
    grad_x = np.full(shape, np.nan, np.float32)
    grad_slope = cpu_kernels.prelu_backward(x, 0.25, grad_out, grad_x)
    np.testing.assert_array_equal(grad_x, np.where(x > 0, grad_out, np.float32(0.25) * grad_out))
    expected = float((grad_out * np.minimum(x, 0)).sum(dtype=np.float64))
    assert grad_slope == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_only_the_weights_gradient_may_reorder_sums() -> None:
    kernels = {
        name: kernel.targetoptions.get("fastmath")
        for name, kernel in vars(cpu_kernels).items()
        if hasattr(kernel, "targetoptions")
    }
    assert len(kernels) == 5
    assert {name for name, fastmath in kernels.items() if fastmath} == {"depthwise_weight_gradient"}

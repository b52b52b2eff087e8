"""The layers computed by our own kernels against torch's, in double precision."""

from collections.abc import Callable
from copy import deepcopy
from itertools import product

import pytest
import torch
from torch import Tensor, nn

from matting.learned import build_network, layers
from matting.learned.layers import (
    SMALL_SIDE,
    ConvNormAct,
    Convolution,
    Depthwise,
    Pointwise,
    PReLU,
    Upsampling,
)
from matting.learned.network import VARIANTS

LAYERS = {
    "pointwise": lambda: Pointwise(5, 3),
    "pointwise, no bias": lambda: Pointwise(5, 3, bias=False),
    "cheap": lambda: ConvNormAct(Depthwise(5), nn.InstanceNorm3d(5), PReLU()),
    "cheap, not activated": lambda: ConvNormAct(Depthwise(5), nn.InstanceNorm3d(5)),
    "primary": lambda: ConvNormAct(Pointwise(5, 4, bias=False), nn.InstanceNorm3d(4), PReLU()),
    "primary, not activated": lambda: ConvNormAct(
        Pointwise(5, 4, bias=False), nn.InstanceNorm3d(4)
    ),
    "slope": PReLU,
}
SIZES = [(6, 7, 9), (1, 1, 17), (1, 4, 2), (2, 16, 33)]


def told(layer: nn.Module, x: Tensor, wanted: Tensor) -> list[Tensor]:
    """Return a layer's output and the gradients of its input and parameters."""
    seen = x.clone().requires_grad_()
    said = layer(seen)
    grads = torch.autograd.grad(said, [seen, *layer.parameters()], wanted)
    return [said.detach(), *grads]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", LAYERS)
def test_values_and_gradients_are_torchs(name: str, size: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    layer = LAYERS[name]()
    x = 3.0 * torch.randn(2, 5, *size) + 10.0
    with torch.no_grad():
        wanted = torch.randn_like(layer(x))
    ours = told(layer, x, wanted)
    reference = told(deepcopy(layer).double(), x.double(), wanted.double())
    for got, expected in zip(ours, reference, strict=True):
        assert got.dtype == torch.float32
        assert got.shape == expected.shape
        assert torch.allclose(
            got.double(), expected, rtol=1e-4, atol=2e-5 * max(1.0, float(expected.abs().max()))
        )


@pytest.mark.parametrize("name", LAYERS)
def test_our_kernels_are_what_computes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = LAYERS[name](), torch.randn(1, 5, 3, 4, 5)
    own = layer(x).grad_fn.name()
    monkeypatch.setattr(layers, "_use_cpu_kernels", lambda _: False)
    assert own != layer(x).grad_fn.name()


def test_the_number_of_threads_changes_no_bit_of_a_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(2)
    layer, x = LAYERS["cheap"](), torch.randn(2, 5, 6, 7, 9)
    wanted = torch.randn_like(x)
    alone = told(layer, x, wanted)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert all(
        torch.equal(one, other) for one, other in zip(alone, told(layer, x, wanted), strict=True)
    )


def test_a_network_without_the_kernels_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    network, image = build_network("3dmm-mg"), torch.rand(1, 1, 16, 32, 32)
    with torch.no_grad():
        ours = network(image)
        monkeypatch.setattr(layers, "_use_cpu_kernels", lambda _: False)
        theirs = network(image)
    assert torch.allclose(ours.alpha, theirs.alpha, atol=1e-5)
    assert torch.allclose(ours.masks, theirs.masks, atol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_on_another_device_than_a_cpu_torch_computes(variant: str) -> None:
    """The meta device has shapes and no values: whatever reads values fails on it."""
    network = build_network(variant).to("meta")
    found = network(torch.empty(2, 1, 16, 32, 32, device="meta"))
    assert found.alpha.shape == (2, 1, 16, 32, 32)
    (found.alpha.mean() + found.masks.mean()).backward()
    gradients = [parameter.grad for parameter in network.parameters()]
    assert all(grad is not None and grad.device.type == "meta" for grad in gradients)


@pytest.mark.parametrize("size", list(product((1, 2, 3, 4, 5), repeat=3)))
@pytest.mark.parametrize("make", [lambda: Convolution(32, 32), lambda: Upsampling(32, 16)])
def test_bfloat16_gradients_of_small_volumes_are_right(
    make: Callable[[], nn.Module], size: tuple[int, int, int]
) -> None:
    # torch leaves some of them as the memory was, so the memory is first filled with NaN
    torch.manual_seed(1)
    layer, x = make(), torch.randn(2, 32, *size)
    wanted = torch.randn_like(layer(x)).bfloat16()
    expected = told(layer, x, wanted.float())
    _ = [torch.full((10_000,), torch.nan) for _ in range(20)]
    with torch.autocast("cpu", torch.bfloat16):
        rounded = layer(x)
        got = told(layer, x, wanted.to(rounded.dtype))
    assert rounded.dtype == (torch.float32 if min(size) < SMALL_SIDE else torch.bfloat16)
    for one, other in zip(got, expected, strict=True):
        assert float((one - other).norm()) <= 0.02 * float(other.norm())


@pytest.mark.parametrize("variant", [pytest.param("3dmm", marks=pytest.mark.slow), "3dmm-mg"])
def test_lower_precision_and_other_layouts_are_left_to_torch(variant: str) -> None:
    network, image = build_network(variant), torch.rand(1, 1, 16, 32, 32)
    with torch.no_grad():
        whole = network(image).alpha
        with torch.autocast("cpu", torch.bfloat16):
            rounded = network(image).alpha.float()
        last = network.to(memory_format=torch.channels_last_3d)(
            image.to(memory_format=torch.channels_last_3d)
        ).alpha
    assert torch.allclose(whole, last, atol=1e-5)
    assert 0 < float((whole - rounded).abs().max()) < 0.1

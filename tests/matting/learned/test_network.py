import subprocess
import sys
from typing import get_args

import pytest
import torch

from matting.errors import InputError
from matting.learned import VARIANTS, build_network
from matting.learned.counting import multiply_adds, parameter_count
from matting.learned.losses import losses
from matting.parameters import Auxiliary
from tests.matting.learned.batches import random_batch

# The paper's Table 3, at 1 x 96^3; it counts the told variants only.
TABLE_3 = {
    "3dmm": (2_940_327, 342.46e9, 1e-4),
    "3dmm-m": (2_829_603, 244.50e9, 1e-4),
    "3dmm-mg": (32_577, 5.64e9, 0.03),
}
EVERY = [(variant, auxiliary) for variant in VARIANTS for auxiliary in get_args(Auxiliary)]
SHAPE = (1, 1, 32, 32, 32)


@pytest.mark.parametrize("variant", VARIANTS)
def test_counts_are_the_paper_s(variant: str) -> None:
    parameters, operations, tolerance = TABLE_3[variant]
    network = build_network(variant)
    assert parameter_count(network) == parameters
    assert multiply_adds(network) == pytest.approx(operations, rel=tolerance)


@pytest.mark.parametrize(
    ("variant", "parameters", "operations"),
    [
        ("3dmm", 2_718_733, 146_407_640_832),
        ("3dmm-m", 2_718_733, 146_407_640_832),
        ("3dmm-mg", 30_763, 3_907_591_632),
    ],
)
def test_counts_without_masks_are_those_of_the_table_in_the_docs(
    variant: str, parameters: int, operations: int
) -> None:
    network = build_network(variant, auxiliary="none")
    assert (parameter_count(network), multiply_adds(network)) == (parameters, operations)


def test_multiply_adds_by_hand() -> None:
    network = torch.nn.Sequential(
        torch.nn.Conv3d(1, 2, 3, padding=1), torch.nn.ConvTranspose3d(2, 3, 2, stride=2)
    )
    # (27 x 2 + 2) at 4^3 voxels, then (8 x 2 x 3 + 3) at 8^3, for two images
    assert multiply_adds(network, (2, 1, 4, 4, 4)) == 2 * (56 * 64 + 51 * 512)
    assert all(parameter.device.type == "cpu" for parameter in network.parameters())


@pytest.mark.parametrize(("variant", "auxiliary"), EVERY)
def test_output_has_the_input_s_size_and_is_a_matte(variant: str, auxiliary: Auxiliary) -> None:
    torch.manual_seed(1)
    with torch.no_grad():
        alpha, masks = build_network(variant, auxiliary)(torch.rand(2, 1, 16, 32, 48))
    assert alpha.shape == (2, 1, 16, 32, 48)
    assert 0.0 <= float(alpha.min()) < float(alpha.max()) <= 1.0
    assert masks is None if auxiliary == "none" else masks.shape == (2, 2, 16, 32, 48)


@pytest.mark.parametrize("auxiliary", get_args(Auxiliary))
def test_the_first_mattes_are_nearly_empty_as_most_voxels_are(auxiliary: Auxiliary) -> None:
    image, _ = random_batch(SHAPE, seed=1)
    torch.manual_seed(1)
    alpha = build_network("3dmm-mg", auxiliary)(image).alpha
    assert 0.005 < alpha.mean() < 0.2


@pytest.mark.parametrize(("variant", "auxiliary"), EVERY)
def test_gradients_reach_every_parameter(variant: str, auxiliary: Auxiliary) -> None:
    torch.manual_seed(2)
    network = build_network(variant, auxiliary)
    image, targets = random_batch(SHAPE, seed=3)
    losses(network(image), targets).total.backward()
    # Where InstanceNorm follows, a bias is subtracted again: such gradients are rounding noise, yet
    # not None.
    assert [
        name
        for name, p in network.named_parameters()
        if p.grad is None or not p.grad.isfinite().all()
    ] == []
    weights = [
        (name, p)
        for name, p in network.named_parameters()
        if p.dim() == 5 or name.endswith("last.weight")
    ]
    assert [name for name, p in weights if not p.grad.abs().max() > 0] == []


@pytest.mark.parametrize("variant", VARIANTS)
def test_without_masks_there_are_no_mask_heads(variant: str) -> None:
    with_masks, without = build_network(variant), build_network(variant, auxiliary="none")
    assert [name for name, _ in without.named_parameters() if name.startswith("branches")] == []
    assert len(with_masks.branches) == (2 if variant == "3dmm" else 1)


@pytest.mark.parametrize("auxiliary", ["told", "untold"])
def test_masks_reach_the_matte_of_a_network_that_is_told(auxiliary: Auxiliary) -> None:
    torch.manual_seed(4)
    network = build_network("3dmm-mg", auxiliary)
    image = torch.rand(SHAPE)
    with torch.no_grad():
        before = network(image).alpha
        for branch in network.branches:
            branch.head.bias += 3.0
        assert torch.equal(network(image).alpha, before) == (auxiliary == "untold")


def test_one_nodule_does_not_see_another() -> None:
    torch.manual_seed(5)
    network, pair = build_network("3dmm-mg"), torch.rand(2, 1, 32, 32, 32)
    with torch.no_grad():
        both = network(pair).alpha
        torch.testing.assert_close(network(pair[1:]).alpha, both[1:])


@pytest.mark.parametrize("shape", [(1, 1, 32, 32, 40), (1, 2, 32, 32, 32), (1, 1, 32, 32)])
def test_refuses_an_image_that_it_cannot_halve(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="multiples of 16"):
        build_network("3dmm-mg")(torch.zeros(shape))


def test_refuses_an_unknown_variant() -> None:
    with pytest.raises(InputError, match="got 3dmm-g, expected 3dmm, 3dmm-m, 3dmm-mg"):
        build_network("3dmm-g")


def test_the_solvers_load_without_torch() -> None:
    code = (
        "import sys, matting; matting.estimate_alphas; import flows.cli.main; "
        "assert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

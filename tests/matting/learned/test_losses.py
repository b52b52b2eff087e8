"""The losses against plain loops over voxels."""

from itertools import product
from math import exp, log

import pytest
import torch

from matting.learned.losses import Losses, LossTargets, alpha_loss, gradient_loss, losses, mask_loss
from matting.learned.network import NetworkOutput
from tests.matting.learned.batches import random_batch

SHAPE = (2, 1, 3, 4, 5)


def plain(output: NetworkOutput, targets: LossTargets) -> dict[str, float]:
    """Every loss by its formula, voxel by voxel."""
    sums = {"alpha": 0.0, "gradient": 0.0, "overlap": 0.0, "union": 0.0}
    count = output.alpha.shape[0]
    for n in range(count):
        valid = targets.valid[n, 0]
        places = [place for place in product(*map(range, valid.shape)) if valid[place]]
        difference = (output.alpha - targets.alpha)[n, 0].tolist()
        for z, y, x in places:
            weight = 2.0 if targets.union[n, 0, z, y, x] else 1.0
            sums["alpha"] += weight * abs(difference[z][y][x]) / len(places) / count
            for dz, dy, dx in ((1, 0, 0), (0, 1, 0), (0, 0, 1)):
                there = (z + dz, y + dy, x + dx)
                if all(a < b for a, b in zip(there, valid.shape, strict=True)) and valid[there]:
                    step = difference[there[0]][there[1]][there[2]] - difference[z][y][x]
                    sums["gradient"] += weight * abs(step) / len(places) / count
            for slot, name in enumerate(("overlap", "union")):
                p = 1.0 / (1.0 + exp(-float(output.masks[n, slot, z, y, x])))
                truth = bool(getattr(targets, name)[n, 0, z, y, x])
                sums[name] -= log(p if truth else 1.0 - p) / len(places) / count
    return sums


def random_output(shape: tuple[int, ...], seed: int) -> NetworkOutput:
    generator = torch.Generator().manual_seed(seed)
    masks = torch.randn((shape[0], 2, *shape[2:]), generator=generator)
    return NetworkOutput(torch.rand(shape, generator=generator), masks)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_loss_is_its_formula(seed: int) -> None:
    _, targets = random_batch(SHAPE, seed)
    output = random_output(SHAPE, seed + 10)
    expected = plain(output, targets)
    got = losses(output, targets)
    for name, value in expected.items():
        assert float(getattr(got, name)) == pytest.approx(value, rel=1e-5), name
    total = (
        expected["overlap"] + expected["union"] + 10 * expected["alpha"] + 10 * expected["gradient"]
    )
    assert float(got.total) == pytest.approx(total, rel=1e-5)


def test_padding_counts_nowhere() -> None:
    _, targets = random_batch(SHAPE, 4)
    output = random_output(SHAPE, 5)
    before = losses(output, targets)
    hidden = ~targets.valid
    other = NetworkOutput(
        output.alpha.masked_fill(hidden, 0.9), output.masks.masked_fill(hidden, -30.0)
    )
    spoiled = targets._replace(union=targets.union | hidden, overlap=targets.overlap | hidden)
    for name in Losses._fields:
        assert float(getattr(losses(other, spoiled), name)) == pytest.approx(
            float(getattr(before, name))
        ), name


def test_a_batch_is_the_mean_of_its_nodules_even_when_their_padding_differs() -> None:
    _, targets = random_batch((3, 1, 4, 4, 4), 6)
    output = random_output((3, 1, 4, 4, 4), 7)
    parts = [
        losses(
            NetworkOutput(output.alpha[n : n + 1], output.masks[n : n + 1]),
            LossTargets(*(t[n : n + 1] for t in targets)),
        )
        for n in range(3)
    ]
    whole = losses(output, targets)
    for name in Losses._fields:
        mean = sum(float(getattr(part, name)) for part in parts) / 3
        assert float(getattr(whole, name)) == pytest.approx(mean, rel=1e-5)


def test_the_truth_itself_costs_nothing_but_the_masks() -> None:
    _, targets = random_batch(SHAPE, 8)
    assert (
        float(alpha_loss(targets.alpha, targets))
        == float(gradient_loss(targets.alpha, targets))
        == 0.0
    )
    certain = torch.where(targets.union, 20.0, -20.0)
    assert float(mask_loss(certain, targets.union, targets.valid)) == pytest.approx(0.0, abs=1e-8)


def test_without_masks_only_the_matte_is_judged() -> None:
    _, targets = random_batch(SHAPE, 9)
    got = losses(NetworkOutput(random_output(SHAPE, 1).alpha, None), targets)
    assert float(got.overlap) == float(got.union) == 0.0
    assert float(got.total) == pytest.approx(10 * float(got.alpha) + 10 * float(got.gradient))


def test_half_precision_is_summed_in_single() -> None:
    _, targets = random_batch((1, 1, 32, 32, 32), 2)
    output = random_output((1, 1, 32, 32, 32), 3)
    half = NetworkOutput(output.alpha.bfloat16(), output.masks.bfloat16())
    rounded = NetworkOutput(half.alpha.float(), half.masks.float())
    assert float(losses(half, targets).total) == float(losses(rounded, targets).total)

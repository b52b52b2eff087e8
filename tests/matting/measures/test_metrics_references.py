"""Gradient and connectivity errors against plain loops, in 3D and on a single slice in 2D."""

from itertools import product
from math import exp, sqrt

import numpy as np
import pytest

from matting.measures.metrics import connectivity_error, gradient_error, mse, sad

SIGMA, REACH = 1.4, 4
Floats = np.ndarray


def mattes(shape: tuple[int, ...], seed: int) -> tuple[Floats, Floats, Floats]:
    """Two mattes in coarse steps, so that they hang together in places, and a region."""
    rng = np.random.default_rng(seed)
    alpha, truth = (np.clip(np.round(rng.random(shape) * 1.4 - 0.1, 1), 0, 1) for _ in range(2))
    return alpha, truth, rng.random(shape) > 0.3


def kernel(order: int, mode: str) -> list[float]:
    places = range(-REACH, REACH + 1)
    weights = [exp(-0.5 * (t / SIGMA) ** 2) * (t if order else 1) for t in places]
    if mode == "dim":
        total = sqrt(sum(w * w for w in weights))
    else:
        total = sum(w * (t if order else 1) for w, t in zip(weights, places, strict=True))
    return [w / total for w in weights]


def derivative(matte: Floats, place: tuple[int, ...], along: int, mode: str) -> float:
    """One component of the gradient at a voxel, for any dimension, the border repeated."""
    kernels = [kernel(int(axis == along), mode) for axis in range(matte.ndim)]
    total = 0.0
    for steps in product(range(2 * REACH + 1), repeat=matte.ndim):
        there = tuple(
            min(max(p + s - REACH, 0), n - 1)
            for p, s, n in zip(place, steps, matte.shape, strict=True)
        )
        weight = 1.0
        for axis, step in enumerate(steps):
            weight *= kernels[axis][step]
        total += weight * float(matte[there])
    return total


def plain_gradient_error(alpha: Floats, truth: Floats, region: Floats, mode: str) -> float:
    total = 0.0
    for place in zip(*np.nonzero(region), strict=True):
        ours, theirs = (
            [derivative(m, place, a, mode) for a in range(m.ndim)] for m in (alpha, truth)
        )
        if mode == "vector":
            total += sum((a - b) ** 2 for a, b in zip(ours, theirs, strict=True))
        else:
            total += (sqrt(sum(a * a for a in ours)) - sqrt(sum(b * b for b in theirs))) ** 2
    return total


def pieces(mask: Floats) -> list[set[tuple[int, ...]]]:
    """The connected pieces of a mask by flooding; neighbours share a face, in 2D an edge."""
    left, found = set(zip(*(axis.tolist() for axis in np.nonzero(mask)), strict=True)), []
    while left:
        piece, open_ = set(), [min(left)]
        while open_:
            place = open_.pop()
            if place in left:
                left.remove(place)
                piece.add(place)
                for axis, step in product(range(mask.ndim), (-1, 1)):
                    open_.append((*place[:axis], place[axis] + step, *place[axis + 1 :]))
        found.append(piece)
    return found


def plain_connectivity_error(alpha: Floats, truth: Floats, region: Floats) -> float:
    body = set(
        zip(
            *(axis.tolist() for axis in np.indices(alpha.shape).reshape(alpha.ndim, -1)),
            strict=True,
        )
    )
    level = np.zeros(alpha.shape)
    for k in range(1, 11):
        found = pieces((alpha >= k / 10) & (truth >= k / 10))
        body &= max(found, key=len) if found else set()
        for place in body:
            level[place] = k / 10
    total = 0.0
    for place in zip(*np.nonzero(region), strict=True):
        excess = [float(m[place]) - float(level[place]) for m in (alpha, truth)]
        ours, theirs = (1.0 - e if e >= 0.15 else 1.0 for e in excess)
        total += abs(ours - theirs)
    return total


@pytest.mark.parametrize("mode", ["clean", "dim", "vector"])
def test_gradient_error_is_its_formula(mode: str) -> None:
    alpha, truth, region = mattes((4, 5, 6), seed=1)
    region &= np.random.default_rng(2).random(region.shape) > 0.7
    expected = plain_gradient_error(alpha, truth, region, mode)
    assert gradient_error(alpha, truth, region, mode=mode) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_connectivity_error_is_its_formula(seed: int) -> None:
    # Smooth steps along one axis, so that there is one large body and several pieces apart from it
    alpha, truth, region = mattes((4, 5, 6), seed)
    alpha, truth = (
        np.maximum(matte, np.linspace(0.9, 0.0, 6).round(1)) for matte in (alpha, truth)
    )
    expected = plain_connectivity_error(alpha, truth, region)
    assert expected > 0
    assert connectivity_error(alpha, truth, region) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_a_single_slice_has_the_errors_of_the_image(seed: int) -> None:
    alpha, truth, region = mattes((9, 10), seed)
    flat = tuple(array[None] for array in (alpha, truth, region))
    assert sad(*flat) == pytest.approx(np.abs(alpha - truth)[region].sum())
    assert mse(*flat) == pytest.approx(((alpha - truth)[region] ** 2).mean())
    assert connectivity_error(*flat) == pytest.approx(
        plain_connectivity_error(alpha, truth, region)
    )
    # "dim" does not: a kernel of unit norm does not sum to one along the third axis
    for mode in ("clean", "vector"):
        expected = plain_gradient_error(alpha, truth, region, mode)
        assert gradient_error(*flat, mode=mode) == pytest.approx(expected, rel=1e-9)

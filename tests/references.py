"""Slow, plain versions of what matting/ does fast: dense matrices from the papers' formulas."""

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from matting.parameters import (
    InformationFlowSettings,
    KnnSettings,
    LearningBasedSettings,
    Parameters,
    PriorSettings,
)
from matting.solvers.foreground_target import foreground_target

Floats = NDArray[np.float64]
EVERY_TERM = Parameters.improved()
"""Every term of every method is there, so that each parameter matters."""


@dataclass(frozen=True)
class Scene:
    """A small volume with its labels, all in one domain."""

    intensity: Floats
    unknown: NDArray[np.bool_]
    foreground: NDArray[np.bool_]
    spacing_mm: tuple[float, float, float]
    position_scale_mm: float = 6.0

    @property
    def background(self) -> NDArray[np.bool_]:
        return ~self.unknown & ~self.foreground

    @property
    def trimap(self) -> NDArray[np.uint8]:
        return np.where(self.unknown, 128, np.where(self.foreground, 255, 0)).astype(np.uint8)

    @property
    def readers(self) -> NDArray[np.bool_]:
        """(3, z, y, x): outlines through the band, around all of it, and by intensity."""
        third = np.indices(self.unknown.shape).sum(axis=0) % 3 == 0
        within = [self.unknown & third, self.unknown, self.unknown & (self.intensity > 0.5)]
        return np.stack([self.foreground | extra for extra in within])

    @property
    def hu(self) -> Floats:
        return self.intensity * 1400.0 - 1000.0

    @property
    def longest_side_mm(self) -> float:
        """Of the box that is searched, the position scale of the literature."""
        return max(n * step for n, step in zip(self.unknown.shape, self.spacing_mm, strict=True))

    @property
    def voxel_pitch(self) -> Floats:
        return np.array(self.spacing_mm) / self.position_scale_mm


def random_scene(seed: int, *, ties: bool = False) -> Scene:
    """Random intensities and labels.

    With ties, a third of the voxels is clipped air or clipped bone.
    """
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(3, 7, 3))
    intensity = rng.random(shape)
    if ties:
        intensity = np.clip(intensity * 1.5 - 0.25, 0.0, 1.0)
    labels = rng.choice(3, size=shape, p=(0.3, 0.5, 0.2))
    labels.ravel()[rng.permutation(labels.size)[:3]] = (0, 1, 2)
    spacing = tuple(rng.uniform(0.5, 2.0, 3).tolist())
    return Scene(intensity, labels == 1, labels == 2, spacing)


def windows(shape: tuple[int, ...]) -> list[list[int]]:
    """The flat indices of every 3 x 3 x 3 window inside a volume."""
    index = np.arange(np.prod(shape)).reshape(shape)
    centres = product(*(range(1, size - 1) for size in shape))
    return [
        index[z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2].ravel().tolist() for z, y, x in centres
    ]


def channels(scene: Scene, mean_reach_mm: float) -> Floats:
    """(2, voxels): intensity, and the mean of the box around each voxel less its own.

    Borders are repeated.
    """
    reach = [round(mean_reach_mm / spacing) for spacing in scene.spacing_mm]
    padded = np.pad(scene.intensity, [(far, far) for far in reach], mode="edge")
    boxes = np.lib.stride_tricks.sliding_window_view(padded, [2 * far + 1 for far in reach])
    return np.stack(
        [scene.intensity.ravel(), (boxes.mean(axis=(3, 4, 5)) - scene.intensity).ravel()]
    )


def window_weight(values: Floats, trusted_variance: float | None) -> float:
    """The weight of a window of these intensities."""
    return 1.0 if trusted_variance is None else trusted_variance / (values.var() + trusted_variance)


def closed_form(
    scene: Scene, epsilon: float, mean_reach_mm: float = 0.0, trusted_variance: float | None = None
) -> Floats:
    channel_values = channels(scene, mean_reach_mm)
    unknown = scene.unknown.ravel()
    intensity = scene.intensity.ravel()
    total = np.zeros((intensity.size, intensity.size))
    for window in windows(scene.intensity.shape):
        if unknown[window].any():
            values = channel_values[:, window]
            centred = values - values.mean(axis=1, keepdims=True)
            covariance = centred @ centred.T / 27.0 + epsilon / 27.0 * np.eye(2)
            local = np.eye(27) - (1.0 + centred.T @ np.linalg.solve(covariance, centred)) / 27.0
            total[np.ix_(window, window)] += (
                window_weight(intensity[window], trusted_variance) * local
            )
    return total


def learning_based(scene: Scene, parameters: LearningBasedSettings) -> Floats:
    channel_values = channels(scene, parameters.mean_reach_mm)
    intensity, unknown = scene.intensity.ravel(), scene.unknown.ravel()
    total = np.zeros((intensity.size, intensity.size))
    centred = {
        tuple(nearest_window(scene.intensity.shape, voxel)) for voxel in np.flatnonzero(unknown)
    }
    for window in windows(scene.intensity.shape):
        touching = parameters.windows == "touching"
        included = unknown[window].any() if touching else tuple(window) in centred
        if included:
            values = intensity[window]
            if parameters.kernel == "linear":
                design = np.stack([*channel_values[:, window], np.ones(27)], axis=1)
                kernel = design @ design.T
            else:
                kernel = np.exp(
                    -((values[:, None] - values) ** 2) / (2 * parameters.kernel_width**2)
                )
            predicted = kernel @ np.linalg.inv(kernel + parameters.ridge * np.eye(27))
            misfit = np.eye(27) - predicted
            total[np.ix_(window, window)] += (
                window_weight(values, parameters.trusted_variance) * misfit.T @ misfit
            )
    return total


def nearest_window(shape: tuple[int, ...], voxel: int) -> list[int]:
    """The window inside the volume whose centre is nearest to a voxel."""
    place = np.array(np.unravel_index(voxel, shape))
    centre = np.minimum(np.maximum(place, 1), np.array(shape) - 2)
    return next(w for w in windows(shape) if w[13] == np.ravel_multi_index(tuple(centre), shape))


def nearest(
    scene: Scene,
    candidates: NDArray[np.bool_],
    voxel: int,
    count: int,
    intensity_weight: float,
    position_weight: float,
) -> list[int]:
    """The nearest candidates of one voxel, by distance and then by index."""
    squares = np.zeros(scene.intensity.size)
    for axis, step in enumerate(position_weight * scene.voxel_pitch):
        index = np.indices(scene.intensity.shape)[axis].ravel()
        squares += ((index - index[voxel]) * step) ** 2
    squares += (intensity_weight * (scene.intensity.ravel() - scene.intensity.ravel()[voxel])) ** 2
    allowed = [n for n in np.flatnonzero(candidates) if n != voxel]
    return sorted(allowed, key=lambda n: (squares[n], n))[:count]


def affinity(
    scene: Scene, i: int, j: int, intensity_weight: float, position_weight: float
) -> float:
    intensity = scene.intensity.ravel()
    apart = [intensity_weight * abs(intensity[i] - intensity[j])]
    ends = zip(
        *(np.unravel_index(n, scene.intensity.shape) for n in (i, j)),
        scene.voxel_pitch,
        strict=True,
    )
    apart += [position_weight * step * abs(int(a) - int(b)) for a, b, step in ends]
    return max(0.0, 1.0 - float(np.mean(apart)))


def graph_laplacian(weights: Floats) -> Floats:
    return np.diag(weights.sum(axis=1)) - weights


def knn(scene: Scene, parameters: KnnSettings) -> Floats:
    size = scene.intensity.size
    weights = np.zeros((size, size))
    everywhere = np.ones(scene.intensity.shape, bool)
    for count, level in zip(parameters.neighbours, parameters.position_weights, strict=True):
        for i in range(size) if parameters.search_known else np.flatnonzero(scene.unknown):
            for j in nearest(scene, everywhere, i, count, parameters.intensity_weight, level):
                w = affinity(scene, i, j, parameters.intensity_weight, level)
                if scene.unknown.ravel()[[i, j]].any():
                    weights[i, j] = max(weights[i, j], w)
    return graph_laplacian(np.maximum(weights, weights.T))


def rebuilding(scene: Scene, voxel: int, others: list[int], ridge: float) -> Floats:
    """Weights w, summing to one, that minimise (I_p - w.n)^2 + ridge |w|^2.

    They follow from the conditions of optimality

    (d d^T + ridge Id) w + multiplier 1 = d (I_p - m) and 1.w = 1, with d = n - m.
    """
    values = scene.intensity.ravel()[others]
    apart = values - values.mean()
    count = len(others)
    system = np.zeros((count + 1, count + 1))
    system[:count, :count] = np.outer(apart, apart) + ridge * np.eye(count)
    system[:count, count] = system[count, :count] = 1.0
    right = np.append(apart * (scene.intensity.ravel()[voxel] - values.mean()), 1.0)
    return np.linalg.solve(system, right)[:count]


Regions = tuple[NDArray[np.bool_], NDArray[np.bool_]]
"""Foreground and background, (z, y, x) each."""


def trimmed_by_edges(scene: Scene) -> Regions:
    """Unknown voxels within 9 voxels and 9 levels of known ones of one side alone join it."""
    shape = scene.unknown.shape
    places = np.argwhere(np.ones(shape)) * np.array(scene.spacing_mm) / min(scene.spacing_mm)
    levels = 255.0 * scene.intensity.ravel()
    apart = np.abs(levels[:, None] - levels)
    distance = cdist(places, places)
    close = (distance < 9.0) & (apart <= 9.0 - distance)
    near_foreground = close[:, scene.foreground.ravel()].any(axis=1).reshape(shape)
    near_background = close[:, scene.background.ravel()].any(axis=1).reshape(shape)
    return (
        scene.foreground | (scene.unknown & near_foreground & ~near_background),
        scene.background | (scene.unknown & near_background & ~near_foreground),
    )


def trimmed_by_patches(scene: Scene, regions: Regions) -> Regions:
    """Unknown voxels whose patch is within 0.25 of one side and beyond 0.9 of the other join it."""
    padded = np.pad(scene.intensity, 1, mode="edge")
    mean, variance = np.zeros(scene.intensity.size), np.zeros(scene.intensity.size)
    for n, (z, y, x) in enumerate(np.ndindex(scene.intensity.shape)):
        patch = padded[z : z + 3, y : y + 3, x : x + 3]
        mean[n], variance[n] = patch.mean(), patch.var() + 1.0 / (12.0 * 255.0**2)
    places = np.argwhere(np.ones(scene.unknown.shape))

    def least(p: int, side: NDArray[np.bool_]) -> float:
        others = np.flatnonzero(side)
        by_place = ((places[others] - places[p]) ** 2).sum(axis=1) * (1e-3 / 255.0) ** 2
        order = np.argsort((mean[others] - mean[p]) ** 2 + by_place, kind="stable")[:10]
        q = others[order]
        both = variance[p] + variance[q]
        shift = (mean[p] - mean[q]) ** 2 / (4.0 * both)
        spread = 0.5 * np.log(both / (2.0 * np.sqrt(variance[p] * variance[q])))
        return float((shift + spread).min())

    foreground, background = (side.copy() for side in regions)
    for p in np.flatnonzero(~(regions[0] | regions[1])):
        inner, outer = (least(p, side) for side in regions)
        foreground.ravel()[p] = inner < 0.25 and outer > 0.9
        background.ravel()[p] = outer < 0.25 and inner > 0.9
    return foreground, background


def information_flow(
    scene: Scene, p: InformationFlowSettings, known: Floats, as_foreground: Floats
) -> tuple[Floats, Floats, Floats]:
    """L, and for all voxels the term and its target.

    Given S, and S as known foreground, (voxels, columns) each.
    """
    regions: Regions = (scene.foreground, scene.background)
    if p.edge_trimming:
        regions = trimmed_by_edges(scene)
    if p.patch_trimming:
        regions = trimmed_by_patches(scene, regions)
    inside, outside = (region.ravel() for region in regions)
    size = scene.intensity.size
    everywhere = np.ones(scene.intensity.shape, bool)
    mixing, intra = np.zeros((size, size)), np.zeros((size, size))
    term, target = np.zeros(size), np.zeros((size, known.shape[1]))
    intensity = scene.intensity.ravel()
    for i in np.flatnonzero(scene.unknown):
        others = nearest(scene, everywhere, i, p.mixture_neighbours, 1.0, p.mixture_position_weight)
        mixing[i, i] = 1.0
        mixing[i, others] -= rebuilding(scene, i, others, p.mixture_ridge)
        for j in nearest(scene, scene.unknown, i, p.intra_neighbours, 1.0, p.intra_position_weight):
            intra[i, j] = affinity(scene, i, j, 1.0, p.intra_position_weight)
        if inside[i] or outside[i]:
            term[i] = p.known_strength
            target[i] = as_foreground[i] * inside[i]
            continue
        foreground, around = (
            nearest(scene, region, i, p.known_neighbours, 1.0, p.known_position_weight)
            for region in regions
        )
        w = rebuilding(scene, i, foreground + around, p.mixture_ridge)
        mine, theirs = w[: len(foreground)], w[len(foreground) :]
        term[i] = (
            p.known_strength * (mine @ intensity[foreground] - theirs @ intensity[around]) ** 2
        )
        there = as_foreground[foreground]
        target[i] = np.clip(mine @ there, 0.0, there.max(axis=0))
    local = closed_form(scene, p.local_epsilon, p.local_mean_reach_mm, p.local_trusted_variance)
    operator = mixing.T @ mixing + p.intra_strength * graph_laplacian(np.maximum(intra, intra.T))
    return operator + p.local_strength * local, term, target


def reader_prior(scene: Scene, p: PriorSettings) -> Floats:
    """t of all voxels, from the formula: smooth step of mean signed distance and local density."""
    places = np.argwhere(np.ones(scene.intensity.shape)) * np.array(scene.spacing_mm)

    def nearest_mm(mask: NDArray[np.bool_]) -> Floats:
        return cdist(places, places[mask.ravel()]).min(axis=1)

    signed = [
        np.where(mask.ravel(), nearest_mm(~mask), -nearest_mm(mask)) for mask in scene.readers
    ]
    hu = scene.hu.ravel()
    around = scene.background.ravel() & (nearest_mm(scene.unknown) <= 5.0)
    around = around & (hu != -1000.0) if (around & (hu != -1000.0)).any() else around
    core, lung = np.median(hu[scene.foreground.ravel()]), np.median(hu[around])
    density = np.clip((hu - lung) / max(core - lung, 50.0), 0.0, 1.0)
    step = 0.5 + np.mean(signed, axis=0) / p.width_mm + p.density_weight * (density - 0.5)
    u = np.clip(step, 0.0, 1.0)
    return u * u * (3.0 - 2.0 * u)


def with_prior(
    parts: tuple[Floats, Floats, Floats],
    scene: Scene,
    known: Floats,
    p: PriorSettings,
    strength: float,
) -> tuple[Floats, Floats, Floats]:
    """Add the prior's data term to an operator's own, for all voxels."""
    operator, term, target = parts
    weight = strength * scene.unknown.ravel()
    foreground = known[scene.foreground.ravel()].mean(axis=0)
    moment = term[:, None] * target + (weight * reader_prior(scene, p))[:, None] * foreground
    return operator, term + weight, moment / np.maximum(term + weight, 1e-300)[:, None]


def solve(
    operator: Floats,
    scene: Scene,
    known: Floats,
    term: Floats | None = None,
    target: Floats | None = None,
) -> Floats:
    """Eliminate known voxels exactly (Eq. 15)."""
    unknown = scene.unknown.ravel()
    system = operator[np.ix_(unknown, unknown)]
    right = -operator[np.ix_(unknown, ~unknown)] @ known[~unknown]
    if term is not None and target is not None:
        system = system + np.diag(term[unknown])
        right = right + (term[:, None] * target)[unknown]
    alpha = known.copy()
    alpha[unknown] = np.linalg.solve(system, right)
    return np.clip(alpha, 0.0, 1.0)


def solve_weighted(
    operator: Floats,
    scene: Scene,
    known: Floats,
    weight: float,
    term: Floats | None = None,
    target: Floats | None = None,
) -> Floats:
    """Pull known voxels by a weight (Eq. 18)."""
    penalty = weight * np.diag((~scene.unknown.ravel()).astype(float))
    right = penalty @ known
    if term is not None and target is not None:
        operator = operator + np.diag(term)
        right = right + term[:, None] * target
    return np.clip(np.linalg.solve(operator + penalty, right), 0.0, 1.0)


def system(
    family: str, scene: Scene, known: Floats, parameters: Parameters
) -> tuple[Floats, Floats, Floats]:
    """The dense operator of one method, its term and its target."""
    target = foreground_target(scene.hu.ravel(), parameters.density)
    as_foreground = np.stack([np.ones_like(target), target], axis=1)
    curve = parameters.solver.intensity_curve
    curved = replace(scene, intensity=(1 + curve) * scene.intensity / (1 + curve * scene.intensity))
    none = np.zeros(scene.intensity.size), np.zeros_like(known)
    p, prior = parameters.closed_form, parameters.prior
    if family == "if":
        parts = information_flow(curved, parameters.information_flow, known, as_foreground)
        strength = prior.information_flow
    elif family == "cf":
        parts = closed_form(curved, p.epsilon, p.mean_reach_mm, p.trusted_variance), *none
        strength = prior.closed_form
    elif family == "lb":
        parts = learning_based(curved, parameters.learning_based), *none
        strength = prior.learning_based
    else:
        parts = knn(curved, parameters.knn), *none
        strength = prior.knn
    return with_prior(parts, scene, known, prior, strength)

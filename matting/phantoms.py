"""Simulated CT of a nodule whose matte is known.

The shape follows the readers' outlines and the composition their ratings; the rest is drawn from a
random generator. Image formation:

    S = a F + (1 - a) B                on a grid that is finer across slices (`Scene`)
    I = mean over the slice (G * S)    G: the scanner's point spread in plane and the slice profile
                                       (`scan_scene`)
    CT = I + n                         n: noise, correlated within a slice (`scanner_noise`)

symbol  here            meaning
a       alpha           share of lesion; 1/2 is inside the readers' mean outline, since readers
                        draw outward
F       foreground_hu   pure lesion: ground glass, solid, cores, calcium, necrosis; vessels seen
                        through ground glass
B       background_hu   lung, emphysema, vessels, chest wall: at tissue density also where they
                        touch the lesion

The same arguments and generator state give the same arrays; BLAS and its threads take no part.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import fft, ndimage

from matting.geometry.grid import Vector
from matting.geometry.resample import signed_distance_mm
from matting.short_repr import short_repr

Kind = Literal["solid", "part-solid", "ground-glass"]
Volume = NDArray[np.float32]
Point = NDArray[np.float64]

LUNG_HU = -870.0
TISSUE_HU = 40.0
FAT_HU = -100.0
BONE_HU = 350.0
EMPHYSEMA_HU = -960.0
OUTSIDE_HU = -1000.0

FINE_STEP_MM = 0.6
"""Slices thicker than this are simulated as several thinner ones and averaged."""
FWHM_PER_SIGMA = 2.3548
VESSELS_PER_MM3 = 1 / 4000
"""Density of the vessels in the background, besides those that touch the lesion."""
EDGE_MM = 0.6
"""Width of the soft edge of vessels and of the chest wall."""


@dataclass(frozen=True, slots=True)
class Ratings:
    """The readers' ratings of a nodule, each the mean over readers on LIDC's scale."""

    texture: float
    """1 ground glass, 3 part-solid, 5 solid."""
    margin: float
    """1 poorly defined to 5 sharp."""
    spiculation: float
    """1 none to 5 marked."""
    calcification: float
    """6 absent, below: one of the forms of calcium."""

    @property
    def kind(self) -> Kind:
        """The kind of lesion that the texture rating stands for."""
        if self.texture < 2.5:
            return "ground-glass"
        return "part-solid" if self.texture < 4.5 else "solid"


@dataclass(frozen=True, slots=True)
class Scene:
    """The object scanned, on a grid of `steps` thin slices per CT slice."""

    alpha: Volume
    foreground_hu: Volume
    background_hu: Volume
    spacing_mm: Vector
    """Spacing of the fine grid along (z, y, x)."""
    steps: int

    @property
    def composed_hu(self) -> Volume:
        """The scene's radiodensity, a F + (1 - a) B."""
        return self.alpha * self.foreground_hu + (1 - self.alpha) * self.background_hu


@dataclass(frozen=True, slots=True)
class Lesion:
    """A simulated nodule on the CT's own grid."""

    image_hu: Volume
    """The CT without noise."""
    alpha: Volume
    """The known matte in 0..1, averaged over each voxel."""
    foreground_hu: Volume
    """Pure radiodensity of the lesion, averaged over each voxel with the matte as weight."""

    __repr__ = short_repr


def simulate_lesion(
    readers: NDArray[np.bool_],
    *,
    spacing_mm: Vector,
    thickness_mm: float,
    ratings: Ratings,
    surroundings_hu: Volume,
    generator: Generator,
) -> Lesion:
    """Simulate the CT of one nodule, without noise.

    Args:
        readers: (readers, z, y, x), what each reader marked.
        spacing_mm: Voxel spacing along (z, y, x).
        thickness_mm: Thickness of the slices, which may be more than their distance.
        ratings: The readers' mean ratings.
        surroundings_hu: (z, y, x), the body without this nodule: lung at LUNG_HU, chest wall.
        generator: Source of all random numbers.

    Returns:
        Image, matte and pure radiodensity on the CT's grid.
    """
    scene = compose_scene(
        readers,
        spacing_mm=spacing_mm,
        ratings=ratings,
        surroundings_hu=surroundings_hu,
        generator=generator,
    )
    return scan_scene(scene, thickness_mm=thickness_mm, fwhm_mm=generator.uniform(1.0, 1.4))


def compose_scene(
    readers: NDArray[np.bool_],
    *,
    spacing_mm: Vector,
    ratings: Ratings,
    surroundings_hu: Volume,
    generator: Generator,
) -> Scene:
    """Simulate matte, lesion and background before the scan.

    Args:
        readers: (readers, z, y, x), what each reader marked.
        spacing_mm: Voxel spacing along (z, y, x).
        ratings: The readers' mean ratings.
        surroundings_hu: (z, y, x), the body without this nodule: lung at LUNG_HU, chest wall.
        generator: Source of all random numbers.
    """
    steps = max(1, round(spacing_mm[0] / FINE_STEP_MM))
    fine_mm = (spacing_mm[0] / steps, spacing_mm[1], spacing_mm[2])
    mean_distance_mm = np.stack([signed_distance_mm(mask, spacing_mm) for mask in readers]).mean(
        axis=0
    )
    depth_mm = _true_depth(_refine(mean_distance_mm, steps), fine_mm, ratings, generator)
    alpha = _matte(depth_mm, fine_mm, ratings, generator)
    vessels = _vessels(depth_mm, fine_mm, generator)
    background_hu = _background(_refine(surroundings_hu, steps), vessels, fine_mm, generator)
    foreground_hu = _foreground(depth_mm, vessels, fine_mm, ratings, generator)
    return Scene(alpha, foreground_hu, background_hu, fine_mm, steps)


def scan_scene(scene: Scene, *, thickness_mm: float, fwhm_mm: float) -> Lesion:
    """Simulate the scan of a scene, without noise.

    Args:
        scene: The object.
        thickness_mm: Thickness of the slices; more than their distance blurs across slices.
        fwhm_mm: Full width at half maximum of the point spread in plane.

    Returns:
        Image, matte and pure radiodensity on the CT's grid.
    """
    dz, dy, dx = scene.spacing_mm
    # For slices thicker than their distance: the variance of the wider box profile minus that of
    # the averaging below
    across_mm = np.sqrt(max(thickness_mm**2 - (dz * scene.steps) ** 2, 0.0) / 12)
    in_plane_mm = fwhm_mm / FWHM_PER_SIGMA
    sigma = (across_mm / dz, in_plane_mm / dy, in_plane_mm / dx)
    image_hu = _coarsen(
        ndimage.gaussian_filter(scene.composed_hu, sigma, mode="nearest"), scene.steps
    )
    alpha = _coarsen(scene.alpha, scene.steps)
    share = _coarsen(scene.alpha * scene.foreground_hu, scene.steps)
    pure_hu = np.where(
        alpha > 1e-3, share / np.maximum(alpha, 1e-3), _coarsen(scene.foreground_hu, scene.steps)
    )
    return Lesion(image_hu, alpha, pure_hu.astype(np.float32))


def scanner_noise(
    shape: tuple[int, int, int], spacing_mm: Vector, noise_hu: float, generator: Generator
) -> Volume:
    """Draw noise with the texture of filtered back projection.

    It has little power at low and at the highest frequencies.

    Args:
        shape: Voxels along (z, y, x).
        spacing_mm: Voxel spacing along (z, y, x).
        noise_hu: Standard deviation.
        generator: Source of random numbers.

    Returns:
        (z, y, x), HU of mean 0.
    """
    _, ny, nx = shape
    frequency = np.hypot(
        np.fft.fftfreq(ny, spacing_mm[1])[:, None], np.fft.fftfreq(nx, spacing_mm[2])[None, :]
    )
    response = np.sqrt(frequency + 0.03) * np.exp(-((frequency / 0.5) ** 2))
    gain = (noise_hu / np.sqrt(np.mean(response**2))) * response[:, : nx // 2 + 1]
    white = generator.standard_normal(shape, dtype=np.float32)
    noise: Volume = fft.irfft2(
        fft.rfft2(white, workers=1) * gain.astype(np.float32), s=(ny, nx), workers=1
    )
    return noise


def torso_hu(
    shape: tuple[int, int],
    spacing_mm: tuple[float, float],
    lesions: list[tuple[NDArray[np.bool_], bool]],
) -> Volume:
    """Draw a simple transverse slice of a chest.

    It has lungs, mediastinum, spine, chest wall and fat, and air around it.

    Args:
        shape: Pixels along (y, x).
        spacing_mm: Pixel spacing along (y, x).
        lesions: For each nodule its mask in plane and whether it touches the chest wall. The lung
            of its side is drawn so wide that the nodule lies inside it.

    Returns:
        (y, x), HU.
    """
    field_mm = shape[0] * spacing_mm[0]
    y = ((np.arange(shape[0]) - (shape[0] - 1) / 2) * spacing_mm[0] / field_mm)[:, None]
    x = ((np.arange(shape[1]) - (shape[1] - 1) / 2) * spacing_mm[1] / field_mm)[None, :]
    body = np.hypot(y / 0.37, x / 0.48)
    hu = np.where(body > 1, OUTSIDE_HU, np.where(body > 0.93, FAT_HU, TISSUE_HU))
    hu = np.where(np.hypot(y - 0.2, x) < 0.045, BONE_HU, hu)
    for side in (-1.0, 1.0):
        radius = np.hypot((y + 0.01) / 0.25, (x - side * 0.2) / 0.165)
        here = [
            (radius[mask], touches)
            for mask, touches in lesions
            if side * float((x * mask).sum()) > 0
        ]
        reach = max(
            [
                1.0 if not any(touches for _, touches in here) else 0.0,
                *(_reach(r, t, field_mm) for r, t in here),
            ]
        )
        inside = np.clip((reach - radius) * 0.2 * field_mm / EDGE_MM + 0.5, 0, 1)
        hu = hu + inside * (LUNG_HU - hu)
    return hu.astype(np.float32)


def _reach(radius: NDArray[np.float64], touches: bool, field_mm: float) -> float:
    """Return the size of a lung that touches or contains a nodule, relative to its plain size."""
    outermost = float(radius.max())
    return outermost if touches else outermost + 8.0 / (0.2 * field_mm)


def _refine(volume: Volume, steps: int) -> Volume:
    """Interpolate linearly to `steps` thin slices per slice, centred within it."""
    count = len(volume)
    position = np.clip((np.arange(count * steps) + 0.5) / steps - 0.5, 0, count - 1)
    lower = np.minimum(position.astype(np.intp), max(count - 2, 0))
    weight = (position - lower).astype(np.float32)[:, None, None]
    fine: Volume = volume[lower] * (1 - weight) + volume[np.minimum(lower + 1, count - 1)] * weight
    return fine


def _coarsen(volume: Volume, steps: int) -> Volume:
    """Average the thin slices of each slice."""
    mean: Volume = volume.reshape(-1, steps, *volume.shape[1:]).mean(axis=1)
    return mean


def _texture(
    shape: tuple[int, ...], spacing_mm: Vector, scale_mm: float, generator: Generator
) -> Volume:
    """Draw a smooth random field of mean 0 and standard deviation 1."""
    white = generator.standard_normal(shape, dtype=np.float32)
    sigma = [scale_mm / step for step in spacing_mm]
    field: Volume = ndimage.gaussian_filter(white, sigma, mode="wrap", truncate=3.0)
    return field / np.float32(max(float(field.std(dtype=np.float64)), 1e-6))


def _smoothstep(x: Volume) -> Volume:
    t = np.clip(x, 0, 1)
    return t * t * (3 - 2 * t)


def _true_depth(
    distance_mm: Volume, spacing_mm: Vector, ratings: Ratings, generator: Generator
) -> Volume:
    """Return the depth below the true surface: the readers' mean outline, inset and uneven; mm."""
    deepest_mm = _deepest_mm(distance_mm)
    inset_mm = min(generator.uniform(0.1, 0.4), 0.25 * deepest_mm)
    unevenness_mm = min(0.15 + 0.08 * (5 - ratings.margin), 0.12 * deepest_mm)
    return (
        distance_mm
        - inset_mm
        + unevenness_mm * _texture(distance_mm.shape, spacing_mm, 2.0, generator)
    )


def _deepest_mm(depth_mm: Volume) -> float:
    """Return the largest depth of the lesion.

    At least half a millimetre, also if the readers share no voxel.
    """
    return max(float(depth_mm.max()), 0.5)


def _matte(depth_mm: Volume, spacing_mm: Vector, ratings: Ratings, generator: Generator) -> Volume:
    """Return the matte: a soft rim with spiculations."""
    softness_mm = {"solid": 1.8, "part-solid": 2.0, "ground-glass": 3.2}[ratings.kind]
    width_mm = min(softness_mm + 0.3 * (5 - ratings.margin), 1.1 * _deepest_mm(depth_mm))
    local_mm = width_mm * np.exp(0.25 * _texture(depth_mm.shape, spacing_mm, 3.0, generator))
    alpha = _smoothstep(0.5 + depth_mm / local_mm)
    for _ in range(round(3 * (ratings.spiculation - 1))):
        start, outward = _surface_point(depth_mm, spacing_mm, generator)
        path = _wander(start, outward, generator.uniform(1.5, 3.5), 0.1, generator)
        radii = np.linspace(generator.uniform(0.6, 1.0), 0.3, len(path))
        _draw_tube(alpha, spacing_mm, path, radii, level=generator.uniform(0.4, 0.8))
    return alpha


def _foreground(
    depth_mm: Volume, vessels: Volume, spacing_mm: Vector, ratings: Ratings, generator: Generator
) -> Volume:
    """Return the lesion's radiodensity everywhere, since any voxel may have some matte."""
    fine = _texture(depth_mm.shape, spacing_mm, 1.0, generator)
    uneven = _texture(depth_mm.shape, spacing_mm, 2.5, generator)
    deepest_mm = _deepest_mm(depth_mm)
    solid_hu: Volume = generator.uniform(20, 60) + 12 * fine
    # Ground glass of mixed nodules is denser than that of pure ones
    haze_hu: Volume = (
        generator.uniform(-660, -550) + 90 * (ratings.texture - 1) + 35 * fine + 45 * uneven
    )
    core_share = generator.uniform(0.55, 0.75) + 0.15 * (ratings.texture - 3)
    within_mm: Volume = depth_mm - (1 - core_share) * deepest_mm + 0.15 * deepest_mm * uneven
    core = _smoothstep(0.5 + within_mm / 2.0)
    if ratings.kind == "ground-glass":
        return haze_hu + 0.4 * vessels * (TISSUE_HU - haze_hu)
    if ratings.kind == "part-solid":
        thickened_hu: Volume = haze_hu + 60
        mixed_hu: Volume = thickened_hu + np.maximum(core, 0.4 * vessels) * (
            solid_hu - 80 + 30 * uneven - thickened_hu
        )
        return mixed_hu
    if ratings.calcification < 5.5:
        return solid_hu + generator.uniform(200, 700) * core
    if deepest_mm > 6 and generator.random() < 0.5:
        return solid_hu + (generator.uniform(0, 15) - solid_hu) * core
    return solid_hu


def _background(
    surroundings_hu: Volume, vessels: Volume, spacing_mm: Vector, generator: Generator
) -> Volume:
    """Return the background: parenchyma, emphysema and vessels in the lung of the surroundings."""
    inside_body = surroundings_hu > (LUNG_HU + OUTSIDE_HU) / 2
    lung = inside_body * np.clip((TISSUE_HU - surroundings_hu) / (TISSUE_HU - LUNG_HU), 0, 1)
    shape = surroundings_hu.shape
    level_hu = generator.uniform(-25, 25)
    parenchyma_hu = 14 * _texture(shape, spacing_mm, 1.0, generator) + 14 * _texture(
        shape, spacing_mm, 4.0, generator
    )
    # One nodule in three is in an emphysematous lung; for the others no texture reaches 6
    threshold = 0.8 if generator.random() < 1 / 3 else 6.0
    holes = _smoothstep(_texture(shape, spacing_mm, 2.5, generator) - threshold)
    base_hu = surroundings_hu + lung * (level_hu + parenchyma_hu)
    base_hu = base_hu + lung * holes * (EMPHYSEMA_HU - base_hu)
    background_hu: Volume = base_hu + vessels * lung * (generator.uniform(30, 50) - base_hu)
    return background_hu


def _vessels(depth_mm: Volume, spacing_mm: Vector, generator: Generator) -> Volume:
    """Return the share of vessel in each voxel.

    Some vessels lead to the lesion, some touch it, the others are elsewhere.
    """
    share = np.zeros_like(depth_mm)
    size_mm = np.array(depth_mm.shape) * spacing_mm
    for _ in range(round(float(size_mm.prod()) * VESSELS_PER_MM3)):
        start = generator.uniform(0, 1, 3) * size_mm
        _draw_vessel(
            share,
            spacing_mm,
            start,
            generator.standard_normal(3),
            generator.uniform(0.4, 1.3),
            generator,
        )
    for grazes in [False] * int(generator.integers(1, 3)) + [True] * int(generator.integers(0, 2)):
        start, outward = _surface_point(depth_mm, spacing_mm, generator)
        radius_mm = generator.uniform(0.6, 1.5)
        if grazes:
            ahead = _across(outward, generator)
            for direction in (ahead, -ahead):
                _draw_vessel(
                    share, spacing_mm, start + outward * radius_mm, direction, radius_mm, generator
                )
        else:
            _draw_vessel(share, spacing_mm, start - outward, outward, radius_mm, generator)
    return share


def _draw_vessel(
    share: Volume,
    spacing_mm: Vector,
    start: Point,
    direction: Point,
    radius_mm: float,
    generator: Generator,
) -> None:
    """Draw a tapering vessel with one branch."""
    trunk = _wander(start, direction, generator.uniform(20, 50), 0.06, generator)
    radii = np.linspace(radius_mm, 0.4 * radius_mm, len(trunk))
    _draw_tube(share, spacing_mm, trunk, radii, level=1.0)
    fork = int(generator.integers(len(trunk) // 3, len(trunk)))
    sideways = trunk[fork] - trunk[fork - 1] + 0.4 * generator.standard_normal(3)
    twig = _wander(trunk[fork], sideways, generator.uniform(10, 25), 0.08, generator)
    _draw_tube(share, spacing_mm, twig, np.linspace(0.8 * radii[fork], 0.25, len(twig)), level=1.0)


def _surface_point(
    depth_mm: Volume, spacing_mm: Vector, generator: Generator
) -> tuple[Point, Point]:
    """Draw a point on the lesion's surface, in mm from the first voxel, and the outward normal."""
    # A flat lesion may have no voxel near its surface: then take the shallowest.
    near = np.abs(depth_mm) <= max(0.5, float(np.abs(depth_mm).min()))
    places = np.argwhere(near)
    z, y, x = places[int(generator.integers(len(places)))]
    box = tuple(slice(max(i - 1, 0), i + 2) for i in (z, y, x))
    piece = depth_mm[box]
    slope = np.array(
        [
            np.gradient(piece, step, axis=a).mean() if piece.shape[a] > 1 else 0.0
            for a, step in enumerate(spacing_mm)
        ]
    )
    return np.array([z, y, x]) * spacing_mm, _unit(-slope)


def _across(direction: Point, generator: Generator) -> Point:
    """Draw a unit vector at right angles to `direction`."""
    other = generator.standard_normal(3)
    return _unit(other - direction * (other * direction).sum())


def _unit(direction: Point) -> Point:
    """Return a vector of length 1; a vector of length 0 becomes the last axis."""
    length = float(np.sqrt((direction**2).sum()))
    return direction / length if length > 1e-9 else np.array([0.0, 0.0, 1.0])


def _wander(
    start: Point, direction: Point, length_mm: float, bend: float, generator: Generator
) -> Point:
    """Return a random walk of half-millimetre steps that bends a little at each, (steps, 3), mm."""
    place = start.copy()
    ahead = _unit(direction)
    path = [place]
    for turn in generator.standard_normal((max(2, round(length_mm / 0.5)), 3)):
        ahead = _unit(ahead + bend * turn)
        place = place + 0.5 * ahead
        path.append(place)
    return np.array(path)


def _draw_tube(
    share: Volume, spacing_mm: Vector, path_mm: Point, radii_mm: Point, *, level: float
) -> None:
    """Raise `share` in place to `level` within a tube with soft sides."""
    axes_mm = [np.arange(n) * step for n, step in zip(share.shape, spacing_mm, strict=True)]
    reach_mm = (radii_mm + EDGE_MM)[:, None]
    low = np.maximum(np.ceil((path_mm - reach_mm) / spacing_mm), 0).astype(int)
    high = np.minimum(np.floor((path_mm + reach_mm) / spacing_mm) + 1, share.shape).astype(int)
    for k in np.flatnonzero((high > low).all(axis=1)):
        box = tuple(slice(lo, hi) for lo, hi in zip(low[k].tolist(), high[k].tolist(), strict=True))
        z, y, x = (
            (axis[side] - c) ** 2
            for axis, side, c in zip(axes_mm, box, path_mm[k].tolist(), strict=True)
        )
        distance_mm = np.sqrt(z[:, None, None] + (y[:, None] + x))
        piece = share[box]
        np.maximum(
            piece, level * np.clip((radii_mm[k] - distance_mm) / EDGE_MM + 0.5, 0, 1), out=piece
        )

"""Features of a cube of values in 0..1: size, shape, edge, histogram and texture.

They describe one input of Figure 6 by itself, so that simple classifiers can be compared on inputs
without training a network. Lengths are in mm, so that cubes of different spacing agree.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

FEATURES = (
    "log mass",
    "log volume above 0.1",
    "log volume above 0.5",
    "log volume above 0.9",
    "longest radius",
    "middle radius",
    "shortest radius",
    "middle / longest",
    "shortest / longest",
    "compactness",
    "log surface",
    "softness",
    "mean slope",
    "steepest slope",
    "mean",
    "deviation",
    "skewness",
    "10 % quantile",
    "25 % quantile",
    "median",
    "75 % quantile",
    "90 % quantile",
    "entropy",
    "local deviation",
    "blobs of 1 mm",
    "blobs of 2 mm",
    "correlation of neighbours",
)
"""Names of the features, in the order of `cube_features`."""
SUPPORT = 0.05
"""Voxels above this value count in histograms and slopes."""
_HISTOGRAM_BINS = 16
_QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
_SCALES_MM = (1.0, 2.0)
Cube = NDArray[np.float64]


def cube_features(cube: NDArray[np.floating], spacing_mm: float) -> NDArray[np.float64]:
    """Describe a cube by numbers.

    Args:
        cube: (z, y, x), values in 0..1; 0 outside the lesion, or an image scaled to 0..1.
        spacing_mm: Side of a voxel.

    Returns:
        (27,), in the order of `FEATURES`; all 0 for an empty cube. Volumes in mm3 and surfaces in
        mm2 as log(1 + x), radii in mm, slopes in 1/mm.
    """
    values = cube.astype(np.float64)
    support = values > SUPPORT
    if not support.any():
        return np.zeros(len(FEATURES))
    slope = np.sqrt(sum(np.square(part) for part in np.gradient(values, spacing_mm)))
    return np.array(
        [
            *_size(values, spacing_mm),
            *_shape(values, slope, spacing_mm),
            *_edge(values, slope, support),
            *_histogram(values[support]),
            *_texture(values, support, spacing_mm),
        ]
    )


def _size(values: Cube, spacing_mm: float) -> list[float]:
    voxel_mm3 = spacing_mm**3
    volumes = [values.sum(), *(np.count_nonzero(values > level) for level in (0.1, 0.5, 0.9))]
    return [float(np.log1p(volume * voxel_mm3)) for volume in volumes]


def _shape(values: Cube, slope: Cube, spacing_mm: float) -> list[float]:
    places = np.indices(values.shape).reshape(3, -1) * spacing_mm
    weights = values.ravel()
    # The variance within a voxel keeps a lesion of one voxel from having no extent.
    covariance = np.cov(places, aweights=weights, ddof=0) + np.eye(3) * spacing_mm**2 / 12
    short, middle, long = np.sqrt(np.clip(np.linalg.eigvalsh(covariance), 1e-12, None))
    mass_mm3 = values.sum() * spacing_mm**3
    surface_mm2 = slope.sum() * spacing_mm**3
    compactness = mass_mm3 ** (2 / 3) / max(surface_mm2, 1e-12)
    return [long, middle, short, middle / long, short / long, compactness, np.log1p(surface_mm2)]


def _edge(values: Cube, slope: Cube, support: NDArray[np.bool_]) -> list[float]:
    softness = (values * (1 - values)).sum() / values.sum()
    inside = slope[support]
    return [softness, inside.mean(), np.quantile(inside, 0.95)]


def _histogram(values: Cube) -> list[float]:
    mean, deviation = values.mean(), values.std()
    skewness = ((values - mean) ** 3).mean() / max(deviation, 1e-6) ** 3
    counts, _ = np.histogram(values, _HISTOGRAM_BINS, (0, 1))
    shares = counts[counts > 0] / counts.sum()
    entropy = -(shares * np.log(shares)).sum()
    return [mean, deviation, skewness, *np.quantile(values, _QUANTILES), entropy]


def _texture(values: Cube, support: NDArray[np.bool_], spacing_mm: float) -> list[float]:
    mean = ndimage.uniform_filter(values, 3)
    variance = np.clip(ndimage.uniform_filter(values**2, 3) - mean**2, 0, None)
    blobs = [
        ndimage.gaussian_laplace(values, scale / spacing_mm)[support].std() for scale in _SCALES_MM
    ]
    pairs = []
    for axis in range(3):
        first, second = (np.moveaxis(values, axis, 0)[part] for part in (np.s_[:-1], np.s_[1:]))
        both = np.moveaxis(support, axis, 0)
        both = both[:-1] & both[1:]
        a, b = first[both], second[both]
        spread = a.std() * b.std() if len(a) > 1 else 0.0
        pairs.append(((a - a.mean()) * (b - b.mean())).mean() / spread if spread > 1e-9 else 1.0)
    return [float(np.sqrt(variance[support]).mean()), *blobs, float(np.mean(pairs))]

"""Inner loops of the ghost networks' layers on a CPU, forward and backward, one channel at a time.

Serial (`matting.jit`): what a channel comes to does not depend on who computes the others. Sums run over rows
first, lane by lane, so that they vectorise without being reordered; only the weights' gradient is left to the
compiler, which keeps it in registers and takes half the time.

Every volume is (z, y, x), single precision.
"""

import numpy as np
from numpy.typing import NDArray

from matting.jit import kernel

Volume = NDArray[np.float32]


@kernel
def convolve(volume: Volume, weights: NDArray[np.float32], out: Volume) -> None:
    """Convolve a channel with 3x3x3 weights, zeros beyond its borders, as torch's Conv3d does."""
    depth, rows, _ = volume.shape
    for z in range(depth):
        for y in range(rows):
            row = out[z, y]
            row[:] = 0.0
            middle = row[1:-1]
            for dz in range(max(0, 1 - z), min(3, depth + 1 - z)):
                for dy in range(max(0, 1 - y), min(3, rows + 1 - y)):
                    seen = volume[z + dz - 1, y + dy - 1]
                    left, here, right = weights[dz, dy]
                    before, at, after = seen[:-2], seen[1:-1], seen[2:]
                    for k in range(middle.size):
                        middle[k] += left * before[k] + here * at[k] + right * after[k]
                    row[0] += here * seen[0] + right * seen[1]
                    row[-1] += left * seen[-2] + here * seen[-1]


@kernel(reordered=True)
def weight_gradient(volume: Volume, gradient: Volume, out: NDArray[np.float32]) -> None:
    """Give the gradient of `convolve`'s weights, (3, 3, 3), from that of what it gave."""
    depth, rows, _ = volume.shape
    sums = np.zeros((3, 3, 3), np.float64)
    for z in range(depth):
        for y in range(rows):
            wanted = gradient[z, y]
            middle = wanted[1:-1]
            for dz in range(max(0, 1 - z), min(3, depth + 1 - z)):
                for dy in range(max(0, 1 - y), min(3, rows + 1 - y)):
                    seen = volume[z + dz - 1, y + dy - 1]
                    before, at, after = seen[:-2], seen[1:-1], seen[2:]
                    left, here, right = np.float32(0.0), np.float32(0.0), np.float32(0.0)
                    for k in range(middle.size):
                        left += middle[k] * before[k]
                        here += middle[k] * at[k]
                        right += middle[k] * after[k]
                    sums[dz, dy, 0] += left + wanted[-1] * seen[-2]
                    sums[dz, dy, 1] += here + wanted[0] * seen[0] + wanted[-1] * seen[-1]
                    sums[dz, dy, 2] += right + wanted[0] * seen[1]
    out[:] = sums


@kernel
def activate(volume: Volume, epsilon: float, slope: float, out: Volume) -> tuple[float, float]:
    """Bring a channel to mean 0 and variance 1, then multiply what is below 0 by a slope.

    Returns:
        The channel's mean and 1 / sqrt(variance + epsilon), which `activate_back` wants.
    """
    depth, rows, columns = volume.shape
    total = 0.0
    for z in range(depth):
        lanes = np.zeros(columns, np.float32)
        for y in range(rows):
            row = volume[z, y]
            for k in range(columns):
                lanes[k] += row[k]
        total += lanes.astype(np.float64).sum()
    middle = np.float32(total / volume.size)
    total = 0.0
    for z in range(depth):
        lanes = np.zeros(columns, np.float32)
        for y in range(rows):
            row = volume[z, y]
            for k in range(columns):
                lanes[k] += (row[k] - middle) * (row[k] - middle)
        total += lanes.astype(np.float64).sum()
    by = np.float32(1.0 / np.sqrt(total / volume.size + epsilon))
    below, nothing = np.float32(slope), np.float32(0.0)
    for z in range(depth):
        for y in range(rows):
            row, result = volume[z, y], out[z, y]
            for k in range(columns):
                normal = (row[k] - middle) * by
                result[k] = max(normal, nothing) + below * min(normal, nothing)
    return float(middle), float(by)


@kernel
def activate_back(
    volume: Volume, mean: float, scale: float, slope: float, gradient: Volume, out: Volume
) -> float:
    """Give the gradient of what `activate` took; returns that of the slope."""
    depth, rows, columns = volume.shape
    middle, by, below = np.float32(mean), np.float32(scale), np.float32(slope)
    nothing, whole = np.float32(0.0), np.float32(1.0)
    sums = along = sloped = 0.0
    for z in range(depth):
        first, second, third = np.zeros((3, columns), np.float32)
        for y in range(rows):
            row, wanted = volume[z, y], gradient[z, y]
            for k in range(columns):
                normal = (row[k] - middle) * by
                inner = wanted[k] * (whole if normal > nothing else below)
                first[k] += inner
                second[k] += inner * normal
                third[k] += wanted[k] * min(normal, nothing)
        sums += first.astype(np.float64).sum()
        along += second.astype(np.float64).sum()
        sloped += third.astype(np.float64).sum()
    shift, lean = np.float32(sums / volume.size), np.float32(along / volume.size)
    for z in range(depth):
        for y in range(rows):
            row, wanted, result = volume[z, y], gradient[z, y], out[z, y]
            for k in range(columns):
                normal = (row[k] - middle) * by
                inner = wanted[k] * (whole if normal > nothing else below)
                result[k] = by * (inner - shift - normal * lean)
    return sloped


@kernel
def slope_back(volume: Volume, slope: float, gradient: Volume, out: Volume) -> float:
    """Give the gradient of what a PReLU took; returns that of its slope."""
    depth, rows, columns = volume.shape
    below, nothing, whole = np.float32(slope), np.float32(0.0), np.float32(1.0)
    sloped = 0.0
    for z in range(depth):
        lanes = np.zeros(columns, np.float32)
        for y in range(rows):
            row, wanted, result = volume[z, y], gradient[z, y], out[z, y]
            for k in range(columns):
                result[k] = wanted[k] * (whole if row[k] > nothing else below)
                lanes[k] += wanted[k] * min(row[k], nothing)
        sloped += lanes.astype(np.float64).sum()
    return sloped

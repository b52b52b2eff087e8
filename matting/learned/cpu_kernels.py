"""Inner loops of the ghost networks' layers on a CPU, forward and backward, one channel at a time.

Every volume is one channel (z, y, x) in single precision, contiguous. Names are torch's: x is the
input of a layer, grad_out the gradient of the loss by its output, grad_x by its input.

Why these loops are fast, and give the same bits on every run:

- A channel (0.5 to 4 MB) stays in the processor's cache while the layers convolution, norm and
  activation pass over it; torch writes each layer's output to memory and reads it again.
- The innermost loop runs along x, where memory is contiguous, without branches: borders are
  handled before and after it. LLVM vectorises it.
- Sums are kept per column (an array of partial sums as long as a row) and added up at the end. Each
  addition has a fixed place, so the loop vectorises without reordering any sum. The gradient of the
  weights alone is compiled with reordering allowed: its 27 sums then stay in registers, in half the
  time, and its last bits depend on the processor's vector width.
- Partial sums over a plane are single precision, since each has only as many terms as the plane has
  rows. They are added up in double precision, because a channel has up to a million voxels.
- Each kernel runs in one thread (`matting.jit`); the caller gives each thread its own channels.
"""

import numpy as np
from numpy.typing import NDArray

from matting.jit import kernel

Volume = NDArray[np.float32]


@kernel
def depthwise_convolution(x: Volume, weight: NDArray[np.float32], out: Volume) -> None:
    """Convolve a channel with 3 x 3 x 3 weights, zeros beyond its borders, as torch's Conv3d does.

    Args:
        x: (z, y, x), at least two columns.
        weight: (3, 3, 3); not flipped, i.e. a cross-correlation.
        out: Receives the result, of x's shape.
    """
    depth, rows, _ = x.shape
    for z in range(depth):
        for y in range(rows):
            out_row = out[z, y]
            out_row[:] = 0.0
            inner = out_row[1:-1]
            # Only the planes and rows inside the volume: zeros beyond need no multiplication.
            for dz in range(max(0, 1 - z), min(3, depth + 1 - z)):
                for dy in range(max(0, 1 - y), min(3, rows + 1 - y)):
                    x_row = x[z + dz - 1, y + dy - 1]
                    w0, w1, w2 = weight[dz, dy]
                    # Three shifted views instead of indices k - 1, k, k + 1: none is negative, so
                    # numba adds no check for wrap-around.
                    left, middle, right = x_row[:-2], x_row[1:-1], x_row[2:]
                    for k in range(inner.size):
                        inner[k] += w0 * left[k] + w1 * middle[k] + w2 * right[k]
                    out_row[0] += w1 * x_row[0] + w2 * x_row[1]
                    out_row[-1] += w0 * x_row[-2] + w1 * x_row[-1]


@kernel(reordered=True)
def depthwise_weight_gradient(
    x: Volume, grad_out: Volume, grad_weight: NDArray[np.float32]
) -> None:
    """Compute the gradient by the weights of `depthwise_convolution`.

    grad_weight[dz, dy, dx] is the sum over voxels of grad_out times x shifted by (dz, dy, dx) - 1.

    Args:
        x: (z, y, x), the input of the forward pass.
        grad_out: (z, y, x).
        grad_weight: (3, 3, 3), receives the result.
    """
    depth, rows, _ = x.shape
    sums = np.zeros((3, 3, 3), np.float64)
    for z in range(depth):
        for y in range(rows):
            grad_row = grad_out[z, y]
            inner = grad_row[1:-1]
            for dz in range(max(0, 1 - z), min(3, depth + 1 - z)):
                for dy in range(max(0, 1 - y), min(3, rows + 1 - y)):
                    x_row = x[z + dz - 1, y + dy - 1]
                    left, middle, right = x_row[:-2], x_row[1:-1], x_row[2:]
                    # One row at a time in single precision, the rows together in double
                    s0, s1, s2 = np.float32(0.0), np.float32(0.0), np.float32(0.0)
                    for k in range(inner.size):
                        s0 += inner[k] * left[k]
                        s1 += inner[k] * middle[k]
                        s2 += inner[k] * right[k]
                    sums[dz, dy, 0] += s0 + grad_row[-1] * x_row[-2]
                    sums[dz, dy, 1] += s1 + grad_row[0] * x_row[0] + grad_row[-1] * x_row[-1]
                    sums[dz, dy, 2] += s2 + grad_row[0] * x_row[1]
    grad_weight[:] = sums


@kernel
def instance_norm_prelu(x: Volume, eps: float, slope: float, out: Volume) -> tuple[float, float]:
    """Normalise a channel to mean 0 and variance 1, then apply a PReLU.

    The variance is taken about the mean, in a second pass: E[x^2] - E[x]^2 in single precision
    would lose it where the mean is large.

    Args:
        x: (z, y, x).
        eps: Added to the variance.
        slope: Factor of negative values; 1 for no activation.
        out: Receives the result, of x's shape.

    Returns:
        The channel's mean and rstd = 1 / sqrt(variance + eps), which the backward pass needs.
    """
    depth, rows, columns = x.shape
    total = 0.0
    for z in range(depth):
        partial = np.zeros(columns, np.float32)
        for y in range(rows):
            x_row = x[z, y]
            for k in range(columns):
                partial[k] += x_row[k]
        total += partial.astype(np.float64).sum()
    mean = np.float32(total / x.size)
    total = 0.0
    for z in range(depth):
        partial = np.zeros(columns, np.float32)
        for y in range(rows):
            x_row = x[z, y]
            for k in range(columns):
                partial[k] += (x_row[k] - mean) * (x_row[k] - mean)
        total += partial.astype(np.float64).sum()
    rstd = np.float32(1.0 / np.sqrt(total / x.size + eps))
    # Constants in single precision: a double would turn the whole row into doubles.
    negative_slope = np.float32(slope)
    zero = np.float32(0.0)
    for z in range(depth):
        for y in range(rows):
            x_row, out_row = x[z, y], out[z, y]
            for k in range(columns):
                x_hat = (x_row[k] - mean) * rstd
                out_row[k] = max(x_hat, zero) + negative_slope * min(x_hat, zero)
    return float(mean), float(rstd)


@kernel
def instance_norm_prelu_backward(
    x: Volume, mean: float, rstd: float, slope: float, grad_out: Volume, grad_x: Volume
) -> float:
    """Compute the gradients of `instance_norm_prelu`.

    With x_hat = (x - mean) rstd and g = grad_out times the PReLU's derivative at x_hat,

        grad_x = rstd (g - mean(g) - x_hat mean(g x_hat))

    x_hat is computed again rather than stored: that costs less than reading it from memory.

    Args:
        x: (z, y, x), the input of the forward pass.
        mean: As the forward pass returned it.
        rstd: As the forward pass returned it.
        slope: As in the forward pass.
        grad_out: (z, y, x).
        grad_x: Receives the gradient by x.

    Returns:
        The gradient by the slope, the sum of grad_out x_hat over x_hat < 0.
    """
    depth, rows, columns = x.shape
    mean32 = np.float32(mean)
    rstd32 = np.float32(rstd)
    negative_slope = np.float32(slope)
    zero = np.float32(0.0)
    one = np.float32(1.0)
    sum_g = 0.0
    sum_g_x_hat = 0.0
    grad_slope = 0.0
    for z in range(depth):
        partial_g, partial_g_x_hat, partial_slope = np.zeros((3, columns), np.float32)
        for y in range(rows):
            x_row, grad_row = x[z, y], grad_out[z, y]
            for k in range(columns):
                x_hat = (x_row[k] - mean32) * rstd32
                g = grad_row[k] * (one if x_hat > zero else negative_slope)
                partial_g[k] += g
                partial_g_x_hat[k] += g * x_hat
                partial_slope[k] += grad_row[k] * min(x_hat, zero)
        sum_g += partial_g.astype(np.float64).sum()
        sum_g_x_hat += partial_g_x_hat.astype(np.float64).sum()
        grad_slope += partial_slope.astype(np.float64).sum()
    mean_g = np.float32(sum_g / x.size)
    mean_g_x_hat = np.float32(sum_g_x_hat / x.size)
    for z in range(depth):
        for y in range(rows):
            x_row, grad_row, grad_x_row = x[z, y], grad_out[z, y], grad_x[z, y]
            for k in range(columns):
                x_hat = (x_row[k] - mean32) * rstd32
                g = grad_row[k] * (one if x_hat > zero else negative_slope)
                grad_x_row[k] = rstd32 * (g - mean_g - x_hat * mean_g_x_hat)
    return grad_slope


@kernel
def prelu_backward(x: Volume, slope: float, grad_out: Volume, grad_x: Volume) -> float:
    """Compute the gradients of a PReLU.

    Args:
        x: (z, y, x), the input of the forward pass.
        slope: Factor of negative values.
        grad_out: (z, y, x).
        grad_x: Receives the gradient by x; at 0 it is that of negative values, as torch's.

    Returns:
        The gradient by the slope, the sum of grad_out x over x < 0.
    """
    depth, rows, columns = x.shape
    negative_slope = np.float32(slope)
    zero = np.float32(0.0)
    one = np.float32(1.0)
    grad_slope = 0.0
    for z in range(depth):
        partial = np.zeros(columns, np.float32)
        for y in range(rows):
            x_row, grad_row, grad_x_row = x[z, y], grad_out[z, y], grad_x[z, y]
            for k in range(columns):
                grad_x_row[k] = grad_row[k] * (one if x_row[k] > zero else negative_slope)
                partial[k] += grad_row[k] * min(x_row[k], zero)
        grad_slope += partial.astype(np.float64).sum()
    return grad_slope

"""From slices as a scanner took them to an even, upright stack.

Slices may follow each other at changing distances, or lean because the gantry was tilted: they are
parallel, but the first pixel moves aside from slice to slice. Radiodensity is interpolated
linearly, first within each slice and then between slices; masks take the nearest slice.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import shift

from matting.geometry.patch import AIR_HU

NEGLIGIBLE = 1e-6
"""Fraction of a voxel by which a slice may lie off the lattice and still be taken as it is."""


@dataclass(frozen=True, slots=True, eq=False)
class Restacking:
    """Where slices lie on an even, upright lattice."""

    along: NDArray[np.float64]
    """(n,): place of each slice along the stack, in steps of the lattice; rising from 0."""
    moved: NDArray[np.float64]
    """(n, 2): rows and columns by which each slice's pixels lie further on the lattice."""

    @property
    def depth(self) -> int:
        """Slices of the lattice."""
        return int(np.floor(self.along[-1] + NEGLIGIBLE)) + 1

    def image(
        self, image_hu: NDArray[np.float32], valid: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Interpolate radiodensity.

        Args:
            image_hu: (n, y, x), HU.
            valid: (n, y, x): True where the scanner measured.

        Returns:
            (depth, y, x): HU, and True where every voxel that counts was measured; air elsewhere.
        """
        moved = np.stack(
            [_moved(s, by, AIR_HU) for s, by in zip(image_hu, self.moved, strict=True)]
        )
        measured = np.stack(
            [
                _moved(v.astype(np.float32), by, 0.0) > 1 - NEGLIGIBLE
                for v, by in zip(valid, self.moved, strict=True)
            ]
        )
        below, weight = self._neighbours()
        above = np.minimum(below + 1, len(self.along) - 1)
        share = weight[:, None, None].astype(np.float32)
        stacked = moved[below] * (1 - share) + moved[above] * share
        both = measured[below] & (measured[above] | (share == 0))
        return np.where(both, stacked, np.float32(AIR_HU)), both

    def masks(self, masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Place masks.

        Args:
            masks: (readers, n, y, x).

        Returns:
            (readers, depth, y, x): where half of a voxel or more is marked on the nearest slice.
        """
        moved = np.stack(
            [
                [
                    _moved(m.astype(np.float32), by, 0.0) >= 0.5
                    for m, by in zip(reader, self.moved, strict=True)
                ]
                for reader in masks
            ]
        )
        below, weight = self._neighbours()
        nearest = np.where(weight > 0.5, np.minimum(below + 1, len(self.along) - 1), below)
        return np.asarray(moved[:, nearest])

    def _neighbours(self) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Return the slice below each slice of the lattice, and the weight of the one above."""
        wanted = np.arange(self.depth, dtype=np.float64)
        below = np.searchsorted(self.along, wanted + NEGLIGIBLE, side="right") - 1
        above = np.minimum(below + 1, len(self.along) - 1)
        gap = np.maximum(self.along[above] - self.along[below], NEGLIGIBLE)
        weight = np.clip((wanted - self.along[below]) / gap, 0, 1)
        return below, np.where(weight < NEGLIGIBLE, 0.0, weight)


def _moved(
    values: NDArray[np.float32], by: NDArray[np.float64], outside: float
) -> NDArray[np.float32]:
    if np.abs(by).max() <= NEGLIGIBLE:
        return values
    result: NDArray[np.float32] = shift(values, by, order=1, mode="constant", cval=outside)
    return result

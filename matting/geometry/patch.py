"""A part of a CT around one nodule with its readers' masks."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from matting.errors import InputError
from matting.geometry.grid import Grid
from matting.short_repr import short_repr

AIR_HU = -1000.0
"""Radiodensity of air, and of all voxels that the scanner did not measure."""


@dataclass(frozen=True, slots=True)
class Patch:
    """A part of a CT, its readers' masks and its grid.

    Every array has the grid's shape (z, y, x).
    """

    grid: Grid
    image_hu: NDArray[np.float32]
    """Radiodensity in HU; AIR_HU where not valid."""
    valid: NDArray[np.bool_]
    """True where the scanner measured; False on padding."""
    readers: NDArray[np.bool_]
    """(readers, z, y, x): what each reader marked."""
    known_alpha: NDArray[np.float32] | None = None
    """The true matte in 0..1 if the data is simulated, else None."""

    __repr__ = short_repr

    def __post_init__(self) -> None:
        """Raise InputError for arrays that do not have the grid's shape."""
        for name in ("image_hu", "valid", "known_alpha"):
            array = getattr(self, name)
            if array is not None and array.shape != self.grid.shape:
                raise InputError(
                    f"{name} does not fit its grid",
                    got=array.shape,
                    expected=self.grid.shape,
                    remedy="Resample both to one grid.",
                )
        if self.readers.shape[1:] != self.grid.shape:
            raise InputError(
                "the readers' masks do not fit the image",
                got=self.readers.shape,
                expected=("readers", *self.grid.shape),
                remedy="Resample every mask to the image's grid.",
            )

"""What travels along the chain: a piece of CT around one nodule with its readers' masks."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from matting.errors import InputError
from matting.geometry.grid import Grid

AIR_HU = -1000.0
"""Radiodensity of air; stands wherever the scanner measured nothing."""


@dataclass(frozen=True, slots=True)
class Patch:
    """A piece of CT, its readers' masks and where it lies; every array has the grid's shape (z, y, x)."""

    grid: Grid
    image_hu: NDArray[np.float32]
    """Radiodensity in HU; AIR_HU where not valid."""
    valid: NDArray[np.bool_]
    """True where the scanner measured; False on padding."""
    readers: NDArray[np.bool_]
    """(readers, z, y, x): what each reader marked."""
    known_alpha: NDArray[np.float32] | None = None
    """The true matte in 0..1 where the data is simulated, else None."""

    def __post_init__(self) -> None:
        """Refuse arrays that do not lie on the grid."""
        for name in ("image_hu", "valid", "known_alpha"):
            array = getattr(self, name)
            if array is not None and array.shape != self.grid.shape:
                raise InputError(
                    f"{name} does not fit its grid",
                    got=array.shape,
                    expected=self.grid.shape,
                    remedy="Give both on one lattice.",
                )
        if self.readers.shape[1:] != self.grid.shape:
            raise InputError(
                "the readers' masks do not fit the image",
                got=self.readers.shape,
                expected=("readers", *self.grid.shape),
                remedy="Give every mask on the image's own lattice.",
            )

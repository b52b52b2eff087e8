"""Small lesions for tests that need a case but not a truth."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from matting.geometry.grid import Grid
from matting.geometry.patch import Patch

RNG_SEED = 7741


def ball_patch(
    shape=(10, 24, 24), spacing_mm=(1.0, 0.7, 0.7), radii_mm=(3.0, 3.4, 3.8, 4.2), seed=RNG_SEED
):
    """A soft ball of tissue in noisy lung, outlined by readers who disagree about its edge."""
    grid = Grid(shape, spacing_mm, (-20.0, 35.0, -110.0))
    centre = (np.array(shape) - 1) / 2
    offset_mm = (np.moveaxis(np.indices(shape), 0, -1) - centre) * spacing_mm
    distance_mm = np.sqrt((offset_mm**2).sum(axis=-1))
    alpha = 1 / (1 + np.exp((distance_mm - np.mean(radii_mm)) / 0.5))
    noise = np.random.default_rng(seed).normal(0, 20, shape)
    image = np.rint(alpha * 30 + (1 - alpha) * -870 + noise).astype(np.float32)
    readers = np.stack([distance_mm <= radius for radius in radii_mm])
    return Patch(grid, image, np.ones(shape, bool), readers, alpha.astype(np.float32))


def write_table(folder: Path, patches: dict[str, Patch], patient=None) -> Path:
    """Store patches as NIfTI files with a table that names them; gives the table."""
    lines = ["nodule,patient,image,readers,n_readers"]
    for name, patch in patches.items():
        bits = sum(mask.astype(np.uint8) << r for r, mask in enumerate(patch.readers))
        for kind, values in (("image", patch.image_hu.astype(np.int16)), ("readers", bits)):
            image = sitk.GetImageFromArray(values)
            image.SetSpacing(patch.grid.spacing_mm[::-1])
            image.SetOrigin(patch.grid.origin_lps_mm)
            sitk.WriteImage(image, str(folder / f"{name}.{kind}.nii.gz"))
        owner = patient or f"P-{name}"
        lines.append(
            f"{name},{owner},{name}.image.nii.gz,{name}.readers.nii.gz,{len(patch.readers)}"
        )
    table = folder / "table.csv"
    table.write_text("\n".join(lines) + "\n")
    return table

"""Draw a nodule as a thumbnail: the axial CT beside its matte."""

from io import BytesIO

import numpy as np
from matplotlib.colors import Normalize
from numpy.typing import NDArray
from PIL import Image

from qc.figures.drawing import WINDOW_HU, DrawnNodule, colour_map, crop_upright, middle_slice

SIDE_PIXELS = 72
"""Height of a thumbnail; it is twice as wide."""
COLOURS = 256
"""A palette keeps a page of a thousand thumbnails below 20 MB; fewer colours would tint the CT."""


def thumbnail(subject: DrawnNodule) -> bytes:
    """Return the CT in lung window and the picked matte, or else the readers' mean, as PNG.

    Both are axial and through the centre of the readers' union; the same nodule gives the same
    bytes.
    """
    near = crop_upright(subject)
    matte = near.alphas.get(near.picked or "")
    if matte is None:
        matte = near.readers.mean(axis=0, dtype=np.float32)
    hu = middle_slice(near.image_hu, "axial").astype(np.float64)
    hidden = ~middle_slice(near.valid, "axial")
    window = Normalize(*WINDOW_HU, clip=True)
    ct = colour_map("gray")(np.ma.masked_where(hidden, window(hu)), bytes=True)
    alpha = colour_map("magma")(np.nan_to_num(middle_slice(matte, "axial")), bytes=True)
    both = np.concatenate([_square(ct), _square(alpha)], axis=1)
    buffer = BytesIO()
    Image.fromarray(both).quantize(COLOURS).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _square(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Scale a slice through a cube to the thumbnail's side, whatever its voxels' spacing."""
    picture = Image.fromarray(np.ascontiguousarray(pixels[..., :3]))
    return np.asarray(picture.resize((SIDE_PIXELS, SIDE_PIXELS), Image.Resampling.BILINEAR))

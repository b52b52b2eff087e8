"""Pictures of the README and docs/methods: a synthetic nodule, its mattes and its known matte.

    python -m benchmarks.pictures

Nodule LIDC-IDRI-0375-a2693, part-solid, seed 1: real outlines, simulated CT; the slice with most
known foreground. `truth` is the known matte; `truth +`, for the + methods, is the known matte times
the lesion's radiodensity target.
"""

import io
from collections.abc import Mapping

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.measure import PICTURES, command_line
from benchmarks.nodules import (
    Ready,
    known_alpha,
    make_ready,
    native_patch,
    pure_lesion_hu,
    simulated,
)
from matting import estimate_alphas
from matting.geometry.box import box_around
from matting.geometry.trimap import FOREGROUND, UNKNOWN
from matting.parameters import DensitySettings
from matting.solvers.foreground_target import foreground_target
from qc.figures.drawing import DrawnNodule, png
from qc.figures.matte import draw_matte

NODULE = "LIDC-IDRI-0375-a2693"
SEED = 1
WINDOW_HU = (-1350, 150)
MARGIN_VOXELS = 8
GREYS = 64
"""Shades a picture keeps, so that it stays small."""
PAGES = {
    "closed-form": ("cf", "cf+"),
    "knn": ("knn", "knn+"),
    "learning-based": ("lb", "lb+"),
    "information-flow": ("if", "if+"),
    "density": ("cf+", "knn+", "lb+", "if+"),
}


FRONT = "cf"
"""The method whose matte the README shows."""


def main() -> None:
    command_line(__doc__).parse_args()
    mpl.use("Agg")
    slab, placed, spacing_mm = simulated(NODULE, SEED)
    native = native_patch(slab, placed, spacing_mm)
    nodule = make_ready(NODULE, native)
    solutions = estimate_alphas(nodule.image_hu, nodule.labels, spacing_mm=nodule.spacing_mm)
    save_front(nodule, solutions[FRONT].alpha)
    place = middle_slice(nodule)
    known = known_alpha(nodule.patch)
    truths: dict[str, NDArray[np.floating]] = {
        "": known,
        "+": known * foreground_target(pure_lesion_hu(native, placed), DensitySettings()),
    }
    for page, methods in PAGES.items():
        alphas = {method: solutions[method].alpha for method in methods}
        forms = dict.fromkeys("+" if method.endswith("+") else "" for method in methods)
        save_page(page, nodule, place, alphas | {f"truth {form}": truths[form] for form in forms})
        for method, alpha in alphas.items():
            truth = truths["+" if method.endswith("+") else ""]
            print(
                f"{page}: {method} "
                f"{np.abs(alpha - truth)[nodule.unknown].mean():.3f} from its truth"
            )


def save_front(nodule: Ready, alpha: NDArray[np.float64]) -> None:
    """Save the README's picture: CT, the readers' outlines, and a matte."""
    patch = nodule.patch
    subject = DrawnNodule(
        grid=patch.grid,
        image_hu=patch.image_hu,
        valid=patch.valid,
        readers=patch.readers,
        trimap=nodule.labels,
        alphas={FRONT: alpha.astype(np.float32)},
        why_missing={},
        known_alpha=patch.known_alpha,
        synthetic=True,
    )
    picture = Image.open(io.BytesIO(png(draw_matte(subject, FRONT)))).convert("RGB")
    picture.quantize(256).save(PICTURES / "matte.png", optimize=True)


def middle_slice(nodule: Ready) -> tuple[int, slice, slice]:
    """Return the slice with most foreground, cut to the unknown voxels and a margin."""
    z = int((nodule.labels == FOREGROUND).sum(axis=(1, 2)).argmax())
    _, rows, columns = box_around(nodule.unknown, (0, MARGIN_VOXELS, MARGIN_VOXELS))
    return z, rows, columns


def save_page(
    page: str,
    nodule: Ready,
    place: tuple[int, slice, slice],
    mattes: Mapping[str, NDArray[np.floating]],
) -> None:
    low, high = WINDOW_HU
    trimap = np.where(nodule.labels == UNKNOWN, 0.5, nodule.labels == FOREGROUND)
    panels = {"CT": (nodule.image_hu - low) / (high - low), "trimap": trimap, **mattes}
    figure, axes = plt.subplots(
        1, len(panels), figsize=(1.5 * len(panels), 1.7), layout="constrained"
    )
    for axis, (title, values) in zip(axes, panels.items(), strict=True):
        axis.imshow(values[place], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axis.set_title(title, fontsize=9)
        axis.axis("off")
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=100)
    plt.close(figure)
    PICTURES.mkdir(exist_ok=True)
    Image.open(drawn).convert("L").quantize(GREYS).save(PICTURES / f"{page}.png", optimize=True)


if __name__ == "__main__":
    main()

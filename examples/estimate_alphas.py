"""The eight methods on a nodule that the package simulates, so that the true matte is known.

    python examples/estimate_alphas.py [--out mattes.png]

Prints a table and saves a picture. Replace `simulate` by your own CT and readers' masks. The truth
of the plain methods is the share of lesion in a voxel; that of the + methods is the share times the
lesion's radiodensity target.
"""

import argparse
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from matting import METHODS, Solution, estimate_alphas
from matting.geometry.trimap import UNKNOWN, build_trimap
from matting.measures.metrics import mean_absolute_error
from matting.parameters import DensitySettings, TrimapSettings
from matting.phantoms import LUNG_HU, Lesion, Ratings, scanner_noise, simulate_lesion
from matting.solvers.foreground_target import foreground_target

SHAPE = (48, 64, 64)
SPACING_MM = (0.5, 0.5, 0.5)
RADII_MM = (5.6, 6.0, 6.4, 7.0)
"""Four readers who disagree about the border."""
NOISE_HU = 25.0


def main() -> None:
    """Simulate, label, solve, show."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("mattes.png"))
    arguments = parser.parse_args()

    readers, volume_hu, lesion = simulate()
    everywhere = np.ones(SHAPE, bool)
    trimap = build_trimap(
        readers, everywhere, spacing_mm=SPACING_MM, parameters=TrimapSettings()
    ).labels
    solutions = estimate_alphas(volume_hu, trimap, spacing_mm=SPACING_MM)

    unknown = trimap == UNKNOWN
    truths = {
        "": lesion.alpha,
        "+": lesion.alpha * foreground_target(lesion.foreground_hu, DensitySettings()),
    }
    print(
        f"{int(unknown.sum())} unknown voxels; error: mean difference from the method's truth there"
    )
    print(f"{'':<6}{'status':>10}{'iterations':>12}{'residual':>10}{'clipped':>9}{'error':>8}")
    for name in METHODS:
        solution = solutions[name]
        error = mean_absolute_error(
            solution.alpha, truths["+" if name.endswith("+") else ""], unknown
        )
        metrics = (
            f"{solution.iterations:>12}{solution.residual:>10.1e}"
            f"{solution.clipped:>9.3f}{error:>8.3f}"
        )
        print(f"{name:<6}{solution.status.name.lower():>10}{metrics}")
    draw(volume_hu, trimap, solutions, truths, arguments.out)
    print(f"saved {arguments.out}")


def simulate() -> tuple[NDArray[np.bool_], NDArray[np.float32], Lesion]:
    """Return four readers' masks, a noisy CT, and the part-solid lesion with its known matte."""
    axes_mm = [
        (np.arange(count) - (count - 1) / 2) * step
        for count, step in zip(SHAPE, SPACING_MM, strict=True)
    ]
    distance_mm = np.sqrt(sum(axis**2 for axis in np.ix_(*axes_mm)))
    readers = np.stack([distance_mm <= radius for radius in RADII_MM])
    generator = np.random.default_rng(7)
    lesion = simulate_lesion(
        readers,
        spacing_mm=SPACING_MM,
        thickness_mm=SPACING_MM[0],
        ratings=Ratings(texture=3.0, margin=3.0, spiculation=2.0, calcification=6.0),
        surroundings_hu=np.full(SHAPE, LUNG_HU, np.float32),
        generator=generator,
    )
    return readers, lesion.image_hu + scanner_noise(SHAPE, SPACING_MM, NOISE_HU, generator), lesion


def draw(
    volume_hu: NDArray[np.float32],
    trimap: NDArray[np.uint8],
    solutions: dict[str, Solution],
    truths: dict[str, NDArray[np.float64]],
    path: Path,
) -> None:
    """Save the middle slice of everything."""
    mpl.use("Agg")
    panels = {"CT": np.clip((volume_hu + 1350) / 1500, 0, 1), "trimap": trimap / 255.0}
    panels |= {name: solution.alpha for name, solution in solutions.items()}
    panels |= {f"truth {form}": truth for form, truth in truths.items()}
    figure, axes = plt.subplots(
        1, len(panels), figsize=(1.3 * len(panels), 1.5), layout="constrained"
    )
    for axis, (title, values) in zip(axes, panels.items(), strict=True):
        axis.imshow(values[SHAPE[0] // 2], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axis.set_title(title, fontsize=8)
        axis.axis("off")
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()

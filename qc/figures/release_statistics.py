"""The fingerprint of a release as one figure: how sizes, spacing, radiodensity, volumes and agreement are spread."""

from io import BytesIO

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

INK, BAR, OTHER = "#222222", "#0072B2", "#E69F00"
"""From the palette of Okabe and Ito, told apart also by colour-blind eyes."""
BINS = 24
DPI = 110


def draw_release_statistics(table: bytes, title: str) -> bytes:
    """Draw a release's ``fingerprint.csv`` as PNG; the same table gives the same bytes.

    Args:
        table: The CSV, one row a nodule.
        title: Stands above it; says so where scans are simulated.
    """
    rows = pd.read_csv(BytesIO(table))
    figure = Figure(figsize=(11, 6.2), layout="constrained")
    figure.suptitle(f"{title}  ({len(rows)} nodules)", color=INK, fontsize=11)
    panels = figure.subplots(2, 3)
    diameter_mm = np.cbrt(6 / np.pi * rows["volume_mm3"].to_numpy())
    _histogram(panels[0, 0], diameter_mm, "diameter of a ball of the matte's volume, mm")
    _histogram(panels[0, 1], rows["depth_mm"].to_numpy(), "depth of the volume, mm")
    _histogram(
        panels[0, 2], rows["slice_distance_mm"].to_numpy(), "distance of the scan's slices, mm"
    )
    _densities(panels[1, 0], rows)
    _volumes(panels[1, 1], rows)
    _histogram(
        panels[1, 2],
        rows["dice"].to_numpy(),
        "agreement of the readers, mean Dice of pairs",
        (0.0, 1.0),
    )
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def _histogram(
    panel: Axes, values: NDArray[np.float64], label: str, span: tuple[float, float] | None = None
) -> None:
    known = values[np.isfinite(values)]
    _name(panel, label, "nodules")
    if not known.size:
        panel.text(
            0.5,
            0.5,
            f"{label}:\nnot known for this source",
            ha="center",
            va="center",
            transform=panel.transAxes,
        )
        panel.set_axis_off()
        return
    panel.hist(known, bins=BINS, range=span or _around(known), color=BAR)
    panel.axvline(float(np.median(known)), color=INK, linewidth=1, linestyle="--")
    panel.set_title(f"median {np.median(known):.3g}", loc="right", fontsize=8)
    panel.yaxis.set_major_locator(MaxNLocator(integer=True))


def _around(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    room = max(0.5, (high - low) * 0.05)
    return max(0.0, low - room), high + room


def _densities(panel: Axes, rows: pd.DataFrame) -> None:
    """Draw each nodule's middle nine tenths of radiodensity as a line, sorted by the median."""
    sorted_rows = rows.sort_values("hu_median")
    place = np.arange(len(sorted_rows))
    panel.vlines(
        place, sorted_rows["hu_p5"], sorted_rows["hu_p95"], color=BAR, alpha=0.5, linewidth=1.2
    )
    panel.plot(place, sorted_rows["hu_median"], ".", color=INK, markersize=4)
    _name(panel, "nodules by median; lines are the 5-95 % range", "HU in the readers' union")
    panel.set_xticks([])


def _volumes(panel: Axes, rows: pd.DataFrame) -> None:
    """Draw the matte's volume against what all and what any reader marked."""
    for name, colour, label in (
        ("overlap_mm3", OTHER, "all readers"),
        ("union_mm3", BAR, "any reader"),
    ):
        marked = rows[rows[name] > 0]
        panel.plot(marked["volume_mm3"], marked[name], ".", color=colour, markersize=5, label=label)
    ends = [float(rows["volume_mm3"].min()), float(rows["volume_mm3"].max())]
    panel.plot(ends, ends, color=INK, linewidth=1, label="equal")
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.legend(fontsize=8, frameon=False)
    _name(panel, "volume of the matte, mm³", "marked volume, mm³")


def _name(panel: Axes, below: str, beside: str) -> None:
    panel.set_xlabel(below, fontsize=9)
    panel.set_ylabel(beside, fontsize=9)
    panel.tick_params(labelsize=8)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)

"""Draw a release's statistics: sizes, spacing, radiodensity, volumes and reader agreement."""

from io import BytesIO

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

INK, BAR, OTHER = "#222222", "#0072B2", "#E69F00"
"""From the palette of Okabe and Ito, safe for colour-blind readers."""
BINS = 24
DPI = 110


def draw_release_statistics(table: bytes, title: str) -> bytes:
    """Draw a release's ``fingerprint.csv`` as PNG; the same table gives the same bytes.

    Args:
        table: The CSV, one row per nodule.
        title: Drawn above it.
    """
    rows = pd.read_csv(BytesIO(table))
    figure = Figure(figsize=(11, 6.2), layout="constrained")
    figure.suptitle(f"{title}  ({len(rows)} nodules)", color=INK, fontsize=11)
    panels = figure.subplots(2, 3)
    diameter_mm = np.cbrt(6 / np.pi * rows["volume_mm3"].to_numpy())
    _histogram(panels[0, 0], diameter_mm, "equivalent diameter of the matte, mm")
    _histogram(panels[0, 1], rows["depth_mm"].to_numpy(), "depth of the patch, mm")
    _histogram(panels[0, 2], rows["slice_distance_mm"].to_numpy(), "slice spacing of the scan, mm")
    _densities(panels[1, 0], rows)
    _volumes(panels[1, 1], rows)
    _histogram(
        panels[1, 2],
        rows["dice"].to_numpy(),
        "reader agreement, mean pairwise Dice",
        (0.0, 1.0),
    )
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def _histogram(
    panel: Axes, values: NDArray[np.float64], label: str, span: tuple[float, float] | None = None
) -> None:
    known = values[np.isfinite(values)]
    _label_axes(panel, label, "nodules")
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
    """Draw each nodule's 5th to 95th percentile of HU as a line, sorted by the median."""
    sorted_rows = rows.sort_values("hu_median")
    place = np.arange(len(sorted_rows))
    panel.vlines(
        place, sorted_rows["hu_p5"], sorted_rows["hu_p95"], color=BAR, alpha=0.5, linewidth=1.2
    )
    panel.plot(place, sorted_rows["hu_median"], ".", color=INK, markersize=4)
    _label_axes(
        panel, "nodules by median; lines: 5th to 95th percentile", "HU in the readers' union"
    )
    panel.set_xticks([])


def _volumes(panel: Axes, rows: pd.DataFrame) -> None:
    """Draw the matte's volume against the readers' intersection and union."""
    for name, colour, label in (
        ("overlap_mm3", OTHER, "readers' intersection"),
        ("union_mm3", BAR, "readers' union"),
    ):
        marked = rows[rows[name] > 0]
        panel.plot(marked["volume_mm3"], marked[name], ".", color=colour, markersize=5, label=label)
    ends = [float(rows["volume_mm3"].min()), float(rows["volume_mm3"].max())]
    panel.plot(ends, ends, color=INK, linewidth=1, label="equal")
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.legend(fontsize=8, frameon=False)
    _label_axes(panel, "volume of the matte, mm³", "marked volume, mm³")


def _label_axes(panel: Axes, below: str, beside: str) -> None:
    panel.set_xlabel(below, fontsize=9)
    panel.set_ylabel(beside, fontsize=9)
    panel.tick_params(labelsize=8)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)

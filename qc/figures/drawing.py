"""Draw one nodule: arrays in, figures out, and figures to PNG.

Three planes through the centre of the readers' union in radiological convention: head up, anterior
up in the axial plane, the patient's right on the left. Panels are dark on light and dark pages
alike. Unmeasured voxels have a colour of their own, so that they cannot be taken for lung.
"""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from math import ceil
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from matting.geometry.grid import Grid
from matting.geometry.trimap import BACKGROUND, FOREGROUND, UNKNOWN

WINDOW_HU = (-1350.0, 150.0)
"""Lung window: level -600, width 1500."""
MARGIN_MM = 4.0
"""Smallest margin around the readers' union; wider than the trimap's unknown band."""
MARGIN_SHARE = 0.15
"""Margin as a share of the union's largest extent, where that is larger."""
SCALE_BARS_MM = (10.0, 5.0)
"""Lengths of the scale bar; the first below 40 % of the panel's width is used."""

READER_COLOURS = ("#56B4E9", "#E69F00", "#F0E442", "#CC79A7")
"""From the palette of Okabe and Ito, safe for colour-blind readers."""
READER_DASHES: tuple[Any, ...] = ("solid", (0, (5, 2)), (0, (2, 2)), (0, (6, 2, 1, 2)))
"""Dashes distinguish readers in greyscale print and where outlines coincide."""

INK, PAPER, MARK, UNMEASURED = "#E8EAED", "#14171A", "#7CFC9A", "#263545"
_DARK_RIM = [withStroke(linewidth=1.8, foreground="black")]
"""Keeps small text readable on bright tissue."""
_SMALL_PRINT: dict[str, Any] = {"color": INK, "fontsize": 7, "zorder": 4, "path_effects": _DARK_RIM}
TRIMAP_COLOURS = ("#000000", "#808080", "#FFFFFF")
PANEL_INCHES, TITLE_INCHES, BAR_INCHES = 2.3, 0.22, 0.6
DPI = 110

PLANES = {"axial": (1, 2), "coronal": (0, 2), "sagittal": (0, 1)}
"""Array axes shown vertically and horizontally."""
_LETTERS = {"axial": "APRL", "coronal": "HFRL", "sagittal": "HFAP"}
"""Letters at the top, bottom, left and right: Head, Feet, Anterior, Posterior, Right, Left."""
_LETTER_PLACES = (
    (0.5, 0.985, "center", "top"),
    (0.5, 0.015, "center", "bottom"),
    (0.015, 0.5, "left", "center"),
    (0.985, 0.5, "right", "center"),
)


@dataclass(frozen=True, slots=True)
class DrawnNodule:
    """The volumes of one nodule that can be drawn; arrays are (z, y, x) unless noted."""

    grid: Grid
    image_hu: NDArray[Any]
    valid: NDArray[np.bool_]
    """False where the scanner did not measure."""
    readers: NDArray[np.bool_]
    """(readers, z, y, x)."""
    trimap: NDArray[np.uint8]
    alphas: Mapping[str, NDArray[np.float32]]
    """Mattes by method; all NaN where the method gave none."""
    why_missing: Mapping[str, str]
    """Why a method gave no matte, by method."""
    known_alpha: NDArray[np.float32] | None = None
    """The true matte where the CT is synthetic."""
    picked: str | None = None
    """The method whose matte was chosen."""
    synthetic: bool = False
    """True where the CT is synthetic; the pictures then say so themselves."""


def draw_anatomy(subject: DrawnNodule) -> Figure:
    """Draw the CT in three planes with the readers' outlines, the axial CT, and the trimap."""
    near = crop_upright(subject)
    figure, panels = panel_grid(1, 5, foot_inches=0.3)
    for panel, plane in zip(
        panels, ("axial", "coronal", "sagittal", "axial", "axial"), strict=True
    ):
        frame_panel(panel, near, plane)
    for panel, plane in zip(panels[:3], PLANES, strict=True):
        show_ct(panel, near, plane)
        outline_readers(panel, near, plane)
        panel.set_title(f"{plane} CT, outlines", color=INK, fontsize=9)
    drawn = show_ct(panels[3], near, "axial")
    panels[3].set_title("axial CT alone", color=INK, fontsize=9)
    labels = np.searchsorted((BACKGROUND, UNKNOWN, FOREGROUND), middle_slice(near.trimap, "axial"))
    show(panels[4], near, "axial", labels, cmap=ListedColormap(TRIMAP_COLOURS), vmin=0, vmax=2)
    panels[4].set_title("axial trimap", color=INK, fontsize=9)
    colour_bar(figure, drawn, np.linspace(*WINDOW_HU, 4).tolist(), "HU")
    _legend(figure, len(near.readers))
    if near.synthetic:
        add_warning(figure, "SYNTHETIC CT")
    return figure


def draw_mattes(subject: DrawnNodule) -> Figure:
    """Draw every matte in the axial plane on one scale, the picked one marked.

    In the last column: the known alpha or else the CT, and the readers' mean mask.
    """
    near = crop_upright(subject)
    columns = ceil(len(near.alphas) / 2) + 1
    figure, panels = panel_grid(2, columns, foot_inches=0.04)
    for panel in panels:
        frame_panel(panel, near, "axial")
    beside = panels[columns - 1 :: columns]
    slots = [panel for panel in panels if panel not in beside]
    for panel, (name, alpha) in zip(slots, near.alphas.items(), strict=False):
        _method_panel(panel, near, name, alpha)
    for panel in slots[len(near.alphas) :]:
        panel.set_axis_off()
    drawn = show_matte(beside[1], near, near.readers.mean(axis=0, dtype=np.float32))
    beside[1].set_title("readers' mean", color=INK, fontsize=9, fontstyle="italic")
    if near.known_alpha is None:
        show_ct(beside[0], near, "axial")
    else:
        show_matte(beside[0], near, near.known_alpha)
    truth = "CT" if near.known_alpha is None else "known alpha"
    beside[0].set_title(truth, color=INK, fontsize=9, fontstyle="italic")
    colour_bar(figure, drawn, [0, 0.25, 0.5, 0.75, 1], "alpha")
    if near.synthetic:
        add_warning(figure, "SYNTHETIC\nCT")
    return figure


def png(figure: Figure) -> bytes:
    """Return a figure as PNG; deterministic."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def crop_upright(subject: DrawnNodule) -> DrawnNodule:
    """Return the nodule flipped upright and cropped to a cube around the readers' union.

    The cube's middle voxel is the union's centre of mass, so that every plane is drawn through the
    middle. Voxels beyond the patch are marked as not measured.
    """
    upright = upright_flips(subject.grid)
    places = np.argwhere(np.any(subject.readers, axis=0)[upright])
    spacing_mm = np.asarray(subject.grid.spacing_mm)
    centre = places.mean(axis=0).round().astype(int)
    reach_mm = (np.abs(places - centre) * spacing_mm).max()
    half_mm = reach_mm + max(MARGIN_MM, 2 * MARGIN_SHARE * reach_mm)
    half = np.ceil(half_mm / spacing_mm).astype(int)
    window = partial(_window, upright=upright, start=centre - half, stop=centre + half + 1)
    known = subject.known_alpha
    z, y, x = (2 * half + 1).tolist()
    return replace(
        subject,
        grid=Grid((z, y, x), subject.grid.spacing_mm, subject.grid.origin_lps_mm),
        image_hu=window(subject.image_hu, fill=0),
        valid=window(subject.valid, fill=False),
        readers=np.stack([window(mask, fill=False) for mask in subject.readers]),
        trimap=window(subject.trimap, fill=BACKGROUND),
        alphas={name: window(alpha, fill=np.nan) for name, alpha in subject.alphas.items()},
        known_alpha=None if known is None else window(known, fill=0),
    )


def upright_flips(grid: Grid) -> tuple[slice, ...]:
    """Return the flips after which the array axes run to the head, the back and the left."""
    runs = (axis[2 - place] for place, axis in enumerate(grid.axes_lps))
    return tuple(slice(None, None, -1 if run < 0 else 1) for run in runs)


def _window(
    volume: NDArray[Any],
    *,
    upright: tuple[slice, ...],
    start: NDArray[Any],
    stop: NDArray[Any],
    fill: float,
) -> NDArray[Any]:
    turned = volume[upright]
    out = np.full(stop - start, fill, volume.dtype)
    low, high = np.maximum(start, 0), np.minimum(stop, turned.shape)
    inside = tuple(slice(lo, hi) for lo, hi in zip(low, high, strict=True))
    out[tuple(slice(lo, hi) for lo, hi in zip(low - start, high - start, strict=True))] = turned[
        inside
    ]
    return out


def middle_slice(volume: NDArray[Any], plane: str) -> NDArray[Any]:
    """Return the middle slice of a plane as an image, its first row on top."""
    hidden = ({0, 1, 2} - set(PLANES[plane])).pop()
    slab: NDArray[Any] = np.take(volume, volume.shape[hidden] // 2, axis=hidden)
    return slab if plane == "axial" else slab[::-1]


def panel_grid(
    rows: int, columns: int, *, foot_inches: float, panel_inches: float = PANEL_INCHES
) -> tuple[Figure, list[Axes]]:
    """Return a figure and its panels, row by row, with room for titles, colour bar and legend.

    Args:
        rows: Number of rows of panels.
        columns: Number of columns of panels.
        foot_inches: Height below the panels, for a legend.
        panel_inches: Side of a panel.
    """
    width = columns * panel_inches + BAR_INCHES
    height = rows * (panel_inches + TITLE_INCHES) + foot_inches
    figure = Figure((width, height), dpi=DPI, facecolor=PAPER)
    grid = figure.add_gridspec(
        rows,
        columns,
        left=0.004,
        right=1 - BAR_INCHES / width,
        bottom=foot_inches / height,
        top=1 - TITLE_INCHES / height,
        wspace=0.03,
        hspace=TITLE_INCHES / panel_inches,
    )
    return figure, [
        figure.add_subplot(grid[row, column]) for row in range(rows) for column in range(columns)
    ]


def frame_panel(panel: Axes, near: DrawnNodule, plane: str) -> None:
    """Draw a panel's border, orientation letters and scale bar."""
    panel.set_xticks([])
    panel.set_yticks([])
    panel.set_facecolor("black")
    panel.spines[:].set_color("#5A6068")
    for letter, (x, y, across, along) in zip(_LETTERS[plane], _LETTER_PLACES, strict=True):
        panel.text(x, y, letter, ha=across, va=along, transform=panel.transAxes, **_SMALL_PRINT)
    sideways = PLANES[plane][1]
    width_mm = near.grid.shape[sideways] * near.grid.spacing_mm[sideways]
    bar_mm = next((bar for bar in SCALE_BARS_MM if bar < 0.4 * width_mm), SCALE_BARS_MM[-1])
    ends = [0.04, 0.04 + bar_mm / width_mm]
    panel.plot(
        ends,
        [0.05, 0.05],
        color=INK,
        linewidth=1.6,
        transform=panel.transAxes,
        zorder=4,
        path_effects=_DARK_RIM,
    )
    panel.text(0.04, 0.065, f"{bar_mm:.0f} mm", transform=panel.transAxes, **_SMALL_PRINT)


def show(panel: Axes, near: DrawnNodule, plane: str, values: NDArray[Any], **how: Any) -> AxesImage:
    """Show a plane's values (rows, columns) in their true proportions, voxel by voxel."""
    upward, sideways = (near.grid.spacing_mm[axis] for axis in PLANES[plane])
    return panel.imshow(values, interpolation="nearest", aspect=upward / sideways, **how)


def show_ct(panel: Axes, near: DrawnNodule, plane: str) -> AxesImage:
    """Show the CT's plane in lung window."""
    shown = np.ma.masked_where(~middle_slice(near.valid, plane), middle_slice(near.image_hu, plane))
    return show(
        panel, near, plane, shown, cmap=colour_map("gray"), vmin=WINDOW_HU[0], vmax=WINDOW_HU[1]
    )


def show_matte(panel: Axes, near: DrawnNodule, alpha: NDArray[np.float32]) -> AxesImage:
    """Show a matte's axial plane, black 0 to pale yellow 1."""
    return show(
        panel,
        near,
        "axial",
        middle_slice(np.nan_to_num(alpha), "axial"),
        cmap=colour_map("magma"),
        vmin=0,
        vmax=1,
    )


def colour_map(name: str) -> Colormap:
    """Return a colour map that draws masked voxels in the colour of unmeasured ones."""
    return colormaps[name].with_extremes(bad=UNMEASURED)


def outline_readers(panel: Axes, near: DrawnNodule, plane: str) -> None:
    """Draw each reader's outline in its colour and dashes."""
    for reader, mask in enumerate(near.readers):
        shown = middle_slice(mask, plane)
        if shown.any() and not shown.all():
            colour, dashes = reader_style(reader)
            panel.contour(
                shown.astype(float),
                levels=[0.5],
                colors=[colour],
                linestyles=[dashes],
                linewidths=1.1,
            )


def reader_style(reader: int) -> tuple[str, Any]:
    """Return a reader's colour and dashes."""
    return READER_COLOURS[reader % len(READER_COLOURS)], READER_DASHES[reader % len(READER_DASHES)]


def _method_panel(panel: Axes, near: DrawnNodule, name: str, alpha: NDArray[np.float32]) -> None:
    if np.isnan(alpha).all():
        _draw_reason(panel, near, near.why_missing.get(name, ""))
    else:
        show_matte(panel, near, alpha)
    panel.set_title(name, color=INK, fontsize=9)
    if name == near.picked:
        panel.set_title(
            f"{name}  \N{BLACK RIGHT-POINTING POINTER} picked",
            color=MARK,
            fontsize=9,
            fontweight="bold",
        )
        panel.spines[:].set(color=MARK, linewidth=2.5)


def _draw_reason(panel: Axes, near: DrawnNodule, reason: str) -> None:
    show(panel, near, "axial", np.zeros(near.grid.shape[1:]), cmap=ListedColormap([PAPER]))
    panel.text(
        0.5,
        0.72,
        "no matte stored",
        color=INK,
        fontsize=8,
        ha="center",
        va="center",
        transform=panel.transAxes,
    )
    lines = _folded(reason.partition(";")[0])
    panel.text(
        0.5,
        0.6,
        lines,
        color="#B8BEC6",
        fontsize=6.5,
        ha="center",
        va="top",
        transform=panel.transAxes,
    )


def _folded(text: str, width: int = 34, lines: int = 5) -> str:
    """Break a sentence into short lines; dollar signs, which start a formula, are escaped."""
    return "\n".join(textwrap.wrap(text, width, max_lines=lines, placeholder=" \u2026")).replace(
        "$", r"\$"
    )


def _legend(figure: Figure, readers: int) -> None:
    lines: list[Any] = []
    for reader in range(readers):
        colour, dashes = reader_style(reader)
        lines.append(
            Line2D(
                [], [], color=colour, linestyle=dashes, linewidth=1.4, label=f"reader {reader + 1}"
            )
        )
    names = ("background", "unknown", "foreground", "not measured")
    for name, colour in zip(names, (*TRIMAP_COLOURS, UNMEASURED), strict=True):
        lines.append(Patch(facecolor=colour, edgecolor="#5A6068", label=name))
    figure.legend(
        handles=lines,
        loc="lower left",
        ncols=len(lines),
        fontsize=7,
        labelcolor=INK,
        frameon=False,
        borderpad=0.1,
    )


def colour_bar(figure: Figure, drawn: AxesImage, ticks: list[float], unit: str) -> None:
    """Draw the colour bar of an image at the figure's right edge."""
    width, height = figure.get_size_inches()
    axes = figure.add_axes(
        (1 - (BAR_INCHES - 0.06) / width, 0.5 - 0.85 / height, 0.09 / width, 1.7 / height)
    )
    bar = figure.colorbar(drawn, cax=axes, ticks=ticks)
    bar.ax.tick_params(colors=INK, labelsize=6.5, length=2, pad=2)
    bar.ax.set_title(unit, color=INK, fontsize=6.5, loc="left")
    bar.outline.set_edgecolor("#5A6068")


def add_warning(figure: Figure, words: str) -> None:
    """Write a warning into the picture, which may be copied without its page."""
    figure.text(
        0.996, 0.012, words, color="#FFD54A", fontsize=5.8, weight="bold", ha="right", va="bottom"
    )

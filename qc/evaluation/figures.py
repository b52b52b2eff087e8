"""Figures 1, 7 and 8 of the paper: readers against matte, the eight methods, network outputs.

A matte is overlaid on the CT in yellow to red; deeper red means larger alpha.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from matting.targets import family_of
from qc.figures.drawing import (
    INK,
    PLANES,
    DrawnNodule,
    add_warning,
    colour_bar,
    crop_upright,
    frame_panel,
    middle_slice,
    panel_grid,
    reader_style,
    show,
    show_ct,
    show_matte,
)

STAND_IN = "SYNTHETIC CT"
SMALL_PANEL_INCHES = 1.5
TICKS = [0, 0.25, 0.5, 0.75, 1]
NAMES_IN_PAPER = {"cf": "CF", "knn": "KNN", "lb": "LB", "if": "IF"}
"""The plain methods as the paper's figures name them; the calibrated ones add a plus sign."""


def _reds() -> ListedColormap:
    """Return a map from transparent over yellow to deep red, of monotonic lightness."""
    share = np.linspace(0, 1, 256)[:, None]
    low, high = np.array(to_rgb("#FFE08A")), np.array(to_rgb("#C40018"))
    return ListedColormap(np.hstack([low + (high - low) * share, np.clip(2.2 * share, 0, 0.85)]))


REDS = _reds()


@dataclass(frozen=True, slots=True)
class NoduleOutputs:
    """A network's outputs for a nodule; every array is (z, y, x) in 0..1, on the nodule's grid."""

    subject: DrawnNodule
    """Its `picked` is the released matte."""
    name: str
    """The nodule's id."""
    alpha: NDArray[np.float32]
    union: NDArray[np.float32] | None
    """None for a network without auxiliary masks, as is `overlap`."""
    overlap: NDArray[np.float32] | None


def draw_readers(subject: DrawnNodule) -> Figure:
    """Draw Figure 1: the CT, each reader's mask and the released matte, in three planes.

    The released matte is `subject.picked`.
    """
    near = crop_upright(subject)
    readers = len(near.readers)
    figure, panels = panel_grid(len(PLANES), readers + 2, foot_inches=0.04)
    drawn = None
    for row, plane in enumerate(PLANES):
        places = panels[row * (readers + 2) : (row + 1) * (readers + 2)]
        for panel in places:
            frame_panel(panel, near, plane)
            show_ct(panel, near, plane)
        places[0].set_title(f"{plane} CT", color=INK, fontsize=9)
        for reader, panel in enumerate(places[1:-1]):
            _mask(panel, near, plane, reader)
        drawn = show_overlay(places[-1], near, plane, near.alphas[str(near.picked)])
        places[-1].set_title(f"released matte ({near.picked})", color=INK, fontsize=9)
    if drawn is not None:
        colour_bar(figure, drawn, TICKS, "alpha")
    _mark_synthetic(figure, near)
    return figure


def draw_methods(subjects: Sequence[DrawnNodule], names: Sequence[str]) -> Figure:
    """Draw Figure 7, one nodule per row: CT, readers' mean mask and every matte, axial."""
    methods = list(subjects[0].alphas)
    columns = len(methods) + 2
    figure, panels = panel_grid(
        len(subjects), columns, foot_inches=0.04, panel_inches=SMALL_PANEL_INCHES
    )
    drawn = None
    for row, (subject, name) in enumerate(zip(subjects, names, strict=True)):
        near = crop_upright(subject)
        places = panels[row * columns : (row + 1) * columns]
        _ct(places[0], near, name)
        drawn = _matte(places[1], near, near.readers.mean(axis=0, dtype=np.float32), "mean mask")
        for panel, method in zip(places[2:], methods, strict=True):
            _matte(
                panel,
                near,
                near.alphas[method],
                name_in_paper(method),
                released=method == near.picked,
            )
    if drawn is not None:
        colour_bar(figure, drawn, TICKS, "alpha")
    _mark_synthetic(figure, *subjects)
    return figure


def draw_outputs(outputs: Sequence[NoduleOutputs]) -> Figure:
    """Draw Figure 8, one nodule per row: CT, true and predicted union, overlap and matte, axial."""
    titles = (
        "true union",
        "true overlap",
        "released matte",
        "predicted union",
        "predicted overlap",
        "predicted matte",
    )
    columns = len(titles) + 1
    figure, panels = panel_grid(len(outputs), columns, foot_inches=0.04, panel_inches=2.0)
    drawn = None
    for row, output in enumerate(outputs):
        known = output.subject
        volumes: dict[str, NDArray[np.float32] | None] = {
            "true union": np.any(known.readers, axis=0).astype(np.float32),
            "true overlap": np.all(known.readers, axis=0).astype(np.float32),
            "released matte": known.alphas[str(known.picked)],
            "predicted union": output.union,
            "predicted overlap": output.overlap,
            "predicted matte": output.alpha,
        }
        given = {title: volume for title, volume in volumes.items() if volume is not None}
        near = crop_upright(replace(known, alphas=given))
        places = panels[row * columns : (row + 1) * columns]
        _ct(places[0], near, output.name)
        for panel, title in zip(places[1:], titles, strict=True):
            if title in near.alphas:
                drawn = _matte(panel, near, near.alphas[title], title)
            else:
                panel.set_axis_off()
                message = f"no {title.split()[1]}:\nnetwork without\nmasks"
                _centred_text(panel, message)
    if drawn is not None:
        colour_bar(figure, drawn, TICKS, "share")
    _mark_synthetic(figure, *(output.subject for output in outputs))
    return figure


def name_in_paper(method: str) -> str:
    """Return a method's name as the paper prints it."""
    plain = family_of(method)
    return NAMES_IN_PAPER.get(plain, plain) + ("+" if method.endswith("+") else "")


def show_overlay(
    panel: Axes, near: DrawnNodule, plane: str, alpha: NDArray[np.float32]
) -> AxesImage:
    """Overlay a matte's middle slice on a panel."""
    return show(
        panel,
        near,
        plane,
        middle_slice(np.nan_to_num(alpha), plane),
        cmap=REDS,
        vmin=0,
        vmax=1,
        zorder=2,
    )


def _mask(panel: Axes, near: DrawnNodule, plane: str, reader: int) -> None:
    """Draw one reader's mask, filled."""
    colour, _ = reader_style(reader)
    shown = middle_slice(near.readers[reader], plane)
    fill = np.zeros((*shown.shape, 4))
    fill[shown] = (*to_rgb(colour), 0.35)
    show(panel, near, plane, fill, zorder=2)
    if shown.any() and not shown.all():
        panel.contour(shown.astype(float), levels=[0.5], colors=[colour], linewidths=1.1)
    panel.set_title(f"reader {reader + 1}", color=colour, fontsize=9)


def _ct(panel: Axes, near: DrawnNodule, name: str) -> None:
    frame_panel(panel, near, "axial")
    show_ct(panel, near, "axial")
    panel.set_title(name, color=INK, fontsize=7)


def _matte(
    panel: Axes,
    near: DrawnNodule,
    alpha: NDArray[np.float32],
    title: str,
    *,
    released: bool = False,
) -> AxesImage:
    frame_panel(panel, near, "axial")
    if np.isnan(alpha).all():
        _centred_text(panel, "no matte")
    panel.set_title(title + (" (released)" if released else ""), color=INK, fontsize=8)
    return show_matte(panel, near, alpha)


def _centred_text(panel: Axes, message: str) -> None:
    panel.text(
        0.5,
        0.5,
        message,
        color=INK,
        fontsize=8,
        ha="center",
        va="center",
        zorder=5,
        transform=panel.transAxes,
    )


def _mark_synthetic(figure: Figure, *subjects: DrawnNodule) -> None:
    if any(subject.synthetic for subject in subjects):
        add_warning(figure, STAND_IN)

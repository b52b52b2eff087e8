"""Pictures of a training: curves of its losses, and sample mattes beside the truth."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from qc.figures.drawing import DPI, INK, PAPER, WINDOW_HU, png
from qc.report.page import TrainingFacts, TrainingScore
from storage.records import Line
from storage.results.checkpoints import Checkpoint
from storage.results.scores import METRIC_NAMES

CURVES = {"loss": ("alpha", "gradient", "overlap", "union"), "SAD": ("sad",), "MSE": ("mse",)}
"""Panels of the curves and the columns that each shows."""
MARGIN_VOXELS = 24
"""Margin around the readers' union."""


@dataclass(frozen=True, slots=True)
class SampleView:
    """One nodule's axial images through the middle of the readers' union; arrays are (y, x)."""

    nodule_id: str
    image_hu: NDArray[Any]
    truth: NDArray[Any]
    predicted: NDArray[Any]


def losses_csv(rows: Sequence[dict[str, Any]]) -> bytes:
    """Return the losses as CSV, one line per epoch."""
    text = StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def draw_curves(rows: Sequence[dict[str, Any]], *, split: str, synthetic: bool) -> bytes:
    """Draw a training's losses, and SAD and MSE of a few whole nodules, by epoch.

    Args:
        rows: One per epoch, as in `tasks.learning.callbacks.TrainingSnapshot`.
        split: Split of the nodules that were predicted whole.
        synthetic: Whether the CT is synthetic; the title then says so.

    Returns:
        A PNG.
    """
    figure = Figure(figsize=(11, 3.4), dpi=DPI, layout="constrained")
    epochs = [row["epoch"] for row in rows]
    for panel, (title, columns) in zip(figure.subplots(1, 3), CURVES.items(), strict=True):
        for column in columns:
            known = [
                (epoch, row[column]) for epoch, row in zip(epochs, rows, strict=True) if row[column]
            ]
            if known:
                panel.plot(
                    *zip(*known, strict=True), marker="." if len(rows) < 40 else "", label=column
                )
        panel.set_title(
            "losses on training crops" if title == "loss" else f"{title} of whole {split} nodules"
        )
        panel.set_xlabel("epoch")
        panel.margins(y=0.1)
        panel.set_ylim(bottom=0)
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.grid(alpha=0.3)
        if title == "loss":
            panel.legend(fontsize=8)
    if synthetic:
        figure.suptitle("SYNTHETIC CT", color="#B00020", fontsize=10)
    return png(figure)


def sample_view(
    nodule_id: str,
    image_hu: NDArray[Any],
    truth: NDArray[Any],
    predicted: NDArray[Any],
    union: NDArray[np.bool_],
) -> SampleView:
    """Return the axial slice through the middle of the readers' union.

    Args:
        nodule_id: Of the nodule.
        image_hu: CT (z, y, x).
        truth: The released matte (z, y, x).
        predicted: The predicted matte (z, y, x).
        union: Union of the readers' masks (z, y, x).
    """
    places = np.argwhere(union)
    middle = int(np.median(places[:, 0]))
    low = np.maximum(places[:, 1:].min(axis=0) - MARGIN_VOXELS, 0)
    high = places[:, 1:].max(axis=0) + MARGIN_VOXELS + 1
    cut = (middle, slice(low[0], high[0]), slice(low[1], high[1]))
    return SampleView(nodule_id, image_hu[cut], truth[cut], predicted[cut])


def draw_samples(views: Sequence[SampleView], title: str, *, synthetic: bool) -> bytes:
    """Draw each nodule in a row: CT, released matte and predicted matte, axial. Returns a PNG."""
    figure = Figure(
        figsize=(7.4, 2.4 * len(views) + 0.7), dpi=DPI, facecolor=PAPER, layout="constrained"
    )
    panels = figure.subplots(len(views), 3, squeeze=False)
    columns: tuple[tuple[str, str, str, tuple[float, float]], ...] = (
        ("CT", "image_hu", "gray", WINDOW_HU),
        ("released matte", "truth", "magma", (0.0, 1.0)),
        ("predicted matte", "predicted", "magma", (0.0, 1.0)),
    )
    for row, one in zip(panels, views, strict=True):
        for panel, (_, attribute, colours, (low, high)) in zip(row, columns, strict=True):
            panel.imshow(getattr(one, attribute), cmap=colours, vmin=low, vmax=high)
            panel.set_xticks([])
            panel.set_yticks([])
        row[0].set_ylabel(one.nodule_id, color=INK, fontsize=7)
    for panel, (name, *_) in zip(panels[0], columns, strict=True):
        panel.set_title(name, color=INK, fontsize=9)
    figure.suptitle(title + ("   SYNTHETIC CT" if synthetic else ""), color=INK, fontsize=10)
    return png(figure)


def training_facts(
    checkpoint: Checkpoint,
    lines: Sequence[Line],
    *,
    curves: bytes,
    samples: bytes,
    truth: str,
    region: str,
) -> TrainingFacts:
    """Return what a report shows of a trained network.

    Args:
        checkpoint: The network.
        lines: Its scores and those of methods and trivial mattes.
        curves: PNG of the losses by epoch.
        samples: PNG of mattes after the last epoch.
        truth: Show the scores against this truth (``released`` or ``known``).
        region: Show the scores over this region (``whole``, ``near`` or ``unknown``).
    """
    config = checkpoint.config
    shown = [line for line in lines if (line.truth, line.region) == (truth, region)]
    rows = [
        TrainingScore(
            line.matte,
            line.matte == checkpoint.label,
            line.nodules,
            tuple(line.means[name] for name in METRIC_NAMES),
        )
        for line in sorted(shown, key=lambda line: line.matte != checkpoint.label)
    ]
    return TrainingFacts(
        network=checkpoint.label,
        nodules=config.nodules,
        mattes=config.learned,
        epochs=len(config.epochs),
        seconds=sum(row["seconds"] for row in config.epochs),
        device=config.device,
        checkpoint=checkpoint.digest,
        curves_png=curves,
        samples_png=samples,
        truth={
            "released": "the released matte (nodules excluded for the method that supplied it)",
            "known": "the known alpha of the synthetic CT",
        }[truth],
        region={
            "whole": "the whole patch",
            "near": "the readers' union and 5 mm around it",
            "unknown": "the unknown voxels",
        }[region],
        scores=tuple(rows),
    )

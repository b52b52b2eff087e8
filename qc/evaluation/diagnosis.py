"""Figure 6: AUROC of malignancy from each input alone, with intervals, one panel per backbone."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, fields

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from matting.targets import target_of
from storage.results.diagnoses import DiagnosisRow

BACKBONES = {
    "logistic": "Features, logistic regression",
    "boosting": "Features, gradient boosting",
    "densenet121": "DenseNet-121",
    "resnet34": "ResNet-34",
    "resnet50": "ResNet-50",
}
_VOLUME = "Volume"
_BASELINES = ("HU linear", "Mean x HU", "Union x HU")
_MASKS = ("Mean", "Rand", "Overlap", "Union")
_GREY, _BLUE, _SKY, _GREEN, _ORANGE = "#666666", "#0072B2", "#56B4E9", "#009E73", "#E69F00"
"""From the palette of Okabe and Ito, safe for colour-blind readers; the markers differ too."""
_KINDS = {
    "image": (_GREY, "s"),
    "readers' masks": (_ORANGE, "D"),
    "plain mattes": (_SKY, "o"),
    "optimised mattes": (_BLUE, "^"),
    "released matte": (_GREEN, "*"),
    "baseline (ours)": ("#CC79A7", "X"),
}


def draw_diagnosis(
    rows: Sequence[DiagnosisRow], *, synthetic: bool = False, note: str = ""
) -> bytes:
    """Draw Figure 6.

    Args:
        rows: For each backbone and input one row per seed (drawn small) and one of their mean
            (drawn with its interval); the row of volume alone is drawn as a line with a band.
        synthetic: Whether the CT is synthetic; the title then says so.
        note: Added to the title, e.g. ``reduced setting``.

    Returns:
        A PNG.
    """
    backbones = list(dict.fromkeys(row.backbone for row in rows if row.backbone in BACKBONES))
    volume = next((row for row in rows if row.input == _VOLUME), None)
    figure = Figure(
        (4.2 + 3.0 * max(len(backbones) - 1, 0) + 1.6, 5.4), dpi=150, layout="constrained"
    )
    panels = figure.subplots(1, max(len(backbones), 1), sharey=True, squeeze=False)[0]
    lowest = 0.5
    for axes, backbone in zip(panels, backbones, strict=False):
        mine = [row for row in rows if row.backbone == backbone]
        names = list(dict.fromkeys(row.input for row in mine))
        for row in mine:
            colour, marker = _KINDS[_kind(row.input)]
            height = names.index(row.input)
            lowest = min(lowest, row.auroc if row.seed is not None else row.low)
            if row.seed is not None:
                axes.plot(
                    row.auroc, height + 0.3, ".", color=colour, alpha=0.6, markersize=4, zorder=2
                )
                continue
            axes.plot([row.low, row.high], [height, height], color=colour, linewidth=1.6, zorder=3)
            size = 10 if marker == "*" else 6
            axes.plot(row.auroc, height, marker, color=colour, markersize=size, zorder=4)
            axes.annotate(
                f"{row.auroc:.3f}",
                (1.01, height),
                xycoords=("axes fraction", "data"),
                va="center",
                fontsize=7,
            )
        if volume is not None:
            axes.axvspan(volume.low, volume.high, color="#CC79A7", alpha=0.15, linewidth=0)
            axes.axvline(volume.auroc, color="#CC79A7", linewidth=1.2, linestyle="--")
        axes.set_yticks(range(len(names)), [_label(name) for name in names])
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_title(BACKBONES[backbone], fontsize=9)
        axes.set_xlabel("AUROC, benign or malignant")
        axes.grid(axis="x", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels:
        axes.set_xlim(lowest - 0.02, 1.0)
    _explain(figure, rows, volume)
    title = " · ".join(
        part for part in ("SYNTHETIC CT" if synthetic else "", _size(rows), note) if part
    )
    figure.suptitle(
        title, x=0.01, ha="left", fontsize=9, color="#9a6b00" if synthetic else "#222222"
    )
    data = io.BytesIO()
    figure.savefig(data, format="png", metadata={"Software": None})
    return data.getvalue()


def diagnosis_csv(rows: Sequence[DiagnosisRow]) -> bytes:
    """Return the rows as CSV; the seed of a mean is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(
        text, [field.name for field in fields(DiagnosisRow)], lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue().encode()


def _explain(figure: Figure, rows: Sequence[DiagnosisRow], volume: DiagnosisRow | None) -> None:
    present = dict.fromkeys(_kind(row.input) for row in rows if row.backbone in BACKBONES)
    handles = [
        Line2D([], [], color=_KINDS[k][0], marker=_KINDS[k][1], linewidth=1.6, label=k)
        for k in present
    ]
    handles.append(
        Line2D([], [], color=_GREY, marker=".", linewidth=0, alpha=0.6, label="one seed")
    )
    if volume is not None:
        label = f"volume alone, no network: {volume.auroc:.3f}"
        handles.append(Line2D([], [], color="#CC79A7", linestyle="--", label=label))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=7, frameon=False)


def _kind(name: str) -> str:
    if name in _BASELINES:
        return "baseline (ours)"
    if name == "Image":
        return "image"
    if name in _MASKS:
        return "readers' masks"
    if name == "GT":
        return "released matte"
    return "optimised mattes" if target_of(name) == "density" else "plain mattes"


def _label(name: str) -> str:
    return "GT (released)" if name == "GT" else f"{name} (ours)" if name in _BASELINES else name


def _size(rows: Sequence[DiagnosisRow]) -> str:
    if not rows:
        return "no classifier was trained"
    seeds = len({row.seed for row in rows if row.seed is not None})
    counts = f"{rows[0].nodules} nodules, {rows[0].malignant} malignant, {seeds} seeds"
    return f"{counts}, 95 % confidence intervals"

"""Figure 9: errors of the network's variants against their cost, beside the paper's points."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from matting.parameters import Auxiliary
from qc.evaluation.page import NetworkName
from qc.evaluation.paper import TABLE_2, TABLE_3, TABLE_UNITS, Printed
from storage.records import Cost
from storage.results.experiments import Averages
from storage.results.scores import METRIC_NAMES

HEADINGS = {"sad": "SAD", "mse": "MSE x 10³", "grad": "Grad", "conn": "Conn"}
OURS, PAPERS = "#0072B2", "#D55E00"
"""From the palette of Okabe and Ito, safe for colour-blind readers; the markers differ too."""
_MARKERS = {"3dmm": "o", "3dmm-m": "s", "3dmm-mg": "^"}
DPI = 120


def draw_tradeoff(
    measured: Sequence[Averages], costs: Sequence[Cost], *, synthetic: bool = False, note: str = ""
) -> Figure | None:
    """Draw SAD, MSE, Grad and Conn in table units against multiply-adds.

    Filled markers are networks whose matting head reads the auxiliary masks, hollow ones others.

    Args:
        measured: Rows of Table 2 against one truth over one region.
        costs: Rows of Table 3.
        synthetic: Whether the CT is synthetic; the title then says so.
        note: Added to the title, e.g. ``reduced setting``.

    Returns:
        The figure; None if no network has both scores and a cost.
    """
    giga = {NetworkName(cost.variant, cost.auxiliary): cost.multiply_adds / 1e9 for cost in costs}
    rows = {name: row for row in measured if (name := NetworkName.of(row.matte)) and name in giga}
    if not rows:
        return None
    figure = Figure((12.4, 3.7), dpi=DPI, layout="constrained")
    for panel, metric in zip(figure.subplots(1, len(METRIC_NAMES)), METRIC_NAMES, strict=True):
        _papers(panel, metric)
        _ours(panel, metric, rows, giga)
        panel.set_xscale("log")
        panel.set_title(HEADINGS[metric], fontsize=10)
        panel.set_xlabel("multiply-adds, x 10⁹", fontsize=8)
        panel.tick_params(labelsize=8)
        panel.set_ylim(bottom=0)
        panel.margins(x=0.15)
        panel.grid(color="#dddddd", linewidth=0.6)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
    handles = [
        Line2D([], [], color="#444444", marker=m, linewidth=0, label=name)
        for name, m in _MARKERS.items()
    ]
    handles.append(
        Line2D(
            [],
            [],
            color="#444444",
            marker="o",
            markerfacecolor="white",
            linewidth=0,
            label="untold of the masks",
        )
    )
    handles += [
        Line2D([], [], color=OURS, label="ours"),
        Line2D([], [], color=PAPERS, linestyle="--", label="paper"),
    ]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8, frameon=False
    )
    words = " · ".join(part for part in ("SYNTHETIC CT" if synthetic else "", note) if part)
    figure.suptitle(
        words, x=0.01, ha="left", fontsize=9, color="#B00020" if synthetic else "#222222"
    )
    return figure


def _papers(panel: Axes, metric: str) -> None:
    points = {pair: (TABLE_3[pair[0]][1] / 1e9, printed) for pair, printed in TABLE_2.items()}
    for auxiliary in get_args(Auxiliary):
        mine = [
            (x, _printed(printed, metric))
            for pair, (x, printed) in points.items()
            if pair[1] == auxiliary
        ]
        if not mine:
            continue
        mine.sort()
        panel.plot(
            *zip(*((x, mean) for x, (mean, _) in mine), strict=True),
            "--",
            color=PAPERS,
            linewidth=0.9,
        )
    for (variant, auxiliary), (x, printed) in points.items():
        mean, deviation = _printed(printed, metric)
        _point(panel, variant, auxiliary, x, mean, deviation, PAPERS)


def _ours(
    panel: Axes,
    metric: str,
    rows: Mapping[NetworkName, Averages],
    giga: Mapping[NetworkName, float],
) -> None:
    unit = TABLE_UNITS[metric]
    for auxiliary in get_args(Auxiliary):
        mine = sorted(
            (giga[n], getattr(row, metric) / unit)
            for n, row in rows.items()
            if n.auxiliary == auxiliary
        )
        if mine:
            panel.plot(*zip(*mine, strict=True), color=OURS, linewidth=0.9)
    for name, row in rows.items():
        deviation = getattr(row, f"{metric}_deviation")
        spread = None if deviation is None else deviation / unit
        _point(panel, *name, giga[name], getattr(row, metric) / unit, spread, OURS)


def _point(
    panel: Axes,
    variant: str,
    auxiliary: Auxiliary,
    x: float,
    mean: float,
    deviation: float | None,
    colour: str,
) -> None:
    face = colour if auxiliary == "told" else "white"
    style: dict[str, Any] = {
        "color": colour,
        "marker": _MARKERS[variant],
        "markerfacecolor": face,
        "markersize": 6,
        "capsize": 2,
    }
    panel.errorbar(
        [x], [mean], yerr=[deviation] if deviation else None, linewidth=0.8, zorder=3, **style
    )


def _printed(printed: Printed, metric: str) -> tuple[float, float]:
    found: tuple[float, float] = getattr(printed, metric)
    return found

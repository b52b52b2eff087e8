"""Masks or mattes: how well each foretells the mask of a reader who was left out."""

from collections.abc import Sequence
from itertools import groupby

from matplotlib.figure import Figure

from qc.evaluation.page import Picture
from qc.figures.drawing import png
from storage.results.left_out import LeftOutRow

FILE = "pictures/left-out.png"
_COLOURS = {"paper": "#0072B2", "improved": "#009E73", "readers'": "#E69F00"}
"""From the palette of Okabe and Ito, by the first word of a matte's name."""


def draw_left_out(rows: Sequence[LeftOutRow], *, synthetic: bool = False) -> Picture | None:
    """Draw the differences of all mattes from the blurred mean of the readers.

    Args:
        rows: Of all groups; each group is a panel.
        synthetic: Whether any CT is simulated; the title then says so.
    """
    if not rows:
        return None
    groups = {label: list(members) for label, members in groupby(rows, lambda row: row.group)}
    figure = Figure((2.6 + 2.1 * len(groups), 3.9), dpi=130, layout="constrained")
    panels = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    names = [row.matte for row in next(iter(groups.values()))]
    for axes, (label, members) in zip(panels, groups.items(), strict=True):
        for row in members:
            height = names.index(row.matte)
            colour = _COLOURS[row.matte.split()[0]]
            axes.plot([100 * row.low, 100 * row.high], [height] * 2, color=colour, linewidth=1.6)
            axes.plot(100 * row.difference, height, "o", color=colour, markersize=5)
        axes.axvline(0, color="#666666", linewidth=1, linestyle="--")
        axes.set_title(f"{label}: {members[0].nodules} nodules", fontsize=9)
        axes.grid(axis="x", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].invert_yaxis()
    figure.supxlabel("Brier score against the blurred mean of the readers, %", fontsize=9)
    if synthetic:
        figure.suptitle("SYNTHETIC CT", x=0.01, ha="left", fontsize=9, color="#9a6b00")
    return Picture(
        file=FILE,
        data=png(figure),
        alt=f"Differences of Brier scores with intervals, {len(names)} mattes; the values are in "
        "the table below.",
        caption="Left of the line: better than the mean of the other readers' masks, blurred by "
        "0.5 mm. Bars: 95 % confidence intervals, paired, by patient.",
    )

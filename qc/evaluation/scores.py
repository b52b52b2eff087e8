"""The page of `halosign score`: one self-contained HTML file, with its tables as CSV beside it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from matplotlib.figure import Figure

from qc.evaluation.tables import REGIONS, TRUTHS
from qc.figures.drawing import png
from qc.figures.templating import render_template
from storage.output import write_output
from storage.results.csv_rows import to_csv
from storage.results.prediction_scores import CalibrationBin, MeanScore, NotScored, ReaderScore
from storage.results.scores import Score

REPORT = "report.html"
SCORES = "scores.csv"
FILES = {
    "scores": SCORES,
    "nodules": "nodules.csv",
    "readers": "nodules-readers.csv",
    "calibration": "calibration.csv",
    "not_scored": "not-scored.csv",
}
"""Names of the tables, by the field of the page that they hold."""
METRICS = {
    "sad": "SAD",
    "mse": "MSE",
    "mse_paper_sized": "MSE, paper-sized",
    "grad": "Grad",
    "conn": "Conn",
    "brier": "Brier score",
    "log_loss": "Log loss",
    "calibration_error": "Calibration error",
}
"""Headings, by the name of the metric."""
_TRUTHS = {**TRUTHS, "readers": "the masks of the readers"}
_DRAWN = {"prediction": "#0072B2", "released matte": "#D55E00", "readers' mean": "#E69F00"}
"""Mattes whose calibration is drawn, with colours from the palette of Okabe and Ito."""


@dataclass(frozen=True, slots=True)
class ScoresPage:
    """The whole page."""

    title: str
    """Its heading."""
    release: str
    """Version."""
    manifest_sha256: str
    """SHA-256 of the release's manifest."""
    predictions: str
    """Name of the folder of predictions."""
    split: str
    """The split that was scored, or ``all``."""
    expected: int
    """Nodules of the split."""
    synthetic: int
    """Scored nodules whose CT is simulated."""
    without_geometry: int
    """Scored predictions of which only the shape could be compared."""
    scored: tuple[str, ...]
    """Nodules that were scored."""
    scores: tuple[MeanScore, ...]
    """Means over nodules."""
    nodules: tuple[Score, ...]
    """Of single nodules against the mattes."""
    readers: tuple[ReaderScore, ...]
    """Of single nodules against the readers."""
    calibration: tuple[CalibrationBin, ...]
    """Bins of probability."""
    not_scored: tuple[NotScored, ...]
    """Nodules and files without a score."""

    def count(self, kind: str) -> int:
        """Return how many nodules or files were not scored for one kind of reason."""
        return sum(one.kind == kind for one in self.not_scored)


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """All mattes of a group against one truth over one region."""

    group: str
    truth: str
    """In words."""
    region: str
    """In words."""
    metrics: tuple[str, ...]
    rows: tuple[tuple[str, Mapping[str, tuple[int, MeanScore]]], ...]
    """By matte: for each metric its line in the CSV, the header being line 1, and the score."""


def render_scores(page: ScoresPage) -> dict[str, bytes]:
    """Return the page and every file beside it, by relative name; deterministic."""
    kinds = {
        "scores": MeanScore,
        "nodules": Score,
        "readers": ReaderScore,
        "calibration": CalibrationBin,
        "not_scored": NotScored,
    }
    tables = {FILES[name]: to_csv(kind, getattr(page, name)) for name, kind in kinds.items()}
    figure = draw_calibration(page.calibration)
    html = render_template(
        "scores.html",
        page=page,
        files=FILES,
        metrics=METRICS,
        groups=[(name, list(own)) for name, own in groupby(_tables(page.scores), _group_of)],
        calibration=figure and png(figure),
    )
    return {REPORT: html.encode(), **tables}


def write_scores_page(page: ScoresPage, folder: Path) -> None:
    """Write the page and its tables into a folder, each atomically, the page last."""
    files = render_scores(page)
    for name in (*sorted(files.keys() - {REPORT}), REPORT):
        write_output(folder / name, files[name])


def _group_of(table: ScoreTable) -> str:
    return table.group


def _tables(scores: Sequence[MeanScore]) -> Iterable[ScoreTable]:
    """Yield a table for each group, truth and region, in this order."""
    groups = list(dict.fromkeys(score.group for score in scores))

    def place(numbered: tuple[int, MeanScore]) -> tuple[int, int, int]:
        score = numbered[1]
        return (
            groups.index(score.group),
            list(_TRUTHS).index(score.truth),
            list(REGIONS).index(score.region),
        )

    for _, members in groupby(sorted(enumerate(scores, start=2), key=place), place):
        own = list(members)
        first = own[0][1]
        rows: dict[str, dict[str, tuple[int, MeanScore]]] = {}
        for line, score in own:
            rows.setdefault(score.matte, {})[score.metric] = (line, score)
        has = {score.metric for _, score in own}
        yield ScoreTable(
            first.group,
            _TRUTHS[first.truth],
            REGIONS[first.region],
            tuple(name for name in METRICS if name in has),
            tuple(rows.items()),
        )


def draw_calibration(bins: Sequence[CalibrationBin]) -> Figure | None:
    """Draw how often readers marked a voxel against the probability that a matte gave it.

    Args:
        bins: Of all mattes and regions; None is returned without any of the unknown region.
    """
    unknown = [one for one in bins if one.region == "unknown"]
    if not unknown:
        return None
    figure = Figure((4.6, 4.2), dpi=130, layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#666666", linewidth=1, linestyle="--")
    for matte in dict.fromkeys(one.matte for one in unknown):
        own = [one for one in unknown if one.matte == matte]
        axes.plot(
            [one.probability for one in own],
            [one.frequency for one in own],
            marker="o" if matte in _DRAWN else None,
            markersize=4,
            color=_DRAWN.get(matte, "#c4c4c4"),
            linewidth=1.8 if matte in _DRAWN else 0.8,
            zorder=3 if matte in _DRAWN else 1,
            label=matte if matte in _DRAWN else None,
        )
    axes.set_xlabel("alpha", fontsize=9)
    axes.set_ylabel("share of readers' marks", fontsize=9)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)
    return figure

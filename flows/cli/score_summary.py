"""What `halosign score` prints."""

from rich.table import Table

from flows.engine.console import console, count_of
from qc.evaluation.scores import METRICS, ScoresPage

_SHOWN = (("unknown", "sad"), ("unknown", "mse"), ("near", "grad"), ("near", "conn"))
_MOST_NAMES = 5


def show_predictions(page: ScoresPage) -> None:
    """Print the means of the prediction and of all mattes beside it, and what was not scored."""
    truth = "released"
    scored = count_of(len(page.scored), "nodule")
    table = Table(title=f"release {page.release}, {page.split}: {scored}")
    shown = [(truth, *column) for column in _SHOWN] + [("readers", "unknown", "brier")]
    for heading in ("", *(f"{METRICS[metric]}, {region}" for _, region, metric in shown)):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=not heading)
    means = {
        (row.matte, row.truth, row.region, row.metric): f"{row.mean:.4g}"
        for row in page.scores
        if row.group == "all"
    }
    for matte in dict.fromkeys(row.matte for row in page.scores):
        table.add_row(matte, *(means.get((matte, *column), "") for column in shown))
    console.print(table)
    console.print(f"{len(page.scored)} of {page.expected} nodules scored, raw units")
    for kind in dict.fromkeys(one.kind for one in page.not_scored):
        own = [one for one in page.not_scored if one.kind == kind]
        names = [one.nodule or one.file for one in own]
        more = f" and {len(own) - _MOST_NAMES} more" if len(own) > _MOST_NAMES else ""
        console.print(f"{kind}: {', '.join(names[:_MOST_NAMES])}{more}", markup=False)
        if kind in {"refused", "unknown nodule"}:
            for one in own[:_MOST_NAMES]:
                console.print(f"  {one.file}: {one.reason}", markup=False, soft_wrap=True)
    if page.without_geometry:
        console.print(
            f"{page.without_geometry} predictions state no geometry: only their shape was compared"
        )

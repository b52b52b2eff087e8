"""The page of the paper's experiments and all that lies beside it: one HTML file, its CSVs, pictures and videos.

The page is readable alone and offline: pictures are inside, and its content policy tells the browser to load nothing.
Its links lead to the files beside it, from which every number on it can be read again.
"""

import hashlib
from pathlib import Path
from types import SimpleNamespace

from qc.evaluation.diagnosis import diagnosis_csv
from qc.evaluation.page import EvaluationPage, Picture
from qc.evaluation.paper import NODULES, PATIENTS
from qc.evaluation.tables import PAPERS_PLACE, table_1, table_2, table_3
from qc.evaluation.tradeoff import HEADINGS, draw_tradeoff
from qc.figures.drawing import png
from qc.figures.templating import fill, replace_file
from storage.records import Cost
from storage.results.csv_rows import to_csv
from storage.results.experiments import Averages

REPORT = "report.html"
FILES = {
    "table_1": "table-1.csv",
    "table_2": "table-2.csv",
    "table_3": "table-3.csv",
    "diagnosis": "figure-6.csv",
    "study": "figure-3.csv",
}
"""The CSVs, by the field of the page that they hold."""
NAMES = {
    "table_1": "Table 1",
    "table_2": "Table 2",
    "table_3": "Table 3",
    "figure_9": "Figure 9",
    "diagnosis": "Figure 6",
    "readers": "Figure 1",
    "methods": "Figure 7",
    "network": "Figure 8",
    "videos": "videos",
    "study": "Figure 3",
}
"""The parts of the page, in its order but for Figure 9, which follows from Tables 2 and 3."""
REASONS = {
    "table_1": "nothing was measured. The command halosign evaluate measures the methods.",
    "table_2": "no network was trained on this release. With --train, halosign evaluate trains them.",
    "table_3": "costs were not measured. The command halosign evaluate measures them.",
    "figure_9": "it needs a network of Table 2 together with its costs in Table 3.",
    "diagnosis": "no classifier was trained. With --train, halosign evaluate trains them.",
    "readers": "no pictures were drawn. The command halosign evaluate --parts figures draws them.",
    "methods": "no pictures were drawn. The command halosign evaluate --parts figures draws them.",
    "network": "no network was trained on this release, or its outputs were not drawn.",
    "videos": "no videos were made. The command halosign evaluate --parts figures makes them.",
    "study": "the store holds no clinicians' study of this release with answers; halosign review study begins one.",
}
"""Why a part is not there, unless the page knows better."""


def render(page: EvaluationPage) -> dict[str, bytes]:
    """Make the page and every file beside it, by relative name; the same page gives the same bytes."""
    tradeoff = _tradeoff(page)
    missing = _missing(page, tradeoff)
    beside = _files(page, tradeoff)
    html = fill(
        "evaluation.html",
        page=page,
        missing=missing,
        names=NAMES,
        files=FILES,
        headings=list(HEADINGS.values()),
        paper={"nodules": NODULES, "patients": PATIENTS},
        tradeoff=tradeoff,
        tables=SimpleNamespace(
            one=table_1(page.table_1),
            two=table_2(page.table_2),
            three=table_3(page.table_3),
            six=[
                (line, row) for line, row in enumerate(page.diagnosis, start=2) if row.seed is None
            ],
        ),
        listing=[
            (name, len(data), hashlib.sha256(data).hexdigest())
            for name, data in sorted(beside.items())
        ],
    )
    return {REPORT: html.encode(), **beside}


def write_evaluation(page: EvaluationPage, folder: Path) -> None:
    """Write the page and its files into a folder, each whole or not at all, the page last."""
    files = render(page)
    for name in (*sorted(files.keys() - {REPORT}), REPORT):
        replace_file(folder / name, files[name])


def _missing(page: EvaluationPage, tradeoff: Picture | None) -> dict[str, str]:
    """Say of every part that is not there why."""
    present = {name: tradeoff if name == "figure_9" else getattr(page, name) for name in NAMES}
    return {
        name: page.missing.get(name, REASONS[name]) for name, part in present.items() if not part
    }


def _files(page: EvaluationPage, tradeoff: Picture | None) -> dict[str, bytes]:
    files = {
        FILES["table_1"]: to_csv(Averages, page.table_1) if page.table_1 else b"",
        FILES["table_2"]: to_csv(Averages, page.table_2) if page.table_2 else b"",
        FILES["table_3"]: to_csv(Cost, page.table_3) if page.table_3 else b"",
        FILES["diagnosis"]: diagnosis_csv(page.diagnosis) if page.diagnosis else b"",
        FILES["study"]: page.study.shares_csv if page.study else b"",
    }
    pictures = (
        *page.readers,
        page.methods,
        page.network,
        page.diagnosis_figure,
        page.study.figure if page.study else None,
        tradeoff,
    )
    files |= {picture.file: picture.data for picture in pictures if picture}
    for video in page.videos:
        files |= {video.file: video.gif, video.mp4_file: video.mp4 or b""}
    return {name: data for name, data in {**files, **page.attachments}.items() if data}


def _tradeoff(page: EvaluationPage) -> Picture | None:
    truth, region = PAPERS_PLACE
    rows = [row for row in page.table_2 if (row.truth, row.region) == (truth, region)]
    note = "reduced setting" if page.reduced else ""
    figure = draw_tradeoff(rows, page.table_3, synthetic=bool(page.data.synthetic), note=note)
    if figure is None:
        return None
    return Picture(
        file="pictures/figure-9.png",
        data=png(figure),
        alt=f"SAD, MSE, Grad and Conn against multiply-adds of {len(rows)} networks and of the paper's, a panel each.",
        caption="Table units, smaller is better, multiply-adds on a logarithmic scale; bars: standard deviation over"
        " partitions. From tables 2 and 3; the paper's points stand on other data.",
    )

"""Build the report of the experiments: one HTML file with its CSVs, pictures and videos beside it.

The page is self-contained: pictures are embedded and its content security policy loads nothing. It
links to the files beside it, which hold every number on the page.
"""

import hashlib
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace

from qc.evaluation.diagnosis import diagnosis_csv
from qc.evaluation.page import EvaluationPage, Picture
from qc.evaluation.paper import NODULES, PATIENTS
from qc.evaluation.tables import PAPER_COMPARISON, compared, table_1, table_2, table_3
from qc.evaluation.tradeoff import HEADINGS, draw_tradeoff
from qc.figures.drawing import png
from qc.figures.templating import render_template
from storage.output import write_output
from storage.records import Cost
from storage.results.csv_rows import to_csv
from storage.results.diagnoses import DiagnosisDifference
from storage.results.experiments import Averages, NetworkDifference
from storage.results.left_out import LeftOutRow

REPORT = "report.html"
FILES = {
    "left_out": "left-out.csv",
    "table_1": "table-1.csv",
    "table_2": "table-2.csv",
    "network_differences": "table-2-differences.csv",
    "table_3": "table-3.csv",
    "diagnosis": "figure-6.csv",
    "diagnosis_differences": "figure-6-differences.csv",
    "study": "figure-3.csv",
}
"""Names of the CSVs, by the field of the page that they hold."""
NAMES = {
    "left_out": "masks or mattes",
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
"""Titles of the page's parts. Figure 9 is derived from Tables 2 and 3."""
REASONS = {
    "left_out": "no reader was left out. Run halosign evaluate --parts readers.",
    "table_1": "the methods were not scored. Run halosign evaluate.",
    "table_2": "no network was trained on this release. Run halosign evaluate --train.",
    "table_3": "costs were not measured. Run halosign evaluate.",
    "figure_9": "it needs a network in Table 2 and its cost in Table 3.",
    "diagnosis": "no classifier was trained. Run halosign evaluate.",
    "readers": "not drawn. Run halosign evaluate --parts figures.",
    "methods": "not drawn. Run halosign evaluate --parts figures.",
    "network": "no network was trained on this release, or its outputs were not drawn.",
    "videos": "not made. Run halosign evaluate --parts figures.",
    "study": "there is no study of this release with verdicts. See halosign review study.",
}
"""Why a part is missing, unless the page gives another reason."""


def render(page: EvaluationPage) -> dict[str, bytes]:
    """Return the page and every file beside it, by relative name; deterministic."""
    tradeoff = _tradeoff(page)
    missing = _missing(page, tradeoff)
    beside = _files(page, tradeoff)
    html = render_template(
        "evaluation.html",
        page=page,
        missing=missing,
        names=NAMES,
        files=FILES,
        headings=list(HEADINGS.values()),
        paper={"nodules": NODULES, "patients": PATIENTS},
        tradeoff=tradeoff,
        tables=SimpleNamespace(
            left_out=[
                (group, list(members))
                for group, members in groupby(
                    enumerate(page.left_out, start=2), lambda numbered: numbered[1].group
                )
            ],
            one=table_1(page.table_1),
            two=table_2(page.table_2),
            compared=compared(page.network_differences),
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
    """Write the page and its files into a folder, each atomically, the page last."""
    files = render(page)
    for name in (*sorted(files.keys() - {REPORT}), REPORT):
        write_output(folder / name, files[name])


def _missing(page: EvaluationPage, tradeoff: Picture | None) -> dict[str, str]:
    """Return why each missing part is missing."""
    present = {name: tradeoff if name == "figure_9" else getattr(page, name) for name in NAMES}
    return {
        name: page.missing.get(name, REASONS[name]) for name, part in present.items() if not part
    }


def _files(page: EvaluationPage, tradeoff: Picture | None) -> dict[str, bytes]:
    files = {
        FILES["left_out"]: to_csv(LeftOutRow, page.left_out) if page.left_out else b"",
        FILES["table_1"]: to_csv(Averages, page.table_1) if page.table_1 else b"",
        FILES["table_2"]: to_csv(Averages, page.table_2) if page.table_2 else b"",
        FILES["network_differences"]: (
            to_csv(NetworkDifference, page.network_differences) if page.network_differences else b""
        ),
        FILES["table_3"]: to_csv(Cost, page.table_3) if page.table_3 else b"",
        FILES["diagnosis"]: diagnosis_csv(page.diagnosis) if page.diagnosis else b"",
        FILES["diagnosis_differences"]: (
            to_csv(DiagnosisDifference, page.diagnosis_differences)
            if page.diagnosis_differences
            else b""
        ),
        FILES["study"]: page.study.shares_csv if page.study else b"",
    }
    pictures = (
        *page.readers,
        page.left_out_figure,
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
    truth, region = PAPER_COMPARISON
    rows = [row for row in page.table_2 if (row.truth, row.region) == (truth, region)]
    note = "reduced setting" if page.reduced else ""
    figure = draw_tradeoff(rows, page.table_3, synthetic=bool(page.data.synthetic), note=note)
    if figure is None:
        return None
    return Picture(
        file="pictures/figure-9.png",
        data=png(figure),
        alt=f"SAD, MSE, Grad, Conn against multiply-adds: {len(rows)} networks and the paper's.",
        caption="Table units, lower is better; logarithmic multiply-adds; bars: standard deviation"
        " over partitions. From Tables 2 and 3; the paper's points were measured on other data.",
    )

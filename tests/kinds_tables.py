"""Kinds of tables and paths that people write: how to make them, and what is to happen."""

import unicodedata
from collections.abc import Callable
from pathlib import Path

from tests.kinds import write_files

Make = Callable[[Path], Path]
FILES = "r1.nii.gz;r2.nii.gz;r3.nii.gz;r4.nii.gz"
EACH = FILES.replace(";", ",")
USUAL = "nodule,patient,image,readers"


def _table(header: str, *rows: str, encoding: str = "utf-8", line_end: str = "\n") -> Make:
    def make(folder: Path) -> Path:
        table = write_files(folder)
        text = line_end.join([header, *rows, ""])
        table.write_text(text, encoding=encoding, newline="")
        return table

    return make


def _moved(stored: str, named: str) -> Make:
    """Write the CT under one name, and give the table another spelling of it."""

    def make(folder: Path) -> Path:
        table = write_files(folder)
        (folder / stored).parent.mkdir(exist_ok=True)
        (folder / "ct.nii.gz").rename(folder / stored)
        table.write_text(f"{USUAL}\nn1,p1,{named},{FILES}\n", encoding="utf-8")
        return table

    return make


READ = ""
ROW = f"n1,p1,ct.nii.gz,{FILES}"
ACCENT = "Müller ct.nii.gz"
KINDS: list[tuple[str, Make, str]] = [
    ("69 semicolons", _table("nodule;patient;image;readers", f'n1;p1;ct.nii.gz;"{FILES}"'), READ),
    ("69 tabs", _table(USUAL.replace(",", "\t"), ROW.replace(",", "\t")), READ),
    ("69 rows with commas at their end", _table(USUAL, ROW + ",,"), READ),
    ("69 header with commas at its end", _table(USUAL + ",,", ROW + ",,"), READ),
    ("69 empty rows at the end", _table(USUAL, ROW, ",,,", ",,,"), READ),
    ("69 index of pandas", _table("," + USUAL, "0," + ROW), READ),
    ("69 spaces and capitals", _table(" Nodule, PATIENT ,Image, readers", ROW), READ),
    (
        "69 a column a reader",
        _table("nodule,patient,image,reader1,reader2,reader3,reader4", f"n1,p1,ct.nii.gz,{EACH}"),
        READ,
    ),
    ("69 readers by commas", _table(USUAL, f'n1,p1,ct.nii.gz,"{EACH}"'), READ),
    ("69 number of readers 4.0", _table(USUAL + ",n_readers", ROW + ",4.0"), READ),
    ("69 number of readers in words", _table(USUAL + ",n_readers", ROW + ",four"), "n_readers"),
    ("69 with BOM", _table(USUAL, ROW, encoding="utf-8-sig"), READ),
    ("69 UTF-16", _table(USUAL, ROW, encoding="utf-16"), READ),
    ("69 ends of lines of Windows", _table(USUAL, ROW, line_end="\r\n"), READ),
    (
        "69 Latin-1",
        _table(USUAL, ROW, "n2,M\xfcller,ct.nii.gz,x", encoding="latin-1"),
        "line 3 that is not UTF-8",
    ),
    ("69 a workbook", _table("PK\x03\x04"), "an Excel workbook"),
    ("69 a column is missing", _table("nodule,patient,image", "n1,p1,ct.nii.gz"), "readers"),
    (
        "69 a nodule twice",
        _table(USUAL, ROW, ROW),
        "nodule names come twice: got the same name in rows 1 and 2",
    ),
    (
        "69 patients that differ by case",
        _table(USUAL, ROW, ROW.replace("n1,p1", "n2,P1")),
        "differ by their spelling only",
    ),
    ("69 no rows", _table(USUAL), "no nodule|empty|no row"),
    ("69 a cell without name", _table(USUAL + ",", ROW + ",benign"), "without a name"),
    ("70 accents", _moved(ACCENT, ACCENT), READ),
    (
        "70 accents apart from their letters",
        _moved(unicodedata.normalize("NFD", ACCENT), unicodedata.normalize("NFC", ACCENT)),
        READ,
    ),
    ("70 backslashes", _moved("sub/ct.nii.gz", ".\\sub\\ct.nii.gz"), READ),
    ("70 a drive", _table(USUAL, f"n1,p1,C:\\data\\ct.nii.gz,{FILES}"), "Windows with a drive"),
    ("70 a file that is not there", _table(USUAL, f"n1,p1,lost.nii.gz,{FILES}"), "is not there"),
]

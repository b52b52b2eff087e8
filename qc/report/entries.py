"""Draw the nodules of a report one by one, in any process and in any order."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from matting.targets import Target
from qc.figures.templating import render_template
from qc.report.errors import NoduleErrors
from qc.report.nodules import glossary, nodule_errors, nodule_section
from qc.report.page import NodulePage, NoduleSection
from storage.cases.case import Case, read_case, read_case_files
from storage.errors import CorruptionError, NotFoundError
from storage.output import write_output
from storage.store import open_store

Pictures = Literal["inside", "linked", "none"]
"""Where the nodules' pictures are: in the report, on a page for each nodule, or nowhere."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A nodule that a report is to show."""

    nodule_id: str
    digest: str
    seconds: Mapping[str, float]
    """Wall time of each stage; empty where it is not known."""
    pick: str | None
    """The chosen method, or what else was decided."""


@dataclass(frozen=True, slots=True)
class DrawnEntry:
    """What a report shows of a nodule."""

    nodule_id: str
    section: NoduleSection | None
    """None where the case cannot be read."""
    errors: NoduleErrors | None
    """Against the known alpha."""
    stored_bytes: int
    """Size of the case."""
    complaint: str = ""
    """Why the case cannot be read."""


@dataclass(frozen=True, slots=True)
class EntryDrawer:
    """Draws the nodules of one report; sent to other processes."""

    store_url: str
    target: Target
    """The question by which the methods are ranked."""
    pictures: Pictures
    report: Path
    """The report's file."""

    @property
    def folder(self) -> Path:
        """Where the nodules' own pages are written."""
        return self.report.with_name(f"{self.report.name}.d")

    def __call__(self, entry: Entry) -> DrawnEntry:
        """Draw a nodule, and write its page where it has one of its own.

        A case that cannot be read costs only itself.
        """
        try:
            return self._draw(entry)
        except (CorruptionError, NotFoundError) as error:
            complaint = f"The case cannot be read: {error}"
            return DrawnEntry(entry.nodule_id, None, None, 0, complaint)

    def _draw(self, entry: Entry) -> DrawnEntry:
        store = open_store(self.store_url)
        case = _open_case(read_case(store, entry.nodule_id, entry.digest))
        files = read_case_files(store, case.nodule_id, case.digest).values()
        linked = self.pictures == "linked"
        section = nodule_section(
            case,
            entry.seconds,
            entry.pick,
            self.target,
            pictures=self.pictures != "none",
            page=f"{quote(self.folder.name)}/{_page_name(entry)}" if linked else None,
        )
        if linked:
            self._write_page(_page_name(entry), section)
            section = replace(section, anatomy_uri=None, mattes_uri=None)
        return DrawnEntry(
            entry.nodule_id,
            section,
            nodule_errors(case, entry.pick),
            sum(file.size_bytes for file in files),
        )

    def _write_page(self, name: str, section: NoduleSection) -> None:
        page = NodulePage(
            title=section.id,
            report=quote(self.report.name),
            nodule=section,
            target=self.target,
            glossary=glossary([section]),
        )
        html = render_template("nodule_page.html", page=page)
        write_output(self.folder / name, html.encode())


def _page_name(entry: Entry) -> str:
    return f"{entry.nodule_id}.html"


def _open_case(case: Case) -> Case:
    if not case.methods:
        raise CorruptionError(
            f"case {case.nodule_id}/{case.digest} names no methods. Recompute it."
        )
    return case

"""The queue: which nodules a reviewer sees, in which order, and what comes next."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal
from urllib.parse import urlencode

from pydantic import BaseModel, ConfigDict, Field

from qc.review.catalogue import CatalogueEntry
from storage.reviews.consensus import Consensus

Show = Literal["todo", "undecided", "decided", "disputed", "tied", "flagged", "stale", "all"]
Sort = Literal["id", "largest", "smallest", "readers", "mattes"]
SHOW_WORDS: Mapping[Show, str] = {
    "todo": "not decided by me",
    "undecided": "undecided",
    "decided": "decided",
    "disputed": "disputed",
    "tied": "with tied mattes",
    "flagged": "flagged",
    "stale": "decided on an earlier case",
    "all": "all",
}
SORT_WORDS: Mapping[Sort, str] = {
    "id": "nodule id",
    "largest": "largest first",
    "smallest": "smallest first",
    "readers": "largest reader disagreement",
    "mattes": "largest difference of mattes",
}


class Query(BaseModel):
    """Filters and sort order, as given in a page's address."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    show: Show = "todo"
    patient: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9._-]*$")] = ""
    min_mm: Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)] = 0.0
    max_mm: Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)] = 1000.0
    sort: Sort = "id"
    blind: bool = False

    @property
    def address(self) -> str:
        """The query part of the page's address; empty for the defaults."""
        given = self.model_dump(mode="json", exclude_defaults=True)
        if not given:
            return ""
        return "?" + urlencode({name: "1" if v is True else v for name, v in given.items()})


@dataclass(frozen=True, slots=True)
class Row:
    """One nodule of the queue."""

    entry: CatalogueEntry
    consensus: Consensus
    mine: str | None
    """What the reviewer chose for this case."""
    warnings: tuple[str, ...]
    """Why it needs a second look."""

    @property
    def is_settled_by_people(self) -> bool:
        """Whether a person's verdict counts, not an automatic pick."""
        decision = self.consensus.verdict
        return decision is not None and not decision.automatic

    @property
    def state(self) -> str:
        """Open, disputed, automatic or decided."""
        if self.consensus.verdict is None:
            return "disputed" if self.consensus.is_disputed else "open"
        return "automatic" if self.consensus.verdict.automatic else "decided"


def make_row(
    entry: CatalogueEntry, consensus: Consensus, reviewer: str, notes: Sequence[str] = ()
) -> Row:
    """Build a row from a nodule's verdicts, as its reviewer sees them.

    Args:
        entry: The case.
        consensus: Of the verdicts on it.
        reviewer: Who looks at it.
        notes: What else to know of it, e.g. that its source is not reachable.
    """
    mine = consensus.verdict_of(reviewer)
    warnings = (*_warnings(entry, consensus), *notes)
    return Row(entry, consensus, mine.choice if mine else None, warnings)


def select(rows: Sequence[Row], query: Query) -> list[Row]:
    """Return the rows that pass the filters, sorted."""
    return [row for row in in_order(rows, query) if matches(row, query)]


def in_order(rows: Sequence[Row], query: Query) -> list[Row]:
    """Return the rows sorted as asked; ties by nodule id."""
    orders: dict[Sort, Callable[[Row], float]] = {
        "id": lambda _: 0.0,
        "largest": lambda row: -row.entry.size_mm,
        "smallest": lambda row: row.entry.size_mm,
        "readers": lambda row: -row.entry.reader_disagreement,
        "mattes": lambda row: -row.entry.matte_difference,
    }
    return sorted(rows, key=lambda row: (orders[query.sort](row), row.entry.nodule_id))


def matches(row: Row, query: Query) -> bool:
    """Return whether a nodule passes the filters."""
    entry = row.entry
    consensus = row.consensus
    by_person = row.is_settled_by_people
    shown: dict[Show, bool] = {
        "todo": not by_person and row.mine is None,
        "undecided": not by_person,
        "decided": by_person,
        "disputed": consensus.is_disputed,
        "tied": bool(entry.tied),
        "flagged": bool(row.warnings),
        "stale": bool(consensus.stale),
        "all": True,
    }
    near = query.min_mm <= entry.size_mm <= query.max_mm
    return shown[query.show] and near and query.patient.lower() in entry.patient.lower()


def neighbours(rows: Sequence[Row], query: Query, nodule_id: str) -> tuple[str | None, str | None]:
    """Return the ids before and after a nodule in the queue.

    It need not pass the filters itself.
    """
    ids = [
        row.entry.nodule_id
        for row in in_order(rows, query)
        if row.entry.nodule_id == nodule_id or matches(row, query)
    ]
    if nodule_id not in ids:
        return None, ids[0] if ids else None
    index = ids.index(nodule_id)
    before = ids[index - 1] if index else None
    after = ids[index + 1] if index + 1 < len(ids) else None
    return before, after


def _warnings(entry: CatalogueEntry, consensus: Consensus) -> list[str]:
    found = [
        f"{flag.reviewer} wants a second look" + (f": {flag.note}" if flag.note else "")
        for flag in consensus.flags
    ]
    found += [f"{method} gave no matte" for method in entry.missing]
    found += [f"{one.reviewer} decided an earlier case" for one in consensus.stale]
    return found
